"""The names of species, vernacular names, and the tables that the stage writes, through the stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.gbif import matching
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.manifest.tabulate import UNMATCHED
from aitax_ray.storage import Storage
from tests.fake_gbif import BACKBONE, COL, DOI, KEY, Answer, Gbif, as_json
from tests.gbif_download import archive_files, meta_xml, occurrence, photo, write_folder, write_zip
from tests.gbif_server import Server

Settings = Callable[..., ManifestSettings]


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture
def settings(root: str, server: Server, naps: list[float]) -> Settings:
    return lambda **given: ManifestSettings(**{"root": root, "gbif_url": server.url} | given)


@pytest.fixture
def frogs(gbif: Gbif) -> Gbif:
    accepted = {"key": "11", "name": "Rana alba L.", "canonicalName": "Rana alba", "rank": "SPECIES"}
    gbif.taxon("11", "Rana alba")
    gbif.taxon("12", "Rana nigra")
    gbif.taxon("13", "Rana albicans", accepted=accepted)
    gbif.taxon("2", "Rana", rank="GENUS", match="HIGHERRANK")
    gbif.photographed(2)
    gbif.photographed(1, 12, "Rana nigra")
    gbif.vernacular["11"] = [{"vernacularName": "White frog", "language": "eng"}]
    gbif.vernacular["11"] += [{"vernacularName": "Weißfrosch", "language": "deu", "preferred": True}]
    return gbif


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rows = [occurrence("1"), occurrence("2", "12", vernacularName="black frog")]
    return write_zip(
        tmp_path / "frogs.zip",
        archive_files(rows, [photo("1", "http://a.org/1.jpg"), photo("2", "http://a.org/2.jpg")]),
    )


def names_file(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    return path


def taxa(root: str) -> dict[str, dict[str, Any]]:
    return {row["species_key"]: row for row in Storage(root).read_table(workspace.TAXA).to_pylist()}


def test_names_become_species_and_the_unmatched_are_listed(
    frogs: Gbif, settings: Settings, root: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = names_file(tmp_path, "Rana albicans", "Rana nigra", "Rana alba", "Rana", "Rana albaa")
    report = manifest(settings(names=path))
    assert report.counts == {
        "rows_read": 3,
        "kept": 3,
        "species": 2,
        "occurrences": 3,
        "hosts": 1,
        "names_unmatched": 2,
    }
    unmatched = Storage(root).read_json(UNMATCHED)
    assert [entry["name"] for entry in unmatched] == ["Rana", "Rana albaa"]
    assert unmatched[0]["answer"] == frogs.names["rana"]
    assert unmatched[1]["answer"]["diagnostics"]["matchType"] == "NONE"
    assert (
        "2 of 5 names are left out, as GBIF knows no species of exactly that name, such as 'Rana' (see" in caplog.text
    )


def test_a_synonym_beside_its_accepted_name_is_asked_for_once(
    server: Server, frogs: Gbif, settings: Settings, tmp_path: Path
) -> None:
    manifest(settings(names=names_file(tmp_path, "Rana albicans", "Rana alba")))
    assert {asked.query["taxonKey"][0] for asked in server.requests if "search" in asked.path} == {"11"}


def test_names_that_gbif_does_not_know_at_all_are_an_error(
    frogs: Gbif, settings: Settings, root: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"GBIF knows none of the 2 names in .*names\.txt: check their spelling"):
        manifest(settings(names=names_file(tmp_path, "Rana", "x")))
    assert len(Storage(root).read_json(UNMATCHED)) == 2


def test_occurrences_that_the_search_does_not_give_are_counted(
    server: Server, frogs: Gbif, settings: Settings, root: str, tmp_path: Path
) -> None:
    server.routes["/v1/occurrence/search"] = [as_json({"count": 7, "results": []}), None]
    report = manifest(settings(names=names_file(tmp_path, "Rana alba")))
    assert (report.counts["occurrences"], report.counts["occurrences_unreachable"]) == (2, 5)
    assert "names_unmatched" not in report.counts
    assert Storage(root).read_json(workspace.QUERY)["beyond_reach"] == 5


def test_unmatched_names_do_not_outlive_the_names(
    frogs: Gbif, settings: Settings, root: str, tmp_path: Path, archive: Path
) -> None:
    manifest(settings(names=names_file(tmp_path, "Rana alba", "x")))
    assert Storage(root).exists(UNMATCHED)
    manifest(settings(archive=str(archive)))
    assert not Storage(root).exists(UNMATCHED)
    assert Storage(root).files("archive/search") == []


def test_names_are_matched_with_the_checklist_asked_for(
    server: Server, frogs: Gbif, settings: Settings, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "BATCH", 1)
    frogs.taxon("C11", "Rana alba")
    frogs.taxon("C12", "Rana nigra")
    manifest(settings(names=names_file(tmp_path, "Rana alba", "Rana nigra"), checklist=COL))
    assert set(taxa(root)) == {"C11", "C12"}
    assert {asked.query["checklistKey"][0] for asked in server.requests} == {COL}


def test_vernacular_names_of_the_backbones_keys_are_asked_for(
    server: Server, frogs: Gbif, settings: Settings, root: str, tmp_path: Path
) -> None:
    manifest(settings(names=names_file(tmp_path, "Rana alba", "Rana nigra")))
    found = taxa(root)
    assert found["11"]["vernacular_name"] == "White frog"
    assert found["11"]["vernacular_names"] == [
        {"language": "deu", "name": "Weißfrosch"},
        {"language": "eng", "name": "White frog"},
    ]
    assert (found["12"]["vernacular_name"], found["12"]["vernacular_names"]) == ("", [])
    manifest(settings(names=names_file(tmp_path, "Rana alba", "Rana nigra"), number=1))
    assert len(server.paths("vernacularNames")) == 2  # in both runs together


def test_the_archives_own_vernacular_name_stays(frogs: Gbif, settings: Settings, root: str, archive: Path) -> None:
    frogs.vernacular["12"] = [{"vernacularName": "Nightfrog", "language": "eng"}]
    manifest(settings(archive=str(archive), vernacular_names=True))
    assert taxa(root)["12"]["vernacular_name"] == "black frog"
    assert taxa(root)["12"]["vernacular_names"] == [{"language": "eng", "name": "Nightfrog"}]
    assert taxa(root)["11"]["vernacular_name"] == "White frog"


def test_where_gbif_has_no_vernacular_names_to_give_the_stage_goes_on(
    server: Server, frogs: Gbif, settings: Settings, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("11", "12"):
        server.routes[f"/v1/species/{key}/vernacularNames"] = Answer(status=500)
    report = manifest(settings(archive=str(archive), vernacular_names=True))
    assert report.counts["kept"] == 2
    assert "going on without all vernacular names" in caplog.text


def test_vernacular_names_that_are_missing_are_asked_for_again_without_fetching_anew(
    server: Server, frogs: Gbif, settings: Settings, archive: Path, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    frogs.download(archive=archive.read_bytes(), request={"format": "DWCA"})
    server.routes["/v1/species/12/vernacularNames"] = Answer(status=500)
    assert manifest(settings(doi=DOI)).counts["vernacular_names_missing"] == 1
    assert "--vernacular-names with the same command asks again" in caplog.text
    assert manifest(settings(doi=DOI, vernacular_names=True)).counts["vernacular_names_missing"] == 1
    server.routes.clear()
    server.requests.clear()
    frogs.vernacular["12"] = [{"vernacularName": "Nightfrog", "language": "eng"}]
    report = manifest(settings(doi=DOI, vernacular_names=True))
    assert "vernacular_names_missing" not in report.counts
    assert server.paths() == ["/v1/species/12/vernacularNames?limit=500"]
    assert taxa(root)["12"]["vernacular_names"] == [{"language": "eng", "name": "Nightfrog"}]
    assert manifest(settings(doi=DOI, vernacular_names=True)).started == report.started


def test_an_archive_of_ones_own_asks_gbif_for_nothing(server: Server, settings: Settings, archive: Path) -> None:
    manifest(settings(archive=str(archive)))
    assert server.requests == []


@pytest.mark.parametrize("checklist", [COL, BACKBONE])
def test_a_download_in_another_checklist_has_no_vernacular_names_at_gbif(
    server: Server, gbif: Gbif, settings: Settings, archive: Path, checklist: str
) -> None:
    gbif.download(archive=archive.read_bytes(), request={"format": "DWCA", "checklistKey": checklist})
    manifest(settings(download_key=KEY))
    assert len(server.paths("vernacularNames")) == (2 if checklist == BACKBONE else 0)


def test_keys_that_are_not_gbifs_are_not_taken_for_them(
    server: Server, settings: Settings, tmp_path: Path, root: str
) -> None:
    # A publisher's checklist numbers its taxa as it likes: its 11 is not GBIF's.
    meta = (
        '<archive xmlns="http://rs.tdwg.org/dwc/text/"><core fieldsTerminatedBy="," ignoreHeaderLines="0" '
        'rowType="http://rs.tdwg.org/dwc/terms/Taxon"><files><location>taxon.csv</location></files><id index="0"/>'
        '<field index="1" term="scientificName"/><field index="2" term="taxonRank"/></core>'
        '<extension fieldsTerminatedBy="," ignoreHeaderLines="0" rowType="http://rs.gbif.org/terms/1.0/Multimedia">'
        '<files><location>media.csv</location></files><coreid index="0"/><field index="1" term="type"/>'
        '<field index="2" term="identifier"/></extension></archive>'
    )
    files: dict[str, str | bytes] = {
        "meta.xml": meta,
        "taxon.csv": "11,Rana alba L.,species\n",
        "media.csv": "11,StillImage,http://a.org/1.jpg\n",
    }
    manifest(settings(archive=str(write_folder(tmp_path / "list", files)), vernacular_names=True))
    assert set(taxa(root)) == {"11"}
    assert server.requests == []


def test_folders_that_are_named_by_key_have_vernacular_names(
    server: Server, frogs: Gbif, settings: Settings, tmp_path: Path, root: str
) -> None:
    folder = write_folder(tmp_path / "photos", {"11/1.jpg": "1", "Rana_nigra/2.jpg": "2"})
    manifest(settings(photos=folder, vernacular_names=True))
    assert taxa(root)["11"]["vernacular_name"] == "White frog"
    assert [path.split("/")[3] for path in server.paths()] == ["11"]


def test_folders_have_the_genus_of_their_name_and_with_lineage_what_gbif_knows(
    server: Server, gbif: Gbif, settings: Settings, tmp_path: Path, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    gbif.taxon("11", "Rana alba")
    folder = write_folder(
        tmp_path / "photos", {"Rana alba/1.jpg": "1", "Hyla viridis/2.jpg": "2", "Ranidae/3.jpg": "3"}
    )
    manifest(settings(photos=folder))
    assert {key: (row["genus"], row["kingdom"]) for key, row in taxa(root).items()} == {
        "Rana alba": ("Rana", ""),
        "Hyla viridis": ("Hyla", ""),
        "Ranidae": ("", ""),
    }
    assert server.requests == []
    manifest(settings(photos=folder, lineage=True))
    assert (taxa(root)["Rana alba"]["kingdom"], taxa(root)["Hyla viridis"]["kingdom"]) == ("Animalia", "")
    server.routes["/v2/species/match"] = [Answer(status=400)] * 9
    manifest(settings(photos=folder, lineage=True, force=True))
    assert "families and orders stay unknown" in caplog.text
    assert taxa(root)["Rana alba"]["genus"] == "Rana"


def test_every_table_has_exactly_its_schema_in_every_part(
    settings: Settings, root: str, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.manifest.decide.ROWS_PER_BUCKET", 1)
    manifest(settings(archive=str(archive), number=1))
    for name in (workspace.OCCURRENCES, workspace.TAXA, workspace.DROPPED):
        schema = getattr(schemas, Path(name).stem.upper())
        assert pq.read_schema(Path(root, name)).equals(schema), name
    for part in Path(root, workspace.MEDIA).iterdir():
        assert pq.read_schema(part).equals(schemas.MEDIA)


def test_an_archive_of_names_has_them_as_keys(settings: Settings, tmp_path: Path, root: str, server: Server) -> None:
    rows = [{name: text for name, text in occurrence("1").items() if not name.endswith("Key")}]
    files = archive_files(rows, [photo("1", "http://a.org/1.jpg")], meta__xml=meta_xml().replace("gbifID", "id"))
    files["meta.xml"] = str(files["meta.xml"]).replace("speciesKey", "otherKey")
    manifest(settings(archive=str(write_folder(tmp_path / "in", files)), vernacular_names=True))
    assert set(taxa(root)) == {"Rana alba"}
    assert server.requests == []
