import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray.darwin_core.descriptor import parse_meta
from aitax_ray.darwin_core.rewrite import RECORD, UNIT, rewrite
from tests.gbif_download import meta_xml

TABLE = parse_meta(meta_xml(header_lines=0, delimiter=",", quote="&quot;").encode(), "x").core


def rewritten(tmp_path: Path, text: str | bytes, **options: object) -> list[list[str]]:
    """The rows of a text, taken apart again at our own separators."""
    return [row[1:] for row in flagged(tmp_path, text, **options)]


def flagged(tmp_path: Path, text: str | bytes, **options: object) -> list[list[str]]:
    """The same, each behind MALFORMED or ""."""
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    table = dataclasses.replace(TABLE, **options)  # type: ignore[arg-type]
    found = rewrite(path, table, tmp_path).read_bytes().decode()
    assert found.endswith(RECORD) or not found
    return [row.split(UNIT) for row in found.split(RECORD)[:-1]]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('1,"a, ""b"""\n', [["1", 'a, "b"']]),
        ('1,5" long\n2,"x" y\n3,z\n', [["1", '5" long'], ["2", '"x" y'], ["3", "z"]]),
        ('1,"two\nlines"\n2,\n', [["1", "two\nlines"], ["2", ""]]),
        ('1,"two\r\nlines"\r\n2,b\r\n', [["1", "two\r\nlines"], ["2", "b"]]),
        ("1,one\rline\n2,b", [["1", "one\rline"], ["2", "b"]]),
        ('1,"one\rline"\n', [["1", "one\rline"]]),
        ("1,a\n\n\r\n2,b\n\r", [["1", "a"], ["2", "b"]]),
        ("1\n2,b,c\n", [["1"], ["2", "b", "c"]]),
        ("1,a\x1fb\x1ec\n", [["1", "a b c"]]),
        ("\ufeff\"1\",'a'\n", [["1", "'a'"]]),
        ("1,\u2028a\u0085\x1c\x0b\x0c\0b\n", [["1", "\u2028a\u0085\x1c\x0b\x0c\0b"]]),
        ('1,"never closed\n2,b\n', [["1", '"never closed'], ["2", "b"]]),
        ('1,"never closed\n2,"b"\n3,c\n', [["1", '"never closed'], ["2", "b"], ["3", "c"]]),
        ('a,b,c\n1,"never, closed\n2,"b",c\n', [["a", "b", "c"], ["1", '"never', " closed"], ["2", "b", "c"]]),
        ('1,"two\n\nlines",c\n2,b,c\n', [["1", "two\n\nlines", "c"], ["2", "b", "c"]]),
        ("", []),
    ],
)
def test_rows_are_what_the_text_says(tmp_path: Path, text: str, rows: list[list[str]]) -> None:
    assert rewritten(tmp_path, text) == rows


@given(
    fields=st.lists(st.lists(st.text('a,"\n ', max_size=6), min_size=3, max_size=3), min_size=2, max_size=12),
    stray=st.integers(0, 11),
)
@settings(max_examples=60)
def test_a_quote_that_does_not_close_damages_its_own_row_only(fields: list[list[str]], stray: int) -> None:
    # A first field that no text can be taken for tells the rows apart.
    rows = [[f"row{i}", *row] for i, row in enumerate([["x", "y", "z"], *fields])]
    lines = ["".join(",".join('"' + field.replace('"', '""') + '"' for field in row) + "\n") for row in rows]
    place = 1 + stray % len(fields)
    lines[place] = f'row{place},a,b,"open\n'
    with tempfile.TemporaryDirectory() as folder:
        found = {row[0]: row for row in rewritten(Path(folder), "".join(lines))}
    assert found[f"row{place}"] == [f"row{place}", "a", "b", '"open']
    assert [found[row[0]] for row in rows if row[0] != f"row{place}"] == [r for r in rows if r[0] != f"row{place}"]


