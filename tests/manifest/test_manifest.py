import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import ArchiveError, DataError, GbifError, SettingsError
from aitax_ray.manifest.addresses import digest_address
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.storage import Storage
from tests.archives import Part, publisher_files
from tests.fake_gbif import COL, DOI, KEY, Answer, Gbif
from tests.gbif_download import Row, archive_files, occurrence, photo, write_folder, write_zip
from tests.gbif_server import Server

OCCURRENCES = [occurrence("1", family="Ranidae"), occurrence("2"), occurrence("3", "12"), occurrence("4", "")]
MEDIA = [
    photo("1", "http://a.org/1.jpg", creator="Ann", license="CC0"),
    photo("1", "http://b.org/2.jpg"),
    photo("3", "http://a.org/3.jpg"),
    photo("4", "http://a.org/4.jpg"),
    photo("9", "http://a.org/5.jpg"),
    photo("1", "http://b.org/6.mp3", type="Sound"),
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "frogs.zip", archive_files(OCCURRENCES, MEDIA))


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


def tables(root: str) -> dict[str, pa.Table]:
    paths = (workspace.MEDIA, workspace.TAXA, workspace.OCCURRENCES, workspace.DROPPED)
    return {path: Storage(root).read_table(path) for path in paths}


def test_a_local_archive_becomes_a_manifest(root: str, archive: Path) -> None:
    report = manifest(ManifestSettings(root=root, archive=str(archive)))
    assert report.counts == {"rows_read": 6, "kept": 3, "species": 2, "occurrences": 2, "hosts": 2}
    assert report.reasons == {"no_species_key": 1, "not_a_photograph": 1, "orphan": 1}
    found = tables(root)
    for path, schema in (
        (workspace.MEDIA, schemas.MEDIA),
        (workspace.TAXA, schemas.TAXA),
        (workspace.OCCURRENCES, schemas.OCCURRENCES),
        (workspace.DROPPED, schemas.DROPPED),
    ):
        assert found[path].schema.equals(schema)
        texts = [name for name in schema.names if schema.field(name).type == pa.string()]
        assert all(found[path][name].null_count == 0 for name in texts)
    ids = found[workspace.MEDIA]["image_id"].to_pylist()
    assert ids == sorted(ids) == sorted(schemas.image_id(m["identifier"]) for m in MEDIA[:3])
    assert found[workspace.TAXA].select(["species_key", "name", "num_images"]).to_pylist() == [
        {"species_key": "11", "name": "Rana alba", "num_images": 2},
        {"species_key": "12", "name": "Rana nigra", "num_images": 1},
    ]
    assert found[workspace.OCCURRENCES]["gbif_id"].to_pylist() == ["1", "3"]
    assert found[workspace.DROPPED].select(["row", "gbif_id", "reason"]).to_pylist() == [
        {"row": 3, "gbif_id": "4", "reason": "no_species_key"},
        {"row": 4, "gbif_id": "9", "reason": "orphan"},
        {"row": 5, "gbif_id": "1", "reason": "not_a_photograph"},
    ]


def test_a_local_archive_stays_where_it_is_and_is_recorded(root: str, archive: Path) -> None:
    manifest(ManifestSettings(root=root, archive=str(archive)))
    query = Storage(root).read_json(workspace.QUERY)
    assert [f.path for f in Storage(root).files("archive")] == [workspace.QUERY]
    assert query["archive"] == str(archive)
    assert len(query["sha256"]) == 64
    assert query["doi"] == "10.15468/dl.frogs1"
    assert query["citation"] == "GBIF.org (16 July 2026) GBIF Occurrence Download https://doi.org/10.15468/dl.frogs1"
    assert query["dataset_citations"] == ["The frog list."]
    assert query["counts"]["kept"] == 3
    assert query["settings"]["archive"] == str(archive)


