import csv
import errno
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from aitax_ray import schemas, workspace
from aitax_ray.dataset import export as module
from aitax_ray.dataset.export import ExportSettings, export
from aitax_ray.errors import DataError, MissingArtifactError, SettingsError, StaleArtifactError, StorageError
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import build_settings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace

from .test_attribution import PHOTOS, TAXA, A, Row, make_root, photo


@pytest.fixture
def root(tmp_path: Path) -> str:
    return make_root(str(tmp_path / "root")).root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(root: str, to: str, out: Path, **more: Any) -> dict[str, int]:
    return export(build_settings(ExportSettings, {"root": root, "to": to, "output": str(out), **more}))


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def jpeg_of(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (number * 40, 0, 0)).save(data, "JPEG")
    return data.getvalue()


def key(number: int | str) -> str:
    return schemas.image_id(f"http://x.org/{number}")


OWN = schemas.image_id("file:///own/5.jpg")
FOLDERS = {
    f"train/Rana alba/{key(1)}.jpg", f"train/Rana alba/{key(2)}.jpg", f"train/Rana nigra/{OWN}.jpg",
    f"val/Rana nigra/{key(3)}.jpg", f"test/Rana nigra/{key(4)}.jpg",
}  # fmt: skip
TABLES = {"train/metadata.csv", "val/metadata.csv", "test/metadata.csv", "classes.json", "export.json"}


def test_every_photograph_lies_in_the_folder_of_its_species(root: str, out: Path) -> None:
    assert run(root, "imagefolder", out) == {"photographs": 5, "species": 2, "missing": 0}
    assert files(out) == FOLDERS | TABLES
    assert (out / f"val/Rana nigra/{key(3)}.jpg").read_bytes() == b"jpeg of http://x.org/3"
    classes = json.loads((out / "classes.json").read_bytes())
    assert [(c["class_index"], c["species_key"], c["folder"]) for c in classes] == [
        (0, "1", "Rana alba"),
        (1, "2", "Rana nigra"),
    ]


def test_torchvision_loads_the_folders(tmp_path: Path, out: Path) -> None:
    photos = [row | {"jpeg": jpeg_of(number)} for number, row in enumerate(PHOTOS)]
    run(make_root(str(tmp_path / "root"), photos).root, "imagefolder", out)
    dataset = ImageFolder(str(out / "train"))
    assert dataset.classes == ["Rana alba", "Rana nigra"]
    assert Counter(label for _, label in dataset) == {0: 2, 1: 1}
    assert dataset[0][0].size == (8, 6)
    assert ImageFolder(str(out / "val")).classes == ["Rana nigra"]