def test_a_row_of_endless_lines_is_a_stray_quote(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = '0,"open\n' + "".join(f"{i},x\n" for i in range(1, 2000))
    assert [row[0] for row in rewritten(tmp_path, text)] == [str(i) for i in range(2000)]
    assert "has 1 rows with a quote that does not close" in caplog.text


def test_without_quotes_a_quote_is_a_character(tmp_path: Path) -> None:
    assert rewritten(tmp_path, '1,"a\n"2",b"\n', quote="") == [["1", '"a'], ['"2"', 'b"']]


def test_headers_are_lines_whatever_is_in_them(tmp_path: Path) -> None:
    assert rewritten(tmp_path, '\ufeffid,"name\nsecond,"line\n1,a\n', header_lines=2) == [["1", "a"]]
    assert rewritten(tmp_path, "id,name\n", header_lines=2) == []


def test_returns_end_lines_where_they_are_declared(tmp_path: Path) -> None:
    assert rewritten(tmp_path, 'id\r1,"a\rb"\r\r2,c', line_end="\r", header_lines=1) == [["1", "a\rb"], ["2", "c"]]


def test_bytes_that_are_none_of_the_encoding_lose_nothing_else(tmp_path: Path) -> None:
    assert rewritten(tmp_path, "1,é\n2,b\n".encode("latin-1")) == [["1", "é"], ["2", "b"]]
    assert rewritten(tmp_path, "1,é\n".encode("latin-1"), encoding="latin-1") == [["1", "é"]]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("utf-8", "utf-16"),
        ("utf-16", "utf-8"),
        ("utf-32", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-8", "utf-16-le"),
        ("utf-8", "utf-16-be"),
        ("latin-1", "utf-8"),
        ("windows-1252", "utf-8"),
        ("ISO-8859-15", "utf-8"),
        ("latin-1", "windows-1252"),
        ("ISO-8859-15", "ISO-8859-15"),
    ],
)
def test_an_encoding_that_the_bytes_show_outranks_the_declared_one(
    tmp_path: Path, declared: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = "1,Isoëtes\n2,€\n"
    assert rewritten(tmp_path, text.encode(encoding), encoding=declared) == [["1", "Isoëtes"], ["2", "€"]]
    is_as_declared = declared == encoding or encoding == "windows-1252"
    assert ("but it is in utf-" in caplog.text) is not is_as_declared


@pytest.mark.parametrize("encoding", ["utf-7", "unicode_escape", "raw_unicode_escape"])
def test_half_characters_become_question_marks(tmp_path: Path, encoding: str) -> None:
    assert rewritten(tmp_path, r"1,\ud800 +2AA-" + "\n", encoding=encoding)[0][0] == "1"


def test_lines_may_end_in_returns_where_line_feeds_are_declared(tmp_path: Path) -> None:
    assert rewritten(tmp_path, "id,t\r1,a\r2,b\r", header_lines=1) == [["1", "a"], ["2", "b"]]


def test_fields_may_be_longer_than_pythons_limit(tmp_path: Path) -> None:
    assert rewritten(tmp_path, "1," + "x" * 200_000 + "\n") == [["1", "x" * 200_000]]


FILLED = ["x"] * (TABLE.width - 2)


def text_of(rows: list[list[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in rows)


def test_short_rows_part_no_row_of_several_lines(tmp_path: Path) -> None:
    rows = [["1", "short"], ["2", '"two\nlines"', *FILLED], ["3", '"two\nlines"', "short"]]
    read = [["1", "short"], ["2", "two\nlines", *FILLED], ["3", "two\nlines", "short"]]
    assert rewritten(tmp_path, text_of(rows)) == read


@pytest.mark.parametrize("closing", ['a frog of 5"', '", and so on"'])
def test_a_quote_that_happens_to_close_rows_later_swallows_none(tmp_path: Path, closing: str) -> None:
    titles = ["a", '"unclosed', "b", closing, "c"]
    found = rewritten(tmp_path, text_of([[str(i), title, *FILLED] for i, title in enumerate(titles)]))
    assert [row[0] for row in found] == ["0", "1", "2", "3", "4"]
    assert found[1][:2] == ["1", '"unclosed']


def test_the_warning_names_the_table_as_the_archive_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rewritten(tmp_path, '1,"unclosed\n2,b\n')
    assert caplog.messages == ["occurrence.txt has 1 rows with a quote that does not close"]
