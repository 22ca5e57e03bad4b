from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif.client import Client
from aitax_ray.manifest.estimate import BYTES_PER_PHOTO, Estimate
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.workspace import StageReport
from tests.fake_gbif import COL, DOI, KEY, Gbif
from tests.gbif_download import archive_files, occurrence, photo, write_folder, write_zip
from tests.gbif_server import Server

DryRun = Callable[..., StageReport]
OCCURRENCES = [occurrence("1"), occurrence("2"), occurrence("3", "12"), occurrence("4", "")]
MEDIA = [
    photo("1", "http://A.org/1.jpg"),
    photo("2", "http://b.org:80/2.jpg"),
    photo("3", "https://a.org/3.jpg"),
    photo("4", "http://a.org/4.jpg"),
]
COUNTED = {"images": 3, "species": 2, "occurrences": 3, "hosts": 2, "bytes": 3 * BYTES_PER_PHOTO}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "frogs.zip", archive_files(OCCURRENCES, MEDIA))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def dry_run(server: Server, root: Path, naps: list[float]) -> DryRun:
    return lambda **given: manifest(ManifestSettings(root=str(root), gbif_url=server.url, dry_run=True, **given))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_is_counted_and_nothing_is_written(
    dry_run: DryRun, archive: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    report = dry_run(archive=str(archive))
    assert report.counts == COUNTED
    assert report.reasons == {"no_species_key": 1}
    assert not root.exists()
    assert (
        "dry run: 3 photographs of 2 species in 3 occurrences, on 2 hosts (a.org 2, b.org 1); "
        "about 0.0 GB to download, in 0.0 h or more; left out: 1 no_species_key" in caplog.messages
    )


ALL = {"format": "DWCA", "predicate": {"type": "in", "key": "TAXON_KEY", "values": ["11", "12"]}}


@pytest.mark.parametrize("name", [{"doi": DOI}, {"download_key": KEY}])
def test_a_download_is_estimated_from_a_page_of_the_search(
    server: Server, dry_run: DryRun, gbif: Gbif, root: Path, name: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gbif.download(request=ALL, size=38_857)
    gbif.photographed(400)
    gbif.photographed(5, 13)
    assert dry_run(**name).counts == {
        "images": 400,
        "species": 1,
        "occurrences": 400,
        "hosts": 1,
        "bytes": 400 * BYTES_PER_PHOTO,
        "occurrences_in_download": 3,
        "archive_bytes": 38_857,
    }
    assert len(server.requests) == 2
    assert server.requests[1].query["taxonKey"] == ["11", "12"]
    assert (
        f"download {KEY} has 3 occurrences, with photographs or without, in an archive of 38,857 bytes" in caplog.text
    )
    assert not root.exists()


def test_a_download_is_searched_for_in_its_checklist(server: Server, dry_run: DryRun, gbif: Gbif) -> None:
    predicate = {"type": "equals", "key": "TAXON_KEY", "value": "C11"}
    gbif.download(request={"format": "DWCA", "checklistKey": COL, "predicate": predicate})
    gbif.photographed(3)
    assert dry_run(doi=DOI).counts["images"] == 3
    assert server.requests[1].query["checklistKey"] == [COL]
    with pytest.raises(SettingsError, match="leave it out"):
        dry_run(doi=DOI, checklist="another")


def test_a_download_whose_query_the_search_does_not_take_is_not_estimated(
    server: Server, dry_run: DryRun, gbif: Gbif, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gbif.download(request={"format": "DWCA", "predicate": {"type": "not", "predicate": ALL["predicate"]}}, size=38_857)
    report = dry_run(doi=DOI)
    assert (report.counts, report.metrics) == ({"occurrences_in_download": 3, "archive_bytes": 38_857}, {})
    assert "in an archive of 38,857 bytes; its query is none that GBIF's search takes" in caplog.text
    assert server.paths("request/") == []
    assert not root.exists()


def test_an_archive_behind_a_url_is_fetched_and_counted_and_says_so(
    dry_run: DryRun, gbif: Gbif, archive: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    link = gbif.download(archive=archive.read_bytes())["downloadLink"]
    assert dry_run(archive=link).counts == COUNTED
    assert "the archive is fetched to count what is in it, and not kept" in caplog.text
    assert f"fetching {link} of {archive.stat().st_size:,} bytes" in caplog.text
    assert not root.exists()


def test_only_photographs_whose_licence_is_asked_for_are_estimated(dry_run: DryRun, gbif: Gbif, tmp_path: Path) -> None:
    gbif.photographed(2)
    gbif.photographed(1)[0]["media"][0]["license"] = "http://creativecommons.org/licenses/by-nc/4.0/"
    (tmp_path / "species.txt").write_text("11\n", encoding="utf-8")
    report = dry_run(species=tmp_path / "species.txt", license="open")
    assert (report.counts["images"], report.reasons) == (2, {"license_not_admitted": 1})
    report = dry_run(species=tmp_path / "species.txt", license="non-commercial")
    assert (report.counts["images"], report.reasons) == (3, {})


def test_an_estimate_says_what_is_left_out(dry_run: DryRun, gbif: Gbif, tmp_path: Path) -> None:
    for frog in gbif.photographed(600):
        frog["media"] = [*frog["media"], {"type": "Sound", "identifier": "http://a.org/1.mp3"}]
    gbif.photographed(3, 12, "Rana nigra", speciesKey=None)
    (tmp_path / "species.txt").write_text("11\n2\n", encoding="utf-8")  # a species, and its genus
    report = dry_run(species=tmp_path / "species.txt")
    assert report.counts["images"] == 600
    assert report.reasons == {"not_a_photograph": 600}
    (tmp_path / "species.txt").write_text("12\n", encoding="utf-8")
    report = dry_run(species=tmp_path / "species.txt")
    assert (report.counts["images"], report.reasons) == (0, {"no_species_key": 3})


def test_questions_that_overlap_count_an_occurrence_once_and_all_species_of_a_genus(
    dry_run: DryRun, gbif: Gbif, tmp_path: Path
) -> None:
    gbif.photographed(3)
    gbif.photographed(2, 12, "Rana nigra")
    gbif.photographed(1, 13, "Rana rubra", speciesKey=None)
    (tmp_path / "species.txt").write_text("2\n11\n", encoding="utf-8")  # a genus, and a species of it
    counts = dry_run(species=tmp_path / "species.txt").counts
    assert (counts["images"], counts["species"], counts["occurrences"]) == (5, 2, 5)
    assert dry_run(species=tmp_path / "species.txt", label="genus").counts["images"] == 6


def test_the_log_says_what_an_estimate_leaves_out(
    dry_run: DryRun, gbif: Gbif, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("aitax_ray.gbif.crawl.LONG_CRAWL_S", 1)
    gbif.photographed(1)
    (tmp_path / "species.txt").write_text("11\n12\n", encoding="utf-8")
    dry_run(species=tmp_path / "species.txt", number=1)
    assert "--number is not taken into account" in caplog.text
    assert "species and hosts are those seen there" in caplog.text
    assert "asking GBIF 2 questions takes about 0.0 h, and GBIF asks to request a download instead" in caplog.text


def test_a_folder_of_photographs_is_counted_with_nothing_to_download(
    dry_run: DryRun, tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = write_folder(tmp_path / "photos", {"a/1.jpg": "1", "a/2.jpg": "2", "b/3.jpg": "3", "b/notes.txt": ""})
    report = dry_run(photos=folder)
    assert "in 3 occurrences, none of them to download; left out: 1 not_an_image_file" in caplog.text
    assert report.counts == {"images": 3, "species": 2, "occurrences": 3, "hosts": 0, "bytes": 0}
    assert report.reasons == {"not_an_image_file": 1}
    assert not root.exists()


def test_species_are_estimated_from_the_first_page_of_each(
    server: Server, dry_run: DryRun, gbif: Gbif, root: Path, tmp_path: Path
) -> None:
    for occurrence_ in gbif.photographed(400):
        occurrence_["media"] *= 2
    gbif.photographed(10, 12, "Rana nigra")
    (tmp_path / "species.txt").write_text("11\n12\n13\n", encoding="utf-8")
    report = dry_run(species=tmp_path / "species.txt")
    assert report.counts == {
        "images": 810,
        "species": 2,
        "occurrences": 410,
        "hosts": 1,
        "bytes": 810 * BYTES_PER_PHOTO,
    }
    assert report.metrics["hours"] == pytest.approx(810 / 10 / 3600)
    assert len(server.paths("search")) == len(server.requests) == 3
    assert not root.exists()


def test_names_are_matched_and_estimated_and_the_log_names_the_unmatched(
    dry_run: DryRun, gbif: Gbif, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gbif.taxon("11", "Rana alba")
    gbif.photographed(3)
    (tmp_path / "names.txt").write_text("Rana alba\nRana albaa\n", encoding="utf-8")
    assert dry_run(names=tmp_path / "names.txt").counts["images"] == 3
    assert (
        "1 of 2 names are left out, as GBIF knows no species of exactly that name, such as 'Rana albaa'" in caplog.text
    )
    assert "unmatched_names.json" not in caplog.text  # which is not written
    assert not root.exists()


def test_with_an_account_a_dry_run_asks_for_no_download(
    server: Server, dry_run: DryRun, gbif: Gbif, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GBIF_USER", "ann")
    monkeypatch.setenv("GBIF_PWD", "secret")
    gbif.photographed(3)
    (tmp_path / "species.txt").write_text("11\n", encoding="utf-8")
    assert dry_run(species=tmp_path / "species.txt").counts["images"] == 3
    assert server.posts() == []
    gbif.download(statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match="its file was erased"):
        dry_run(doi=DOI)
    assert server.posts() == []
    assert not root.exists()


def test_what_is_under_the_root_is_used_and_left_as_it_is(
    server: Server, dry_run: DryRun, gbif: Gbif, archive: Path, root: Path
) -> None:
    gbif.download(archive=archive.read_bytes())
    gbif.download("0000002-1", archive.read_bytes())
    manifest(ManifestSettings(root=str(root), gbif_url=server.url, doi=DOI))
    before = content(root)
    server.requests.clear()
    assert dry_run(doi=DOI, number=1).counts["images"] == 2
    assert server.requests == []
    assert dry_run(download_key="0000002-1").counts["images"] == 0  # GBIF is asked
    assert dry_run(archive=str(archive)).counts == COUNTED
    with pytest.raises(GbifError, match="GBIF knows no download"):
        dry_run(doi="10.15468/dl.other")
    assert content(root) == before


@pytest.mark.parametrize("identifier", ["http://[bad", "", " ", 7, None, "ftp://a.org/x.jpg"])
def test_a_url_that_is_none_counts_for_no_host(dry_run: DryRun, gbif: Gbif, tmp_path: Path, identifier: object) -> None:
    gbif.photographed(1)
    gbif.photographed(1)[0]["media"][0]["identifier"] = identifier
    (tmp_path / "species.txt").write_text("11\n", encoding="utf-8")
    report = dry_run(species=tmp_path / "species.txt")
    assert (report.counts["images"], report.counts["hosts"]) == (2, 1)


def test_the_slowest_host_decides_how_long_it_takes() -> None:
    one = Estimate(72_000, 1, 72_000, {"a.org": 36_000, "b.org": 36_000}, {})
    assert (one.hours, one.num_bytes) == (1.0, 72_000 * BYTES_PER_PHOTO)
    assert Estimate(0, 0, 0, {}, {}).hours == 0


def test_only_the_largest_hosts_are_named() -> None:
    text = str(Estimate(21, 1, 21, {f"{n}.org": 7 - n for n in range(7)}, {}))
    assert "on 7 hosts (0.org 7, 1.org 6, 2.org 5, 3.org 4, 4.org 3 and 2 more)" in text


def test_a_dry_run_says_who_asks(server: Server, gbif: Gbif, root: Path, tmp_path: Path, client: Client) -> None:
    gbif.photographed(1)
    (tmp_path / "species.txt").write_text("11\n", encoding="utf-8")
    given: dict[str, Any] = {"root": str(root), "gbif_url": server.url, "species": tmp_path / "species.txt"}
    manifest(ManifestSettings(**given, dry_run=True, contact="me@example.org"))
    assert "(+me@example.org)" in server.requests[0].headers["user-agent"]