def test_an_archive_without_doi_is_cited_by_its_datasets(root: str, tmp_path: Path) -> None:
    files = archive_files(OCCURRENCES, MEDIA, metadata__xml="<eml/>")
    manifest(ManifestSettings(root=root, archive=str(write_folder(tmp_path / "in", files))))
    assert Storage(root).read_json(workspace.QUERY)["citation"] == "The frog list."


@pytest.mark.parametrize(
    "name", [{"doi": "https://doi.org/10.15468/DL.frogs1"}, {"download_key": "0000001-000000000000001"}]
)
def test_a_download_is_fetched_and_kept_with_its_origin(
    root: str, archive: Path, server: Server, gbif: Gbif, name: dict[str, str]
) -> None:
    gbif.download(archive=archive.read_bytes())
    report = manifest(ManifestSettings(root=root, gbif_url=server.url, contact="me@example.org", **name))
    assert report.counts["kept"] == 3
    assert [f.path for f in Storage(root).files("archive")] == ["archive/archive.zip", workspace.QUERY]
    assert Path(root, "archive/archive.zip").read_bytes() == archive.read_bytes()
    query = Storage(root).read_json(workspace.QUERY)
    assert query["doi"] == "10.15468/dl.frogs1"
    assert query["download_key"] == "0000001-000000000000001"
    assert query["checklist_key"] == "7ddf754f-d193-4cc9-b351-99906754a03b"
    assert query["predicate"]["value"] == "1"
    assert query["citation"] == "GBIF.org (16 July 2026) GBIF Occurrence Download https://doi.org/10.15468/dl.frogs1"
    assert all("(+me@example.org)" in headers["user-agent"] for headers in (asked.headers for asked in server.requests))


def test_other_settings_do_not_fetch_the_archive_again(root: str, archive: Path, server: Server, gbif: Gbif) -> None:
    gbif.download(archive=archive.read_bytes())
    settings = ManifestSettings(root=root, doi=DOI, gbif_url=server.url)
    manifest(settings)
    assert manifest(settings.model_copy(update={"number": 1})).counts["kept"] == 2
    assert len(server.paths("/request/")) == 1
    manifest(settings.model_copy(update={"force": True}))
    assert len(server.paths("/request/")) == 2


def test_an_archive_that_was_altered_under_the_root_is_fetched_again(
    root: str, archive: Path, server: Server, gbif: Gbif
) -> None:
    gbif.download(archive=archive.read_bytes())
    settings = ManifestSettings(root=root, doi=DOI, gbif_url=server.url)
    manifest(settings)
    Path(root, "archive/archive.zip").write_bytes(b"PK")
    assert manifest(settings.model_copy(update={"seed": 1})).counts["kept"] == 3
    assert len(server.paths("/request/")) == 2


def test_a_run_that_was_stopped_goes_on_where_the_archive_broke_off(
    root: str, archive: Path, server: Server, gbif: Gbif
) -> None:
    gbif.download(archive=archive.read_bytes())
    path = f"/v1/occurrence/download/request/{KEY}.zip"
    server.routes[path] = Answer(status=404)
    settings = ManifestSettings(root=root, doi=DOI, gbif_url=server.url)
    with pytest.raises(GbifError, match="answers 404"):
        manifest(settings)
    assert Storage(root).exists("manifest/report.json") is False
    server.routes.clear()
    name = digest_address(f"{server.url}{path}")[:16]
    Path(root, f"archive/.{name}.part").write_bytes(archive.read_bytes()[:300])
    Path(root, "archive/.0000000000000000.part").write_bytes(b"of another archive")
    assert manifest(settings).counts["kept"] == 3
    assert server.requests[-1].headers["range"] == "bytes=300-"
    assert sorted(p.name for p in Path(root, "archive").iterdir()) == ["archive.zip", "query.json"]


