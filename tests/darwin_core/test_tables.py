import csv
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray.darwin_core import tables, unpack
from aitax_ray.darwin_core.archive import open_archive
from aitax_ray.darwin_core.rewrite import RECORD, UNIT
from aitax_ray.darwin_core.tables import BLANKS
from tests.archives import Files, Part, publisher_files, read_media
from tests.gbif_download import (
    MEDIA_TERMS,
    archive_files,
    meta_xml,
    occurrence,
    photo,
    table_text,
    write_zip,
)

OCCURRENCES = [occurrence("1"), occurrence("2", "12", countryCode="NA")]
MEDIA = [photo("1", "http://x.org/1.jpg", title="a frog"), photo("2 ", "http://x.org/2.jpg")]
READ = [(0, "1", "a frog"), (1, "2", "")]


def titles(path: Path) -> list[tuple[int, str, str]]:
    return read_media(path, "title")


def titles_of(tmp_path: Path, files: Files) -> list[tuple[int, str, str]]:
    return titles(write_zip(tmp_path / "a.zip", files))


def test_columns_come_by_name_and_missing_ones_are_empty(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))
    terms = {"country": ("countryCode",), "key": ("speciesKey",), "none": ("noSuchTerm",), "nothing": ()}
    with open_archive(path) as archive:
        found = pl.read_parquet(archive.read(archive.core, terms))
    assert found.columns == ["row", "core_id", "country", "key", "none", "nothing", "is_malformed"]
    found = found.drop("is_malformed")
    assert found.rows() == [(0, "1", "", "11", "", ""), (1, "2", "NA", "12", "", "")]
    assert read_media(path, "identifier") == [(0, "1", "http://x.org/1.jpg"), (1, "2", "http://x.org/2.jpg")]


def test_rows_are_counted_on_from_the_first_row_that_is_given(tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))) as archive:
        found = pl.read_parquet(archive.read(archive.media[0], {}, first_row=7))
    assert found["row"].to_list() == [7, 8]


def test_of_several_terms_the_first_that_has_more_than_blanks_wins(tmp_path: Path) -> None:
    media = [
        photo("1", "u", title=" ", description="d"),
        photo("1", "u", title="t", description="d"),
        photo("1", "u", title="", description=" "),
    ]
    with open_archive(write_zip(tmp_path / "a.zip", archive_files([], media))) as archive:
        found = pl.read_parquet(archive.read(archive.media[0], {"text": ("noSuchTerm", "title", "description")}))
    assert found["text"].to_list() == ["d", "t", ""]


@pytest.mark.parametrize("quote", ["", "&quot;"])
@pytest.mark.parametrize("header_lines", [0, 1, 3])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_headers_line_ends_and_byte_order_marks_leave_no_trace(
    tmp_path: Path, end: str, mark: str, header_lines: int, quote: str
) -> None:
    media = [photo("1", "u", title="a frog", rightsHolder="last"), photo("2", "u", rightsHolder="")]
    if quote:
        media = [{term: f'"{text}"' for term, text in row.items()} for row in media]
    text = mark + f'a "header{end}' * header_lines + table_text(MEDIA_TERMS, media, header=False, end=end)
    meta = meta_xml(header_lines=header_lines, quote=quote)
    meta = meta.replace('linesTerminatedBy="\\n"', f'linesTerminatedBy="{end!r}"'.replace("'", ""))
    path = write_zip(tmp_path / "a.zip", archive_files([], [], meta__xml=meta, multimedia__txt=text))
    assert read_media(path, "title", "rightsHolder") == [(0, "1", "a frog", "last"), (1, "2", "", "")]


