import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray.darwin_core.quoted import Row, RowReader

READER = RowReader(",", '"', usual=4, most=4)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("1,b,c,d\n", ["1", "b", "c", "d"]),
        ('1,"b, ""c""",c,d\r\n', ["1", 'b, "c"', "c", "d"]),
        ('1,"the "old" pond, CC BY by Ann",c,d\n', ["1", 'the "old" pond, CC BY by Ann', "c", "d"]),
        ('1,"the \\"old\\" pond, CC BY by Ann",c,d\n', ["1", 'the "old" pond, CC BY by Ann', "c", "d"]),
        ('1,"say \\"hi\\", she said",c,d\n', ["1", 'say "hi", she said', "c", "d"]),
        ('1,"{""note"":""jar 3\\" wide, dry""}",c,d\n', ["1", '{"note":"jar 3" wide, dry"}', "c", "d"]),
        ('1,"C:\\photos\\",c,"d"\n', ["1", "C:\\photos\\", "c", "d"]),
        ('1,5" long,3" wide,d\n', ["1", '5" long', '3" wide', "d"]),
        ('1,"old" frog,c,d\n', ["1", '"old" frog', "c", "d"]),
        ('1, "a, b" ,c,d\n', ["1", "a, b", "c", "d"]),
        ('1,"two\nlines",c,d\n', ["1", "two\nlines", "c", "d"]),
        ('1,"",,""\n', ["1", "", "", ""]),
        ('"1","b"\n', ["1", "b"]),
        ("1\n", ["1"]),
    ],
)
def test_quotes_within_a_field_are_text_however_they_are_written(line: str, fields: list[str]) -> None:
    assert READER.read(line) == Row(fields)


@pytest.mark.parametrize(
    "line",
    [
        '1,"the "old", dry pond",c,d\n',  # the quote before the comma may close, or may not
        '1,"b,c",d\n',  # fewer fields than usual, and as many as usual if the quotes are text
        "1,b,c,d,e\n",
        '1,"b",c,d,\n',
        '1,"b","c","d","e"\n',
    ],
)
def test_a_row_that_fits_in_no_way_is_told_apart_and_keeps_its_key(line: str) -> None:
    row = READER.read(line)
    assert row is not None
    assert (row.fields[0], row.fits) == ("1", False)


@pytest.mark.parametrize("line", ['1,"b\n', '1,"b, c,d\n', '1,b,c,"d ""\n'])
def test_an_open_quote_asks_for_the_next_line(line: str) -> None:
    assert READER.read(line) is None


def test_a_line_with_an_open_quote_fits_alone_only_with_the_usual_fields() -> None:
    assert READER.read_alone('1,"b,c,d\n') == Row(["1", '"b', "c", "d"])
    assert not READER.read_alone('1,"b, with a comma,c,d\n').fits
    assert not READER.read_alone('1,"b\n').fits
    assert READER.read_alone('1,b,c,"say \\""\n') == Row(["1", "b", "c", 'say "'])


TEXT = st.text(st.sampled_from(list('ab,"\\ \n')), max_size=8)


@given(fields=st.lists(TEXT, min_size=4, max_size=4), quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
@settings(max_examples=300)
def test_what_a_proper_writer_wrote_comes_back(fields: list[str], quoting: int) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerow(fields)
    assert READER.read(text.getvalue()) == Row(fields)


@given(stray=TEXT.filter(lambda text: '",' not in text), place=st.integers(0, 3), is_quoted=st.booleans())
@settings(max_examples=500)
def test_damage_never_moves_a_value_into_another_column(stray: str, place: int, is_quoted: bool) -> None:
    """One of four fields is written without care: the others are read right, or the row is said not to fit.

    A quote right before a comma is left out: it closes the field, whatever its author meant.
    """
    fields = ["k1", "k2", "k3", "k4"]
    written = [f'"{field}"' if is_quoted else field for field in fields]
    written[place] = f'"{stray}"'
    row = READER.read(",".join(written) + "\n")
    if row is not None and row.fits and len(row.fields) == 4:
        del row.fields[place], fields[place]
        assert row.fields == fields