def test_one_metadata_file_serves_hugging_face_and_the_way_back(root: str, out: Path) -> None:
    run(root, "imagefolder", out)
    with (out / "train/metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert {row["file_name"] for row in rows} == {name[6:] for name in FOLDERS if name.startswith("train/")}
    assert [row["file"] for row in rows] == [row["file_name"] for row in rows]
    told = next(row for row in rows if key(2) in row["file"])
    assert told["creator"] == "=HYPERLINK(1)"  # as it is, else it would come back as another
    assert (told["identifier"], told["gbifID"], told["datasetKey"]) == ("http://x.org/2", "11", A)
    for side in ("val", "test"):
        assert len((out / side / "metadata.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_guess_at_types_finds_text_where_there_may_be_text(root: str, out: Path) -> None:
    run(root, "imagefolder", out)
    numbers = ["decimalLatitude", "decimalLongitude", "coordinateUncertaintyInMeters"]
    for side in ("train", "val", "test"):
        with (out / side / "metadata.csv").open(encoding="utf-8", newline="") as file:
            first = next(csv.DictReader(file))
        assert [name for name, text in first.items() if not text and name not in numbers] == []
        assert "" in [first[name] for name in numbers]


def test_nothing_is_lost_on_the_way_back_through_the_manifest(tmp_path: Path, out: Path) -> None:
    rich: Row = {
        "license": "http://creativecommons.org/licenses/by-nc/4.0/", "creator": 'Ann, "A."\nBee', "rights_holder": "-R",
        "publisher": "Musée", "references": "https://x.org/page", "title": "=A title", "description": "Two,\r\nlines",
        "decimal_latitude": -12.345678901234567, "decimal_longitude": 1e-7, "coordinate_uncertainty_m": 30.5,
        "event_date": "2020-07-06T12:00", "country_code": "NA", "basis_of_record": "HUMAN_OBSERVATION",
        "recorded_by": "Ann|Bob",
    }  # fmt: skip
    photos = [
        photo("http://x.org/1", "11", **rich),
        photo("http://x.org/2", "11", **rich | {"license": "cc0", "creator": "Bob"}),
        photo("http://x.org/3", "12", "2", dataset_key="", license="all rights reserved"),
        photo("http://x.org/4", "13", "3"),
    ]
    lineage = {"genus": "Rana", "family": "Ranidae", "order": "Anura", "class": "Amphibia"}
    names = lineage | {"phylum": "Chordata", "kingdom": "Animalia"}
    taxa = [
        TAXA[0] | names | {"vernacular_name": "White frog", "authorship": "L., 1758"},
        {"species_key": "2", "name": "Rana nigra", "scientific_name": "Rana nigra", "genus": "Rana"},
        {
            "species_key": "3",
            "name": "Rana nigra",
            "scientific_name": "Rana nigra Blume, 1799",
            "authorship": "x",
            "genus": "Rana",
        },
    ]
    first = make_root(str(tmp_path / "root"), photos, taxa)
    run(first.root, "imagefolder", out)
    back = str(tmp_path / "back")
    manifest(ManifestSettings(root=back, photos=out / "train"))

    def told(ws: Storage) -> tuple[dict[str, Row], dict[str, Row], dict[str, Row]]:
        media = ws.read_table(workspace.MEDIA).to_pylist()
        occurrences = ws.read_table(workspace.OCCURRENCES).to_pylist()
        taxa = ws.read_table(workspace.TAXA).to_pylist()
        ids = {row["image_id"]: row["url"].rsplit("/", 1)[-1].removesuffix(".jpg") for row in media}
        if all(len(name) < 40 for name in ids.values()):
            ids = {image_id: image_id for image_id in ids}
        return (
            {ids[row["image_id"]]: row for row in media},
            {row["gbif_id"]: row for row in occurrences},
            {row["scientific_name"]: row for row in taxa},
        )

    before, after = told(first.storage), told(Storage(back))
    kept = (
        ["gbif_id", "license", "creator", "rights_holder", "publisher", "dataset_key", "references", "title",
         "description"],
        [name for name in schemas.OCCURRENCES.names if name != "species_key"],
        ["name", "scientific_name", "vernacular_name", *lineage, "phylum", "kingdom"],
    )  # fmt: skip
    for old, new, columns in zip(before, after, kept, strict=True):
        assert {k: [row[c] for c in columns] for k, row in new.items()} == {
            k: [row[c] for c in columns] for k, row in old.items()
        }
    assert {row["license_id"] for row in after[0].values()} == {
        "CC-BY-NC-4.0", "CC0-1.0", "all-rights-reserved", "unknown",
    }  # fmt: skip
    assert {row["species_key"] for row in after[2].values()} == {"Rana alba", "Rana nigra (2)", "Rana nigra (3)"}


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # all files


def test_tars_hold_samples_as_webdataset_wants_them(root: str, out: Path) -> None:
    assert run(root, "webdataset", out, shard_size=2) == {"photographs": 5, "species": 2, "missing": 0}
    names = {f"{side}-{number:06}.tar" for side, number in [("train", 0), ("train", 1), ("val", 0), ("test", 0)]}
    assert files(out) == names | {"classes.json", "export.json"}
    train = members(out / "train-000000.tar") | members(out / "train-000001.tar")
    ids = list(dict.fromkeys(name.split(".")[0] for name in train))
    assert ids == sorted([key(1), key(2), OWN])  # a hash: neither by species nor by host
    assert list(train) == [f"{image_id}.{ending}" for image_id in ids for ending in ("jpg", "cls", "json")]
    assert train[f"{key(1)}.jpg"] == b"jpeg of http://x.org/1"
    assert train[f"{OWN}.cls"] == b"1"
    told = json.loads(train[f"{key(1)}.json"])
    assert told.items() >= {
        "image_id": key(1), "class_index": 0, "species": "Rana alba", "species_key": "1", "creator": 'Ann, "A."\nBee',
        "license_id": "CC-BY-NC-4.0", "occurrence": "https://www.gbif.org/occurrence/11", "url": "http://x.org/1",
    }.items()  # fmt: skip
    assert json.loads(members(out / "val-000000.tar")[f"{key(3)}.json"])["decimal_latitude"] == -1.25


def test_equal_data_make_equal_tars_however_they_are_stored(root: str, out: Path, tmp_path: Path) -> None:
    run(root, "webdataset", out, shard_size=2)
    storage = Storage(root)
    rows = storage.read_table(workspace.IMAGES).sort_by([("image_id", "descending")])
    for number in range(3):
        storage.delete(f"{workspace.IMAGES}/{number}.parquet")
    storage.write_table(f"{workspace.IMAGES}/all.parquet", rows)
    run(root, "webdataset", tmp_path / "again", shard_size=2)
    for path in out.glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_table_holds_every_column_and_photograph(root: str, out: Path) -> None:
    assert run(root, "csv", out) == {"photographs": 5, "species": 2}
    assert files(out) == {"photographs.csv", "export.json"}
    table = pl.read_csv(out / "photographs.csv", infer_schema=False)
    assert table.columns == list(module.COLUMNS)
    assert {*schemas.SPLIT.names, "species", "license", "creator", "references"} <= set(table.columns)
    row = table.row(by_predicate=pl.col("url") == "http://x.org/3", named=True)
    assert (row["split"], row["class_index"], row["decimal_latitude"], row["species"]) == (
        "val", "1", "-1.25", "Rana nigra",
    )  # fmt: skip


@pytest.mark.parametrize("to", ["imagefolder", "webdataset", "csv"])
def test_only_the_wanted_sides_are_written(root: str, out: Path, to: str) -> None:
    assert run(root, to, out, splits=["val", "test"])["photographs"] == 2
    assert not [name for name in files(out) if name.startswith("train")]


@pytest.mark.parametrize("to", ["imagefolder", "webdataset", "csv"])
def test_a_second_run_completes_what_is_missing_and_leaves_the_rest(root: str, out: Path, to: str) -> None:
    counts = run(root, to, out, shard_size=2)
    before = {name: (out / name).read_bytes() for name in files(out)}
    lost = next(path for path in sorted(out.rglob("*")) if path.suffix in (".jpg", ".tar", ".csv"))
    kept = [path for path in out.rglob("*") if path.suffix in (".jpg", ".tar") and path != lost]
    times = {path: path.stat().st_mtime_ns for path in kept}
    lost.unlink()
    lost.with_name(f".{lost.name}.aitax-part").write_bytes(b"half")
    assert run(root, to, out, shard_size=2) == counts
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert {path: path.stat().st_mtime_ns for path in kept} == times


def test_a_run_that_stops_half_way_goes_on(root: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module._photographs

    def stop(ws: Workspace, todo: pl.DataFrame) -> Iterator[pl.DataFrame]:
        yield next(whole(ws, todo))
        raise KeyboardInterrupt

    for to in ("imagefolder", "webdataset"):
        with monkeypatch.context() as patched:
            patched.setattr(module, "_photographs", stop)
            with pytest.raises(KeyboardInterrupt):
                run(root, to, out / to, shard_size=2)
        assert json.loads((out / to / "export.json").read_bytes())["complete"] is False
        run(root, to, out / to, shard_size=2)
        assert json.loads((out / to / "export.json").read_bytes())["complete"] is True
        assert not list((out / to).rglob(".*"))
    assert files(out / "imagefolder") == FOLDERS | TABLES


def test_photographs_that_are_not_stored_are_counted_and_told(
    root: str, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(root)
    lost = storage.read_table(f"{workspace.IMAGES}/0.parquet", ["image_id"])["image_id"].to_pylist()
    storage.delete(f"{workspace.IMAGES}/0.parquet")
    for to in ("imagefolder", "webdataset"):
        assert run(root, to, out / to)["missing"] == len(lost) == 2
    assert "2 photographs of the split are not in images/" in caplog.text
    assert files(out / "imagefolder") & FOLDERS == {name for name in FOLDERS if Path(name).stem not in lost}
    assert lost[0] not in (out / "imagefolder/train/metadata.csv").read_text(encoding="utf-8")
    for number in (1, 2):
        storage.delete(f"{workspace.IMAGES}/{number}.parquet")
    with pytest.raises(DataError, match="none of the split's photographs"):
        run(root, "imagefolder", out / "none")


def test_files_of_another_origin_are_refused_and_stay(root: str, out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    (out / ".x.aitax-part").touch()
    with pytest.raises(StorageError, match=r"holds files of another origin, such as thesis\.tex"):
        run(root, "imagefolder", out)
    (out / "export.json").write_text("[1]")
    with pytest.raises(StorageError, match="choose another --output"):
        run(root, "imagefolder", out)
    assert files(out) == {"thesis.tex", ".x.aitax-part", "export.json"}


@pytest.mark.parametrize("to", ["imagefolder", "webdataset", "csv"])
def test_what_was_added_to_an_export_is_told(root: str, out: Path, to: str) -> None:
    run(root, to, out)
    (out / "train" / "Bufo bufo").mkdir(parents=True)
    (out / "train" / "Bufo bufo" / "1.jpg").touch()
    (out / ".DS_Store").touch()
    with pytest.raises(StorageError, match=r"1 files that the export did not write, such as train/Bufo bufo/1\.jpg"):
        run(root, to, out)


def test_another_export_in_the_folder_is_refused(root: str, out: Path) -> None:
    run(root, "webdataset", out, shard_size=2)
    for to, more, told in [("webdataset", {"shard_size": 3}, "shard_size"), ("csv", {}, "to"),
                           ("webdataset", {"shard_size": 2, "splits": ["val"]}, "splits")]:  # fmt: skip
        with pytest.raises(StorageError, match=f"differs in .*{told}"):
            run(root, to, out, **more)
    Storage(root).write_bytes("split/note.txt", b"another split")
    with pytest.raises(StorageError, match="differs in split"):
        run(root, "webdataset", out, shard_size=2)


@pytest.mark.parametrize("to", ["imagefolder", "webdataset", "csv"])
def test_a_full_disk_is_told_and_leaves_no_half_file(
    root: str, out: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match="disk that is full: make room, and the same command goes on"):
            run(root, to, out)
    assert files(out) == set()
    run(root, to, out)


def test_a_url_or_a_file_is_no_output(root: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--output: s3://bucket/x is a URL, and this must be a local folder"):
        build_settings(ExportSettings, {"root": root, "to": "csv", "output": "s3://bucket/x"})
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file"):
        run(root, "csv", tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be written"):
        run(root, "csv", tmp_path / "file" / "below")


@pytest.mark.parametrize("folder", ["split", "model/x", "images"])
def test_the_folders_of_the_stages_are_not_written_to(root: str, folder: str) -> None:
    with pytest.raises(SettingsError, match="where a stage writes"):
        run(root, "csv", Path(root) / folder)
    run(root, "csv", Path(root) / "export")


def test_an_incomplete_or_stale_split_is_told(root: str, out: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError):
        run(str(tmp_path / "none"), "csv", out)
    Storage(root).write_json("manifest/more.json", 1)
    with pytest.raises(StaleArtifactError):
        run(root, "csv", out)
    assert not out.exists()


def test_a_side_without_photographs_is_told(tmp_path: Path, out: Path) -> None:
    root = make_root(str(tmp_path / "root"), PHOTOS[:2]).root
    with pytest.raises(DataError, match="no photographs in val, test"):
        run(root, "imagefolder", out, splits=["val", "test"])
    run(root, "imagefolder", out)
    assert not (out / "val").exists()


def test_a_root_that_is_no_local_folder_will_do(out: Path) -> None:
    root = make_root("memory://export/root").root
    assert run(root, "imagefolder", out / "a")["photographs"] == 5
    assert run(root, "webdataset", out / "b")["photographs"] == 5
