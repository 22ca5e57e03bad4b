import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from aitax_ray.demo.archive import MULTIMEDIA_TERMS, OCCURRENCE_TERMS, write_archive
from tests.demo.conftest import rows

DWC_TEXT = "{http://rs.tdwg.org/dwc/text/}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_archive(
        tmp_path / "archive.zip",
        [{"gbifID": "1", "class": "Insecta", "license": "CC0_1_0"}],
        [{"gbifID": "1", "identifier": "http://127.0.0.1/1.jpg", "title": 'an "unclosed quote, and an é'}],
        doi="10.15468/dl.a<b",
        download_key="0000000-000000000000000",
        created="2026-01-01T00:00:00.000+00:00",
        datasets=[("A dataset", "http://creativecommons.org/licenses/by/4.0/legalcode")],
    )
    return tmp_path


def read(folder: Path, name: str) -> str:
    with zipfile.ZipFile(folder / "archive.zip") as archive:
        return archive.read(name).decode()


def test_the_archive_has_the_files_of_a_gbif_download(folder: Path):
    with zipfile.ZipFile(folder / "archive.zip") as archive:
        names = set(archive.namelist())
    assert names == {"meta.xml", "occurrence.txt", "multimedia.txt", "metadata.xml", "citations.txt", "rights.txt"}


def test_multimedia_has_the_fifteen_columns_of_gbif_in_their_order(folder: Path):
    assert read(folder, "multimedia.txt").split("\n")[0].replace("\t", " ") == (
        "gbifID type format identifier references title description source audience created creator contributor "
        "publisher license rightsHolder"
    )


def test_meta_xml_describes_every_column_where_it_is(folder: Path):
    meta = ElementTree.fromstring(read(folder, "meta.xml"))
    for element, terms in (("core", OCCURRENCE_TERMS), ("extension", MULTIMEDIA_TERMS)):
        part = meta.find(DWC_TEXT + element)
        assert part.get("fieldsTerminatedBy") == "\\t"
        assert part.get("fieldsEnclosedBy") == ""
        columns = list(rows(folder, part.findtext(f"{DWC_TEXT}files/{DWC_TEXT}location"))[0])
        fields = {int(f.get("index")): f.get("term") for f in part.iter(DWC_TEXT + "field") if f.get("index")}
        assert [fields[i] for i in range(len(columns))] == terms
        assert [term.rsplit("/", 1)[1] for term in terms] == columns


def test_terms_have_the_namespaces_gbif_gives_them():
    terms = {term.rsplit("/", 1)[1]: term for term in OCCURRENCE_TERMS}
    assert terms["license"] == "http://purl.org/dc/terms/license"
    assert terms["genus"] == "http://rs.tdwg.org/dwc/terms/genus"
    assert terms["speciesKey"] == "http://rs.gbif.org/terms/1.0/speciesKey"


def test_values_stand_in_their_columns_unquoted_and_absent_ones_are_empty(folder: Path):
    (occurrence,), (media,) = rows(folder, "occurrence.txt"), rows(folder, "multimedia.txt")
    assert {k: v for k, v in occurrence.items() if v} == {"gbifID": "1", "license": "CC0_1_0", "class": "Insecta"}
    assert media["title"] == 'an "unclosed quote, and an é'
    assert media["creator"] == ""


def test_metadata_names_doi_and_key(folder: Path):
    metadata = ElementTree.fromstring(read(folder, "metadata.xml"))
    assert metadata.get("packageId") == "10.15468/dl.a<b"
    assert metadata.findtext("dataset/alternateIdentifier") == "0000000-000000000000000"


def test_citations_and_rights_name_every_dataset(folder: Path):
    assert "A dataset. " in read(folder, "citations.txt")
    assert "Dataset: A dataset\nRights as supplied: http://creativecommons.org/" in read(folder, "rights.txt")