def test_an_archive_may_come_from_any_url(root: str, archive: Path, server: Server) -> None:
    server.routes["/frogs.zip"] = Answer(archive.read_bytes())
    assert manifest(ManifestSettings(root=root, archive=f"{server.url}/frogs.zip")).counts["kept"] == 3
    assert Storage(root).exists("archive/archive.zip")
    assert manifest(ManifestSettings(root=root, archive=archive.as_uri())).counts["kept"] == 3
    assert not Storage(root).exists("archive/archive.zip")


def test_the_root_may_be_any_storage(archive: Path, server: Server, gbif: Gbif, tmp_path: Path) -> None:
    gbif.download(archive=archive.read_bytes())
    url = f"local://{tmp_path}/elsewhere"  # opened by fsspec, not by pyarrow: stands for an object store
    settings = ManifestSettings(root=url, doi=DOI, gbif_url=server.url)
    manifest(settings)
    assert manifest(settings.model_copy(update={"seed": 1})).counts["kept"] == 3
    assert len(server.paths("/request/")) == 1
    assert tables(url)[workspace.MEDIA].num_rows == 3


def test_a_folder_of_photographs_becomes_a_manifest(root: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {"Rana_alba/1.jpg": "1", "Rana_nigra/2.png": "2", "notes.txt": "x"})
    report = manifest(ManifestSettings(root=root, photos=folder))
    assert report.counts == {"rows_read": 3, "kept": 2, "species": 2, "occurrences": 2, "hosts": 0}
    assert report.reasons == {"not_an_image_file": 1}
    found = tables(root)
    assert found[workspace.MEDIA].schema.equals(schemas.MEDIA)
    assert set(found[workspace.MEDIA]["url"].to_pylist()) == {
        (folder / name).as_uri() for name in ("Rana_alba/1.jpg", "Rana_nigra/2.png")
    }
    assert found[workspace.TAXA]["name"].to_pylist() == ["Rana alba", "Rana nigra"]
    assert found[workspace.OCCURRENCES].num_rows == 2


def test_a_finished_manifest_is_done_again_only_when_its_input_changed(root: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {"a/1.jpg": "1", "b/2.jpg": "2"})
    first = manifest(ManifestSettings(root=root, photos=folder))
    assert manifest(ManifestSettings(root=root, photos=folder)).started == first.started
    write_folder(folder, {"b/3.jpg": "3"})
    assert manifest(ManifestSettings(root=root, photos=folder)).counts["kept"] == 3

    archive = tmp_path / "a.zip"
    write_zip(archive, archive_files(OCCURRENCES, MEDIA))
    first = manifest(ManifestSettings(root=root, archive=str(archive)))
    assert manifest(ManifestSettings(root=root, archive=str(archive), contact="x")).started == first.started
    write_zip(archive, archive_files(OCCURRENCES, MEDIA[:2]))
    assert manifest(ManifestSettings(root=root, archive=str(archive))).counts["kept"] == 2