@pytest.mark.parametrize("quote", ["", "&quot;"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_with_nothing_in_them_are_no_rows_of_media(tmp_path: Path, end: str, quote: str) -> None:
    text = table_text(MEDIA_TERMS, MEDIA, end=end).replace(f"{end}2 ", f"{end}{end}\t\t\t{end}2 ")
    files = archive_files([], [], meta__xml=meta_xml(quote=quote), multimedia__txt=text + end + "\t" * 14 + end)
    assert titles_of(tmp_path, files) == READ


def test_a_last_line_needs_no_end(tmp_path: Path) -> None:
    text = table_text(MEDIA_TERMS, MEDIA).removesuffix("\n")
    assert titles_of(tmp_path, archive_files([], [], multimedia__txt=text)) == READ


@pytest.mark.parametrize("encoding", ["UTF-8", "windows-1252"])
def test_stray_quotes_short_and_long_rows_lose_nothing(tmp_path: Path, encoding: str) -> None:
    text = table_text(MEDIA_TERMS, [photo(str(i), "u", title='"the one that got away') for i in range(5)])
    text = text.replace("gbifID", '"gbifID') + '5\tStillImage\n\n6\t\t\t\t\t"t' + "\t" * 20 + "x\n\n"
    meta = meta_xml().replace("UTF-8", encoding)
    found = titles_of(tmp_path, archive_files([], [], meta__xml=meta, multimedia__txt=text))
    assert found == [(i, str(i), '"the one that got away') for i in range(5)] + [(5, "5", ""), (6, "6", '"t')]


def test_a_column_too_many_in_every_row_is_left_unread(tmp_path: Path) -> None:
    text = table_text([*MEDIA_TERMS, "new"], [row | {"new": "x"} for row in MEDIA])
    assert titles_of(tmp_path, archive_files([], [], multimedia__txt=text)) == READ


def test_zeros_within_a_text_stay_and_those_around_it_go(tmp_path: Path) -> None:
    found = titles_of(tmp_path, archive_files([], [photo("1\0", "u", title="\0a\0b\0"), photo("2", "u")]))
    assert found == [(0, "1", "a\0b"), (1, "2", "")]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize(("quote", "escaped"), [('"', "&quot;"), ("'", "'")])
def test_quoting_and_delimiters_are_honoured_where_declared(
    tmp_path: Path, delimiter: str, quote: str, escaped: str
) -> None:
    media = [photo("1", f"{quote}u{quote}", title=f"{quote}a{delimiter} {quote * 2}b{quote * 2}\nc{quote}")]
    files = archive_files(
        [],
        [],
        meta__xml=meta_xml(delimiter=delimiter, quote=escaped),
        multimedia__txt=table_text(MEDIA_TERMS, media, delimiter=delimiter),
    )
    assert titles_of(tmp_path, files) == [(0, "1", f"a{delimiter} {quote}b{quote}\nc")]


@pytest.mark.parametrize("delimiter", ["\t", "&#9;", "\\t"])
def test_a_tab_may_be_written_literally(tmp_path: Path, delimiter: str) -> None:
    assert titles_of(tmp_path, archive_files(OCCURRENCES, MEDIA, meta__xml=meta_xml(delimiter=delimiter))) == READ


@pytest.mark.parametrize("encoding", ["windows-1252", "ISO-8859-1", "UTF-16", "UTF-16LE", "utf8", ""])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = table_text(MEDIA_TERMS, [photo("1", "u", title="Ménétriés")])
    meta = meta_xml().replace("UTF-8", encoding)
    files = archive_files([], [], meta__xml=meta, multimedia__txt=text.encode(encoding or "utf-8"))
    assert titles_of(tmp_path, files) == [(0, "1", "Ménétriés")]


@pytest.mark.parametrize("quote", ["", "&quot;"])
def test_bytes_that_are_no_utf8_are_windows_1252_with_a_warning(
    tmp_path: Path, quote: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = table_text(MEDIA_TERMS, [photo("1", "u", title="Ménétriés"), photo("2", "u", title="b")])
    mixed = text.encode("windows-1252") + table_text(MEDIA_TERMS, [photo("3", "u", title="Łódź\ufffd")], False).encode()
    files = archive_files([], [], meta__xml=meta_xml(quote=quote), multimedia__txt=mixed)
    assert titles_of(tmp_path, files) == [(0, "1", "Ménétriés"), (1, "2", "b"), (2, "3", "Łódź\ufffd")]
    assert "multimedia.txt is declared as utf-8, but 1 lines have other bytes" in caplog.text


def test_a_character_that_the_publisher_lost_is_no_foreign_byte(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = archive_files([], [photo("1", "u", title="M\ufffdn\ufffdtri\ufffds")])
    assert titles_of(tmp_path, files) == [(0, "1", "M\ufffdn\ufffdtri\ufffds")]
    assert caplog.text == ""


@pytest.mark.parametrize("quote", ["", "&quot;"])
def test_utf16_that_is_declared_as_utf8_is_known_by_its_mark(tmp_path: Path, quote: str) -> None:
    text = table_text(MEDIA_TERMS, [photo("1", "u", title="Ménétriés")]).encode("utf-16")
    files = archive_files([], [], meta__xml=meta_xml(quote=quote), multimedia__txt=text)
    assert titles_of(tmp_path, files) == [(0, "1", "Ménétriés")]


@pytest.mark.parametrize("piece", [1, 100, 3000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_read_in_pieces_is_the_one_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, end: str
) -> None:
    rows = [photo(str(n), f"http://x.org/{n}.jpg", title="é" * (n % 7)) for n in range(50)]
    files = archive_files([], [], multimedia__txt=table_text(MEDIA_TERMS, rows, end=end).removesuffix(end))
    at_once = titles_of(tmp_path, files)
    monkeypatch.setattr(tables, "PIECE", piece)
    monkeypatch.setattr(unpack, "CHUNK", 7)
    assert titles_of(tmp_path, files) == at_once == [(n, str(n), "é" * (n % 7)) for n in range(50)]


PUBLISHED = [{"gbifID": str(number), "title": "a frog", "rightsHolder": "Ann"} for number in range(1, 6)]


def malformed(tmp_path: Path, text: str, quote: str = "", delimiter: str = "\t") -> list[str]:
    """The core_id of the rows that fit in no way, in a publisher's archive, whose core has no gbifID."""
    media = Part("multimedia", " ".join(["", *MEDIA_TERMS[1:]]).strip(), delimiter=delimiter, quote=quote)
    files = publisher_files(Part("occurrence", "scientificName", rows=["1"]), media) | {media.file: text.encode()}
    with open_archive(write_zip(tmp_path / "b.zip", files)) as archive:
        rows = pl.read_parquet(archive.read(archive.media[0], {"title": ("title",)}))
    return list(rows.filter("is_malformed")["core_id"])


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_row_with_a_delimiter_too_many_is_malformed_and_said(
    tmp_path: Path, quote: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = table_text(MEDIA_TERMS, PUBLISHED).replace("3\t", "3\tone\tmore\t")
    assert malformed(tmp_path, text, quote) == ["3"]
    assert "1 rows have more or fewer columns than the table" in caplog.text


def test_defaults_of_meta_xml_fill_what_is_empty(tmp_path: Path) -> None:
    meta = meta_xml().replace('term="http://x.org/terms/title"', 'term="http://x.org/terms/title" default=" untitled"')
    found = titles_of(tmp_path, archive_files([], [*MEDIA, photo("3", "u", title=" ")], meta__xml=meta))
    assert found == [(0, "1", "a frog"), (1, "2", "untitled"), (2, "3", "untitled")]


def test_a_default_needs_no_column(tmp_path: Path) -> None:
    media = Part("multimedia", "id identifier", [("1", "u")], defaults={"license": "CC & BY"})
    path = write_zip(tmp_path / "a.zip", publisher_files(Part("occurrence", "id"), media))
    assert read_media(path, "license") == [(0, "1", "CC & BY")]


def test_a_table_may_be_in_several_files(tmp_path: Path) -> None:
    more = "<location>multimedia.txt</location><location>more.txt</location>"
    meta = meta_xml().replace("<location>multimedia.txt</location>", more)
    text = table_text(MEDIA_TERMS, [photo("3", "u", title="c")])
    files = archive_files(OCCURRENCES, MEDIA, meta__xml=meta) | {"more.txt": text}
    assert titles_of(tmp_path, files) == [*READ, (2, "3", "c")]


def test_occurrences_without_id_are_left_out_of_the_core(tmp_path: Path) -> None:
    files = archive_files([occurrence("1"), occurrence(" "), occurrence("2")], MEDIA)
    with open_archive(write_zip(tmp_path / "a.zip", files)) as archive:
        assert pl.read_parquet(archive.read(archive.core, {}))["core_id"].to_list() == ["1", "2"]


# Text with what makes readers stumble more often than chance would have it.
AWKWARD = st.sampled_from(list("\"'\\,;|\t \r\n#\0\x1c\x1e\x1f\x85\u00a0\u2028\ufeff�é🐸aNA"))
TEXT = st.text(st.one_of(AWKWARD, st.characters(exclude_categories=["Cs"])), max_size=12)
HYPOTHESIS = settings(max_examples=120)


def read_table(meta: str, text: str | bytes, *terms: str) -> list[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        path = write_zip(Path(folder, "a.zip"), archive_files([], [], meta__xml=meta, multimedia__txt=text))
        return [row[1:] for row in read_media(path, *terms)]


@HYPOTHESIS
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), max_size=6),
    delimiter=st.sampled_from("\t,;|"),
    quote=st.sampled_from("\"'"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    header_lines=st.integers(0, 2),
    mark=st.sampled_from(["", "\ufeff"]),
    encoding=st.sampled_from(["UTF-8", "UTF-16LE"]),
)
def test_whatever_is_in_a_quoted_table_comes_back(
    rows: list[tuple[str, str]],
    delimiter: str,
    quote: str,
    end: str,
    quoting: int,
    header_lines: int,
    mark: str,
    encoding: str,
) -> None:
    text = io.StringIO()
    text.write(mark + f"the header{end}" * header_lines)
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote, lineterminator=end, quoting=quoting)
    for number, (title, description) in enumerate(rows):
        full = {"gbifID": str(number), "title": title, "description": description, "rightsHolder": title}
        writer.writerow([full.get(term, "") for term in MEDIA_TERMS])
    meta = meta_xml(header_lines, delimiter=delimiter, quote="&quot;" if quote == '"' else quote)
    meta = meta.replace("UTF-8", encoding)
    found = read_table(meta, text.getvalue().encode(encoding), "title", "description", "rightsHolder")

    def cleaned(given: str) -> str:
        return given.replace(UNIT, " ").replace(RECORD, " ").strip(BLANKS)

    assert found == [(str(i), cleaned(a), cleaned(b), cleaned(a)) for i, (a, b) in enumerate(rows)]


@HYPOTHESIS
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), max_size=6),
    delimiter=st.sampled_from("\t,;|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["UTF-8", "UTF-16LE"]),
)
def test_whatever_is_in_an_unquoted_table_comes_back_stray_quotes_and_all(
    rows: list[tuple[str, str]], delimiter: str, end: str, encoding: str
) -> None:
    # What a table without quotes cannot hold, and what the way through the rewriter takes for its own.
    impossible = str.maketrans(dict.fromkeys([delimiter, "\r", "\n", UNIT, RECORD], "_"))
    rows = [(a.translate(impossible), b.translate(impossible)) for a, b in rows]
    table = [{"gbifID": str(i), "title": a, "description": b, "rightsHolder": b} for i, (a, b) in enumerate(rows)]
    text = table_text(MEDIA_TERMS, table, delimiter=delimiter, end=end)
    meta = meta_xml(delimiter=delimiter).replace("UTF-8", encoding)
    found = read_table(meta, text.encode(encoding), "title", "description", "rightsHolder")
    assert found == [(str(i), a.strip(BLANKS), b.strip(BLANKS), b.strip(BLANKS)) for i, (a, b) in enumerate(rows)]


def test_capitals_of_the_names_in_meta_xml_do_not_matter(tmp_path: Path) -> None:
    files = archive_files([], MEDIA)
    files["META.XML"] = files.pop("meta.xml").replace("multimedia.txt", "Multimedia.TXT")
    assert titles_of(tmp_path, files) == READ
