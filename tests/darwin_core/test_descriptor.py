import pytest

from aitax_ray.darwin_core.descriptor import AUDUBON, EVENT, IMAGE, MULTIMEDIA, OCCURRENCE, TAXON, parse_meta, parse_xml
from aitax_ray.errors import ArchiveError
from tests.archives import Part
from tests.gbif_download import OCCURRENCE_TERMS, meta_xml


def core_xml(xml: str) -> bytes:
    return f"<archive>{xml}</archive>".encode()


def test_tables_are_told_by_their_row_type() -> None:
    found = parse_meta(meta_xml().encode(), "x.zip")
    assert found.core.locations == ("occurrence.txt",)
    assert found.core.columns == {term: (i,) for i, term in enumerate(OCCURRENCE_TERMS)}
    (media,) = found.tables(MULTIMEDIA)
    assert (media.delimiter, media.quote, media.line_end, media.header_lines, media.key) == ("\t", "", "\n", 1, 0)
    assert found.tables(AUDUBON) == []
    assert found.tables(OCCURRENCE) == [found.core]


@pytest.mark.parametrize(
    ("row_type", "kind"),
    [
        ("http://rs.tdwg.org/dwc/terms/Occurrence", OCCURRENCE),
        ("http://rs.tdwg.org/dwc/terms/Event", EVENT),
        ("http://rs.tdwg.org/dwc/terms/Taxon", TAXON),
        ("http://rs.gbif.org/terms/1.0/Multimedia", MULTIMEDIA),
        ("http://rs.gbif.org/ipt/terms/1.0/Multimedia", MULTIMEDIA),
        ("http://rs.gbif.org/terms/1.0/Image", IMAGE),
        ("http://rs.tdwg.org/ac/terms/Multimedia", AUDUBON),
        ("https://rs.tdwg.org/ac/terms/Multimedia", AUDUBON),
        (" http://rs.tdwg.org/AC/terms/multimedia ", AUDUBON),
        ("http://rs.iobis.org/obis/terms/ExtendedMeasurementOrFact", "extendedmeasurementorfact"),
        ("", ""),
    ],
)
def test_row_types_have_a_kind(row_type: str, kind: str) -> None:
    assert parse_meta(core_xml(Part(row_type, "id").xml("core")), "x").core.kind == kind


@pytest.mark.parametrize(
    ("written", "meant"),
    [("\\t", "\t"), ("\t", "\t"), ("&#9;", "\t"), (" ", "\t"), ("", ","), (",", ","), (";", ";"), ("|", "|")],
)
def test_delimiters_are_read_as_they_are_meant(written: str, meant: str) -> None:
    assert parse_meta(meta_xml(delimiter=written).encode(), "x").core.delimiter == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [("\\n", "\n"), ("\\r\\n", "\n"), ("\\r", "\r"), ("\r\n", "\n"), ("\n", "\n"), ("&#13;&#10;", "\n"), ("", "\n")],
)
def test_line_ends_are_read_as_they_are_meant(written: str, meant: str) -> None:
    meta = meta_xml().replace('linesTerminatedBy="\\n"', f'linesTerminatedBy="{written}"')
    assert parse_meta(meta.encode(), "x").core.line_end == meant


def test_what_is_not_declared_is_as_the_text_guide_says() -> None:
    core = parse_meta(core_xml("<core><files><location> ./a\\b.txt </location></files></core>"), "x").core
    assert (core.delimiter, core.quote, core.line_end, core.encoding, core.header_lines) == (",", '"', "\n", "UTF-8", 0)
    assert (core.locations, core.key, core.width) == (("a/b.txt",), 0, 1)


def test_terms_of_one_local_name_are_both_there_and_defaults_need_no_column() -> None:
    part = Part(
        "audubon", "id dc:creator dcterms:creator dc:type", defaults={"license": "CC0", "dc:type": "StillImage"}
    )
    table = parse_meta(core_xml(part.xml("core")), "x").core
    assert table.columns["creator"] == (1, 2)
    assert table.defaults == {"license": "CC0", "type": "StillImage"}
    assert (table.has("creator"), table.has("license"), table.has("format"), table.width) == (True, True, False, 4)


def test_a_row_of_simple_images_is_a_still_image_without_saying_so() -> None:
    assert parse_meta(core_xml(Part("image", "id identifier").xml("core")), "x").core.defaults == {"type": "StillImage"}


def test_the_id_is_a_column_of_its_own_or_gbifs() -> None:
    key = parse_meta(meta_xml().replace('<id index="0"/>', '<id index="4"/>').encode(), "x").core.key
    assert key == 4
    swapped = meta_xml().replace('<id index="0"/>', "").replace("terms/license", "terms/x", 1)
    swapped = swapped.replace("terms/gbifID", "terms/license", 1).replace("terms/x", "terms/gbifID", 1)
    assert parse_meta(swapped.encode(), "x").core.key == 1


def test_a_blank_line_or_a_mark_before_the_declaration_is_harmless() -> None:
    assert parse_xml(b"\n<?xml version='1.0'?><a/>").tag == "a"
    assert parse_xml(b"\xef\xbb\xbf\r\n<a/>").tag == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<archive><core", r"cannot be read \(unclosed token"),
        (b"", r"cannot be read \(no element found"),
        (b"<archive/>", "names no core"),
        (b"<archive><core rowType='x'/></archive>", "a table has no file"),
        (b"<archive><core><files><location> </location></files></core></archive>", "a table has no file"),
        (meta_xml(delimiter="ab").encode(), "fieldsTerminatedBy is 'ab', not one character"),
        (meta_xml(quote="&lt;&gt;").encode(), "fieldsEnclosedBy is '<>', not one character"),
        (meta_xml().replace("UTF-8", "klingon").encode(), "encoding 'klingon' is unknown"),
        (meta_xml().replace("UTF-8", "base64").encode(), "encoding 'base64' is unknown"),
        (meta_xml().replace("UTF-8", "idna").encode(), "encoding 'idna' is unknown"),
        (meta_xml().replace("UTF-8", "punycode").encode(), "encoding 'punycode' is unknown"),
        (meta_xml().replace('index="1"', 'index="one"').encode(), "'one' is no index"),
        (meta_xml(header_lines=-1).encode(), "'-1' is no index"),
        (meta_xml(header_lines=10**22).encode(), "a header of 10,000,000,000,000,000,000,000 lines"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "klingon"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><archive>&e;</archive>', "it declares entities"),
    ],
)
def test_a_meta_xml_that_cannot_be_used_says_why(data: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=f"the meta.xml of frogs.zip .*{message}"):
        parse_meta(data, "frogs.zip")