def test_the_media_table_comes_in_parts_that_follow_each_other(
    root: str, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.manifest.decide.ROWS_PER_BUCKET", 1)
    manifest(ManifestSettings(root=root, archive=str(archive)))
    parts = [f.path.rsplit("/", 1)[-1] for f in Storage(root).files(workspace.MEDIA)]
    assert parts == [f"part-{number:05}.parquet" for number in range(len(parts))]
    assert len(parts) > 1
    ids = tables(root)[workspace.MEDIA]["image_id"].to_pylist()
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            "exactly one of --doi, --download-key, --archive, --names, --species, --photos: none is given",
        ),
        ({"doi": "10.15468/dl.x", "archive": "x.zip"}, "exactly one of .*: --doi and --archive are given"),
        ({"names": "x", "species": "y", "photos": "z"}, "--names and --species and --photos are given"),
        ({"doi": "frogs"}, "--doi: 'frogs' is no DOI"),
        ({"download_key": "a b"}, "--download-key: 'a b' is no key"),
        ({"archive": "/nowhere/frogs.zip"}, "--archive: there is nothing at /nowhere/frogs.zip"),
        ({"photos": "/nowhere"}, "--photos: there is nothing at /nowhere"),
        ({"photos": __file__}, "is no folder; for an archive use --archive"),
        ({"names": "/nowhere"}, "--names: /nowhere cannot be read"),
        ({"species": __file__}, "--species: .* is no key of GBIF; for names of species use --names"),
        ({"archive": "x.zip", "providers": "/nowhere"}, "--providers: /nowhere cannot be read"),
        ({"photos": "/tmp", "label": "genus"}, "--label does not go with --photos"),
        ({"photos": "/tmp", "providers": "LIST"}, "--providers does not go with --photos"),
        ({"doi": "10.15468/dl.x", "dry_run": True, "request_again": True}, "--dry-run asks GBIF for no download"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(
    root: str, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    (tmp_path / "list.txt").write_text("a-key\n", encoding="utf-8")
    given = {name: tmp_path / "list.txt" if value == "LIST" else value for name, value in given.items()}
    with pytest.raises(SettingsError, match=message):
        manifest(ManifestSettings(root=root, **given))
    assert not Path(root).exists()


@pytest.mark.parametrize("place", ["archive/archive.zip", "manifest/frogs.zip", "images/frogs.zip", "engines/a/b.zip"])
def test_the_stage_never_deletes_the_archive_it_is_to_read(root: str, archive: Path, place: str) -> None:
    inside = Path(root, place)
    inside.parent.mkdir(parents=True)
    inside.write_bytes(archive.read_bytes())
    with pytest.raises(SettingsError, match=r"--archive: .* which is written by a stage, lie in each other"):
        manifest(ManifestSettings(root=root, archive=str(inside), force=True))
    with pytest.raises(SettingsError, match="lie in each other: choose another --root"):
        manifest(ManifestSettings(root=Path(root).as_uri(), archive=inside.as_uri(), force=True))
    assert inside.read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("photos", ["root/images", "root/images/frogs", "root", "."])
def test_a_folder_that_the_stage_writes_into_is_not_read(root: str, tmp_path: Path, photos: str) -> None:
    write_folder(tmp_path / photos, {"Rana_alba/1.jpg": "1"})
    with pytest.raises(SettingsError, match=r"--photos: .* lie in each other"):
        manifest(ManifestSettings(root=root, photos=tmp_path / photos))


def test_a_link_into_the_root_is_seen_through(root: str, tmp_path: Path) -> None:
    write_folder(Path(root, "images"), {"Rana_alba/1.jpg": "1"})
    (tmp_path / "mine").symlink_to(Path(root, "images"))
    with pytest.raises(SettingsError, match="lie in each other"):
        manifest(ManifestSettings(root=root, photos=tmp_path / "mine"))


@pytest.mark.parametrize("name", ["names", "species", "providers"])
def test_a_list_that_force_would_delete_is_not_read(root: str, archive: Path, name: str) -> None:
    path = write_folder(Path(root, "manifest"), {"list.txt": "a-key\n"}) / "list.txt"
    given = {"archive": str(archive), name: path} if name == "providers" else {name: path}
    with pytest.raises(SettingsError, match=f"--{name}: .* lie in each other: choose another --root"):
        manifest(ManifestSettings(root=root, force=True, **given))
    assert path.exists()


def test_associated_media_without_an_address_are_named_in_the_refusal(root: str, tmp_path: Path) -> None:
    core = Part("occurrence", "id scientificName associatedMedia", [["1", "Rana alba", "in the drawer"]])
    path = write_zip(tmp_path / "a.zip", publisher_files(core))
    with pytest.raises(ArchiveError, match="lists no media at all, and its associatedMedia hold no address, so none"):
        manifest(ManifestSettings(root=root, archive=str(path)))


def test_an_archive_without_media_rows_is_refused(root: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, []))
    with pytest.raises(ArchiveError, match=r"a\.zip lists no media at all.*Darwin Core Archive"):
        manifest(ManifestSettings(root=root, archive=str(path)))


def test_an_archive_of_which_nothing_is_left_says_why(root: str, tmp_path: Path) -> None:
    media: list[Row] = [
        photo("4", "http://x.org/1.jpg"),
        photo("4", "http://x.org/2.jpg"),
        photo("9", "http://x.org/3.jpg"),
    ]
    path = write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, media))
    with pytest.raises(
        DataError,
        match=r"no photographs with a species in .*a\.zip: 3 rows were dropped \(2 no_species_key, 1 orphan\)",
    ):
        manifest(ManifestSettings(root=root, archive=str(path)))


