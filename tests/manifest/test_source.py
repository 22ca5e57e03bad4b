"""Whole ways in, through the stage, against a fake of GBIF: what is asked for, what is kept under the root."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitax_ray import workspace
from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif import crawl as crawl_module
from aitax_ray.gbif.api import BACKBONE
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.manifest.source import find_local_path
from aitax_ray.manifest.stored import is_stored
from aitax_ray.storage import Storage
from tests.fake_gbif import COL, DATASETS, DOI, KEY, Answer, Gbif
from tests.gbif_download import archive_files, occurrence, photo, write_folder, write_zip
from tests.gbif_server import Server

Settings = Callable[..., ManifestSettings]
SECRET = "s3cr3t-word"
OCCURRENCES = [occurrence("1"), occurrence("2"), occurrence("3", "12")]
MEDIA = [photo("1", "http://a.org/1.jpg"), photo("2", "http://b.org/2.jpg"), photo("3", "http://a.org/3.jpg")]


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    files = archive_files(OCCURRENCES, MEDIA, metadata__xml="<eml/>")
    return write_zip(tmp_path / "frogs.zip", files).read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


@pytest.fixture
def settings(root: str, server: Server, naps: list[float]) -> Settings:
    """Settings of a stage that sleeps in no time."""

    def make(**given: Any) -> ManifestSettings:
        for name in ("names", "species", "providers"):
            if isinstance(given.get(name), str):
                path = Path(root).parent / f"{name}.txt"
                path.write_text(given[name], encoding="utf-8")
                given[name] = path
        return ManifestSettings(**{"root": root, "gbif_url": server.url} | given)

    return make


@pytest.fixture
def account(gbif: Gbif, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    gbif.accounts["ann"], gbif.made = SECRET, archive
    monkeypatch.setenv("GBIF_USER", "ann")
    monkeypatch.setenv("GBIF_PWD", SECRET)


@pytest.fixture
def _datasets(archive: bytes, gbif: Gbif, tmp_path: Path) -> None:
    rows = [row | {"datasetKey": "dataset-1"} for row in OCCURRENCES]
    gbif.made = write_zip(tmp_path / "of-dataset.zip", archive_files(rows, MEDIA)).read_bytes()


def query_of(root: str) -> dict[str, Any]:
    return dict(Storage(root).read_json(workspace.QUERY))


def urls(root: str) -> set[str]:
    return set(Storage(root).read_table(workspace.MEDIA)["url"].to_pylist())


def test_a_doi_takes_one_anonymous_call_and_the_fetch(
    server: Server, gbif: Gbif, settings: Settings, archive: bytes
) -> None:
    gbif.download(archive=archive)
    manifest(settings(doi=f"https://doi.org/{DOI.upper()}"))
    assert server.paths() == [
        f"/v1/occurrence/download/{DOI}",
        f"/v1/occurrence/download/request/{KEY}.zip",
    ]
    assert all("authorization" not in asked.headers for asked in server.requests)


def test_a_download_that_gbif_prepares_is_waited_for(
    gbif: Gbif, settings: Settings, archive: bytes, naps: list[float]
) -> None:
    gbif.download(archive=archive, statuses=("PREPARING", "RUNNING", "SUCCEEDED"))
    assert manifest(settings(download_key=KEY)).counts["kept"] == 3
    assert naps == [30, 30]


def test_waiting_ends_at_its_limit(gbif: Gbif, settings: Settings, naps: list[float]) -> None:
    gbif.download(statuses=("RUNNING",))
    with pytest.raises(GbifError, match="still RUNNING at GBIF after 40 s"):
        manifest(settings(doi=DOI, wait_s=40))
    assert naps == [30, 10]


def test_an_archive_of_another_download_stays_until_gbif_has_answered(
    server: Server, gbif: Gbif, settings: Settings, archive: bytes, root: str
) -> None:
    gbif.download(archive=archive)
    manifest(settings(doi=DOI))
    with pytest.raises(GbifError, match="GBIF knows no download"):
        manifest(settings(doi="10.15468/dl.typing"))
    assert Storage(root).exists("archive/archive.zip")
    manifest(settings(doi=DOI))
    assert len(server.paths("request/")) == 1


def test_a_download_without_link_is_an_error(gbif: Gbif, settings: Settings) -> None:
    gbif.download(downloadLink=None)
    with pytest.raises(GbifError, match="GBIF gives no link to the file"):
        manifest(settings(doi=DOI))


def test_a_checklist_that_contradicts_the_download_is_refused_before_it_is_fetched(
    server: Server, gbif: Gbif, settings: Settings, archive: bytes
) -> None:
    gbif.download(archive=archive)
    with pytest.raises(SettingsError, match=f"--checklist is {BACKBONE}, but download {KEY} has keys of {COL}"):
        manifest(settings(doi=DOI, checklist=BACKBONE))
    assert server.paths("request/") == []
    manifest(settings(doi=DOI, checklist=COL))
    with pytest.raises(SettingsError, match="leave it out"):  # also of one that is there already
        manifest(settings(doi=DOI, checklist=BACKBONE))


def test_an_erased_download_is_requested_again_with_its_predicate_and_checklist(
    server: Server, gbif: Gbif, settings: Settings, account: None, root: str, naps: list[float]
) -> None:
    erased = gbif.download(statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match="--request-again"):
        manifest(settings(doi=DOI))
    assert server.posts() == []
    assert manifest(settings(doi=DOI, request_again=True)).counts["kept"] == 3
    [asked] = server.posts()
    assert asked.json["predicate"] == erased["request"]["predicate"]
    assert asked.json["checklistKey"] == COL
    query = query_of(root)
    assert query["download_key"] == "0000002-000000000000009"
    assert query["doi"] == "10.15468/dl.000000"
    assert query["source"] == DOI
    assert naps == [30, 30]


def test_without_account_an_erased_download_cannot_be_requested(server: Server, gbif: Gbif, settings: Settings) -> None:
    gbif.download(statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match=r"takes your account there: set GBIF_USER .*netrc"):
        manifest(settings(doi=DOI, request_again=True))
    assert server.posts() == []


def test_a_run_that_was_stopped_while_gbif_prepares_goes_on_with_the_same_request(
    server: Server, gbif: Gbif, settings: Settings, account: None
) -> None:
    gbif.download(statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match="still PREPARING"):
        manifest(settings(doi=DOI, request_again=True, wait_s=0))
    assert manifest(settings(doi=DOI, request_again=True)).counts["kept"] == 3
    assert len(server.posts()) == 1


@pytest.mark.usefixtures("account", "_datasets")
def test_with_an_account_species_come_as_a_download(server: Server, gbif: Gbif, settings: Settings, root: str) -> None:
    given = settings(species='["11", 12]', providers="dataset-1\n", checklist=COL)
    with pytest.raises(GbifError, match="still PREPARING"):
        manifest(given.model_copy(update={"wait_s": 0.0}))
    report = manifest(given)
    assert report.counts["rows_read"] == 3
    [asked] = server.posts()
    assert asked.json["checklistKey"] == COL
    assert asked.json["predicate"]["predicates"][0] == {
        "type": "in",
        "key": "TAXON_KEY",
        "values": ["11", "12"],
        "checklistKey": COL,
    }
    assert asked.json["predicate"]["predicates"][1]["values"] == ["dataset-1"]
    assert query_of(root)["predicate"] == asked.json["predicate"]
    assert server.paths("/occurrence/search") == []


@pytest.mark.usefixtures("account")
def test_the_download_of_species_is_used_after_gbif_erased_it(
    server: Server, gbif: Gbif, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(settings(species="11\n12"))
    [record] = gbif.downloads.values()
    record["status"] = ["FILE_ERASED"]
    server.requests.clear()
    assert manifest(settings(species="11\n12", number=1)).counts["kept"] == 2
    assert [path for path in server.paths() if "vernacularNames" not in path] == []
    manifest(settings(species="11"))  # other species are another request
    assert len(server.posts()) == 1
    monkeypatch.delenv("GBIF_USER")
    server.requests.clear()
    assert manifest(settings(species="11", number=1)).counts["kept"] == 2  # what is there takes no account
    assert server.paths("/occurrence/") == []


@pytest.mark.usefixtures("account")
def test_the_download_of_species_is_asked_for_anew_when_what_is_stored_is_harmed(
    server: Server, gbif: Gbif, settings: Settings, root: str
) -> None:
    manifest(settings(species="11\n12"))
    [record] = gbif.downloads.values()
    record["status"] = ["FILE_ERASED"]
    Path(root, "archive/archive.zip").write_bytes(b"PK")
    assert manifest(settings(species="11\n12", number=1)).counts["kept"] == 2
    assert len(server.posts()) == 2


@pytest.mark.usefixtures("account", "_datasets")
def test_the_password_is_nowhere_but_in_the_request(
    server: Server, gbif: Gbif, settings: Settings, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, name)
    report = manifest(settings(species="11\n12\n", providers="dataset-1"))
    asked = [a for a in server.requests if "authorization" in a.headers]
    assert [a.method for a in asked] == ["POST"]
    coded = asked[0].headers["authorization"].removeprefix("Basic ")
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    assert len(files) > 6
    for secret in (SECRET, coded):
        assert secret not in logged
        assert secret not in report.model_dump_json()
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


@pytest.mark.usefixtures("account")
def test_a_request_that_fails_does_not_tell_the_password(
    server: Server, settings: Settings, gbif: Gbif, caplog: pytest.LogCaptureFixture
) -> None:
    gbif.accounts.clear()
    with pytest.raises(GbifError, match="does not accept the account of ann") as raised:
        manifest(settings(species="11"))
    assert SECRET not in f"{raised.value} {raised.value.__cause__!r} {raised.value.__context__!r} {caplog.text}"


def test_without_account_species_are_searched_for(server: Server, gbif: Gbif, settings: Settings, root: str) -> None:
    gbif.photographed(5)
    gbif.photographed(2, 12, "Rana nigra")
    report = manifest(settings(species="11\n12"))
    assert report.counts == {"rows_read": 7, "kept": 7, "species": 2, "occurrences": 7, "hosts": 1}
    assert urls(root) == {f"http://photos.example/{number}.jpg" for number in range(1, 8)}
    query = query_of(root)
    assert (query["source"], query["checklist_key"], query["total_records"]) == ("search", BACKBONE, 7)
    assert query["citation"].startswith(f"GBIF.org ({query['created']}) occurrence search; it has no DOI")
    assert len(query["sha256"]) == 64
    assert query["beyond_reach"] == 0
    taxa = Storage(root).read_table(workspace.TAXA).to_pylist()
    assert [(taxon["species_key"], taxon["name"], taxon["num_images"]) for taxon in taxa] == [
        ("11", "Rana alba", 5),
        ("12", "Rana nigra", 2),
    ]


def test_a_search_that_was_stopped_goes_on_and_is_kept_for_other_settings(
    server: Server, gbif: Gbif, settings: Settings, root: str
) -> None:
    gbif.photographed(3)
    gbif.photographed(3, 12, "Rana nigra")
    fail = Answer(status=500)
    server.routes["/v1/occurrence/search"] = lambda asked: (
        fail if asked.query["taxonKey"] == ["12"] and "offset" in asked.query else None
    )
    with pytest.raises(GbifError, match="answers 500"):
        manifest(settings(species="11\n12"))
    server.routes.clear()
    server.requests.clear()
    assert manifest(settings(species="11\n12")).counts["kept"] == 6
    assert [asked.query["taxonKey"] for asked in server.requests if "search" in asked.path] == [["12"]]
    server.requests.clear()
    assert manifest(settings(species="11\n12", number=1)).counts["kept"] == 2
    assert server.paths("search") == []
    manifest(settings(species="11"))
    assert len(Storage(root).entries("archive/search")) == 1  # what another query left is gone


def test_a_search_for_more_than_gbif_gives_loses_nothing(
    server: Server, gbif: Gbif, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl_module, "MAX_RECORDS", 10)
    monkeypatch.setattr(crawl_module, "PAGE", 4)
    gbif.max_offset = 10
    gbif.photographed(30)
    assert manifest(settings(species="11")).counts["occurrences"] == 30


def test_a_search_in_a_checklist_has_its_keys_and_names(
    server: Server, gbif: Gbif, settings: Settings, root: str
) -> None:
    gbif.photographed(2)
    manifest(settings(species="C11", checklist=COL))
    [taxon] = Storage(root).read_table(workspace.TAXA).to_pylist()
    assert (taxon["species_key"], taxon["name"], taxon["authorship"]) == ("C11", "Rana alba", "L.")
    assert query_of(root)["checklist_key"] == COL


def test_only_the_providers_that_are_listed_are_searched(
    server: Server, gbif: Gbif, settings: Settings, root: str
) -> None:
    gbif.photographed(6)
    manifest(settings(species="11", providers=json.dumps([DATASETS[0]])))
    assert urls(root) == {f"http://photos.example/{number}.jpg" for number in (2, 4, 6)}


def test_a_search_may_be_kept_in_any_storage(gbif: Gbif, settings: Settings, tmp_path: Path, server: Server) -> None:
    gbif.photographed(3)
    url = f"memory://{tmp_path}/elsewhere"  # stands for an object store
    assert manifest(settings(root=url, species="11")).counts["kept"] == 3
    server.requests.clear()
    assert manifest(settings(root=url, species="11", seed=1)).counts["kept"] == 3
    assert server.paths("search") == []


def test_an_archive_behind_a_url_may_be_unpacked(settings: Settings, tmp_path: Path) -> None:
    write_folder(tmp_path / "unpacked", archive_files(OCCURRENCES, MEDIA))
    given = settings(archive=f"local://{tmp_path}/unpacked", checklist=COL)
    assert manifest(given).counts["kept"] == 3
    assert query_of(given.root)["checklist_key"] == COL


def test_an_archive_is_stored_as_long_as_it_is_unharmed(
    gbif: Gbif, settings: Settings, archive: bytes, root: str
) -> None:
    storage = Storage(root)
    assert not is_stored(storage, DOI)
    gbif.download(archive=archive)
    manifest(settings(doi=DOI))
    assert is_stored(storage, DOI)
    assert not is_stored(storage, "10.15468/dl.other")
    Path(root, "archive/archive.zip").write_bytes(b"PK")
    assert not is_stored(storage, DOI)


def test_paths_and_file_urls_are_local_and_other_urls_are_not() -> None:
    assert find_local_path("frogs.zip") == Path("frogs.zip")
    assert find_local_path("~/frogs.zip") == Path.home() / "frogs.zip"
    assert find_local_path("file:///data/the%20frogs.zip") == Path("/data/the frogs.zip")
    assert find_local_path("https://example.org/frogs.zip") is None
    assert find_local_path("s3://bucket/frogs.zip") is None
