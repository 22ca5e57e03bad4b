import pytest

from aitax_ray.errors import ArchiveError
from aitax_ray.gbif.descriptor import MULTIMEDIA, parse_meta, parse_xml

from .conftest import OCCURRENCE_TERMS, meta_xml


def test_tables_are_told_by_their_row_type() -> None:
    found = parse_meta(meta_xml().encode(), "x.zip")
    assert found.core.locations == ("occurrence.txt",)
    assert found.core.columns == {term: i for i, term in enumerate(OCCURRENCE_TERMS)}
    media = found.extension(MULTIMEDIA)
    assert media is not None
    assert (media.delimiter, media.quote, media.line_end, media.header_lines, media.key) == ("\t", "", "\n", 1, 0)
    assert found.extension("http://rs.tdwg.org/ac/terms/Multimedia") is None


@pytest.mark.parametrize(("written", "meant"), [("\\t", "\t"), ("\t", "\t"), ("&#9;", "\t"), (",", ","), (";", ";")])
def test_delimiters_are_read_as_they_are_meant(written: str, meant: str) -> None:
    assert parse_meta(meta_xml(delimiter=written).encode(), "x").core.delimiter == meant


def test_a_blank_line_or_a_mark_before_the_declaration_is_harmless() -> None:
    assert parse_xml(b"\n<?xml version='1.0'?><a/>").tag == "a"
    assert parse_xml(b"\xef\xbb\xbf<a/>").tag == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<archive><core", r"cannot be read \(unclosed token"),
        (b"", r"cannot be read \(no element found"),
        (b"<archive/>", "names no core"),
        (b"<archive><core rowType='x'/></archive>", "a table has no file"),
        (meta_xml(delimiter="ab").encode(), "fieldsTerminatedBy is 'ab', not one character"),
        (meta_xml().replace("UTF-8", "klingon").encode(), "encoding 'klingon' is unknown"),
        (meta_xml().replace('index="1"', 'index="one"').encode(), "'one' is no index"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><archive>&e;</archive>', "it declares entities"),
    ],
)
def test_a_meta_xml_that_cannot_be_used_says_why(data: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=f"the meta.xml of frogs.zip .*{message}"):
        parse_meta(data, "frogs.zip")