def test_importing_the_stage_is_light() -> None:
    heavy = "{'polars', 'httpx', 'ray', 'torch'}"
    code = f"import sys, aitax_ray.manifest.manifest; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_query_json_tells_where_the_data_come_from_and_what_became_of_them(
    root: str, archive: Path, server: Server, gbif: Gbif
) -> None:
    gbif.download(archive=archive.read_bytes())
    report = manifest(ManifestSettings(root=root, doi=DOI, gbif_url=server.url, license="open", number=1))
    query = Storage(root).read_json(workspace.QUERY)
    assert (query["source"], query["doi"], query["download_key"], query["checklist_key"]) == (DOI, DOI, KEY, COL)
    assert query["predicate"] == gbif.downloads[KEY]["request"]["predicate"]
    assert query["license"] == "http://creativecommons.org/licenses/by-nc/4.0/legalcode"
    assert query["created"].startswith("2026-07-16")
    assert query["total_records"] == 3
    assert query["archive"] == "archive/archive.zip"
    assert query["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert query["counts"] == report.counts
    assert (
        query["reasons"]
        == report.reasons
        == {
            "license_not_admitted": 2,
            "not_a_photograph": 1,
            "no_species_key": 1,
            "orphan": 1,
        }
    )
    assert query["counts"]["kept"] + sum(query["reasons"].values()) == query["counts"]["rows_read"]
    assert {"aitax-ray", "python", "duckdb"} <= query["versions"].keys()
    assert (query["settings"]["license"], query["settings"]["number"]) == ("open", 1)


def test_a_folder_of_photographs_may_tell_more_in_metadata_csv(root: str, tmp_path: Path) -> None:
    lines = "file,license,creator,decimalLatitude,scientificName\n"
    lines += "Rana_alba/1.jpg,CC0,Ann,56.5,Rana alba L.\nRana_alba/2.jpg,,,,Rana alba L.\n"
    files: dict[str, str | bytes] = {"Rana_alba/1.jpg": "1", "Rana_alba/2.jpg": "2", "metadata.csv": lines}
    manifest(ManifestSettings(root=root, photos=write_folder(tmp_path / "photos", files)))
    found = tables(root)
    rows = {row["url"][-5:]: row for row in found[workspace.MEDIA].to_pylist()}
    assert (rows["1.jpg"]["license_id"], rows["1.jpg"]["creator"]) == ("CC0-1.0", "Ann")
    assert (rows["2.jpg"]["license_id"], rows["2.jpg"]["creator"]) == ("unknown", "")
    assert sorted(found[workspace.OCCURRENCES]["decimal_latitude"].to_pylist(), key=str) == [56.5, None]
    [taxon] = found[workspace.TAXA].to_pylist()
    assert (taxon["species_key"], taxon["name"], taxon["authorship"]) == ("Rana_alba", "Rana alba", "L.")


def test_the_order_and_place_of_lists_do_not_matter_but_their_content_does(
    root: str, archive: Path, tmp_path: Path
) -> None:
    one, same, other = (tmp_path / f"{name}.txt" for name in ("one", "same", "other"))
    for path, text in ((one, "d1\n"), (same, "d1\n"), (other, "d2\n")):
        path.write_text(text, encoding="utf-8")
    fields = [
        ManifestSettings(root=root, archive=str(archive), providers=p).result_fields() for p in (one, same, other)
    ]
    assert fields[0] == fields[1] != fields[2]
