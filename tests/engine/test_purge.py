"""A root after the purge: the photograph is nowhere, everything else is as it was, and nothing is stale."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aitax_ray import pipeline, takedowns, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.info import FORMAT_VERSION
from aitax_ray.engine.matches import find_photographs, record_matches
from aitax_ray.engine.publish import publish
from aitax_ray.engine.purge import purge, purge_engine
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.errors import DataError, StorageError
from aitax_ray.images import inventory
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.serving.identifier import Identifier
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Kind, Request
from aitax_ray.workspace import FOLDERS, Workspace
from tests.kills import killed_at_each_write
from tests.small import KEYS, photo

# Files with times, or with digests of these.
CHANGING = (".html", ".md", "croissant.json", "data_card.json", "files.json", "search.json", "digests.json")
STAGES = [stage for stage in FOLDERS if stage != "publish"]


def take_down(ws: Workspace, kind: Kind, value: str) -> Request:
    request = Request(kind=kind, value=value, requested=takedowns.now())
    (recorded,) = record_matches(ws.storage, [request], find_photographs(ws.storage, Criteria([request])))
    return recorded


def of_side(ws: Workspace, side: str, number: int = 0) -> dict[str, str]:
    """A photograph of a side of the split, as manifest/media/ has it."""
    split = sorted(ws.storage.read_table(workspace.SPLIT).to_pylist(), key=lambda row: str(row["image_id"]))
    wanted = [row["image_id"] for row in split if row["split"] == side][number]
    return next(r for r in ws.storage.read_table(workspace.MEDIA).to_pylist() if r["image_id"] == wanted)


def traces(ws: Workspace, row: dict[str, str]) -> list[bytes]:
    """What must be in no file: the photograph's address and key, its JPEG, its author, its thumbnails."""
    images = {r["image_id"]: r["jpeg"] for r in ws.storage.read_table(workspace.IMAGES).to_pylist()}
    found = [row["url"].encode(), row["image_id"].encode(), row["creator"].encode(), images[row["image_id"]]]
    for file in ws.storage.files(workspace.THUMBNAILS, ".parquet"):
        thumbnails = ws.storage.read_table(file.path).to_pylist()
        found += [r["thumbnail"] for r in thumbnails if r["image_id"] == row["image_id"]]
    return found


def held(root: str) -> dict[str, bytes]:
    """The content of each file that a photograph may be in; tables are written without compression."""
    contents = {}
    for path in sorted(Path(root).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith("takedowns/") and name != "engines/withdrawn.json":
            contents[name] = path.read_bytes()
            if name.endswith(".parquet"):
                rows = Storage(root).read_table(name).to_pylist()
                contents[name] += b"\0".join(
                    value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row.values()
                )
    return contents


def places(root: str, trace: bytes) -> list[str]:
    return [name for name, content in held(root).items() if trace in content]


def assert_gone(ws: Workspace, found: list[bytes]) -> None:
    # Engines of earlier versions keep the keys of test photographs, to be compared with.
    wrong = {
        trace[:60]: names
        for trace in found
        if (
            names := [
                n for n in places(ws.root, trace) if not n.endswith("answers.parquet") or not n.startswith("engines/")
            ]
        )
    }
    assert wrong == {}


def state(ws: Workspace) -> dict[str, object]:
    """All that a purge may change, apart from times: tables by content, other files by their bytes."""
    found: dict[str, Any] = {}
    for file in ws.storage.files(""):
        if file.path.endswith(".parquet"):
            found[file.path] = sorted(map(str, ws.storage.read_table(file.path).to_pylist()))
        elif file.path.endswith(("report.json", "engine.json", "classifier.json")):
            found[file.path] = ws.storage.read_json(file.path)
            for name in [name for name in found[file.path].get("files", {}) if name.endswith("search.json")]:
                del found[file.path]["files"][name]  # it has times
        elif not file.path.endswith(CHANGING):
            found[file.path] = ws.storage.read_bytes(file.path)
    return found


@pytest.mark.parametrize("side", ["train", "val", "test"])
def test_a_withdrawn_photograph_is_in_no_file_after_publish(published: Workspace, side: str) -> None:
    row = of_side(published, side)
    found = traces(published, row)
    assert all(places(published.root, trace) for trace in found)
    assert side != "train" or len(found) == 5
    take_down(published, "image", row["image_id"])
    publish(PublishSettings(root=published.root))
    assert_gone(published, found)
    assert published.storage.read_json("engines/withdrawn.json") == {"image_ids": [row["image_id"]]}


def test_nothing_is_stale_and_nothing_else_is_lost(published: Workspace) -> None:
    row = of_side(published, "train")
    digests = {stage: published.digest(stage) for stage in STAGES}
    before = {name: published.storage.read_table(path).num_rows for name, path in TABLES.items()}
    weights = published.storage.sha256(workspace.WEIGHTS)
    take_down(published, "image", row["image_id"])
    purge(published)
    assert {stage: published.digest(stage) for stage in STAGES} == digests
    after = {name: published.storage.read_table(path).num_rows for name, path in TABLES.items()}
    assert after == {name: num - 1 for name, num in before.items()}
    assert published.storage.sha256(workspace.WEIGHTS) == weights
    assert str(inventory.find_changes(published.storage)) == ""
    manifest, download = published.require("manifest"), published.require("download")
    assert (manifest.counts["kept"], manifest.counts["occurrences"]) == (47, 24)
    assert manifest.reasons == {"duplicate_url": 47, "withdrawn": 2}
    assert manifest.counts["kept"] + sum(manifest.reasons.values()) == manifest.counts["rows_read"]
    assert (download.counts["urls"], download.counts["ok"]) == (47, 47)
    split = published.require("split")
    assert sum(split.counts[side] for side in ("train", "val", "test")) == 47
    taxa = {r["species_key"]: r for r in published.storage.read_table(workspace.TAXA).to_pylist()}
    assert {key: taxa[key]["num_images"] for key in KEYS} == dict.fromkeys(KEYS, 16) | {row["species_key"]: 15}
    assert published.storage.read_bytes(workspace.ATTRIBUTION).count(b"\r\n") == 48


TABLES = {
    "media": workspace.MEDIA,
    "images": workspace.IMAGES,
    "ledger": workspace.LEDGER,
    "split": workspace.SPLIT,
    "embeddings": workspace.EMBEDDINGS,
}


def test_an_occurrence_without_photographs_is_forgotten(published: Workspace) -> None:
    row = of_side(published, "val")
    take_down(published, "occurrence", row["gbif_id"])
    purge(published)
    occurrences = published.storage.read_table(workspace.OCCURRENCES)["gbif_id"].to_pylist()
    assert len(occurrences) == 23
    assert row["gbif_id"] not in occurrences
    taxa = {r["species_key"]: r for r in published.storage.read_table(workspace.TAXA).to_pylist()}
    concerned = taxa[row["species_key"]]
    assert (concerned["num_images"], concerned["num_occurrences"]) == (14, 7)


def test_the_engine_answers_without_it_and_with_all_others(published: Workspace) -> None:
    row = of_side(published, "train")
    before = open_engine(published.root)
    rows = {shown["image_id"] for shard in before.index().shards for shown in shard.rows.to_pylist()}
    take_down(published, "image", row["image_id"])
    purge(published)
    engine = open_engine(published.root)
    engine.verify()
    assert engine.info.num_indexed == before.info.num_indexed - 1
    left = {shown["image_id"] for shard in engine.index().shards for shown in shard.rows.to_pylist()}
    assert left == rows - {row["image_id"]}
    index = engine.index()
    near, _ = index.search(np.asarray(index.shards[0].vectors, np.float32), 1)
    assert len(set(near.ravel().tolist())) == len(index)
    answer = Identifier(engine).identify([photo(KEYS[0], 0)], num_illustrations=50)
    assert answer.candidates[0].illustrations


def test_a_second_purge_does_nothing(published: Workspace) -> None:
    take_down(published, "image", of_side(published, "train")["image_id"])
    purge(published)
    before = {path: path.stat().st_mtime_ns for path in Path(published.root).rglob("*")}
    purge(published)
    assert {path: path.stat().st_mtime_ns for path in Path(published.root).rglob("*")} == before


def test_without_take_downs_nothing_is_searched_or_written(published: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(published.root).rglob("*")}
    purge(published)
    assert {path: path.stat().st_mtime_ns for path in Path(published.root).rglob("*")} == before


def test_a_photograph_that_came_after_the_request_is_found_by_its_author(published: Workspace) -> None:
    """As when a manifest was being made while the request was written."""
    row, other = of_side(published, "train"), of_side(published, "test")
    request = Request(kind="creator", value=row["creator"], requested=takedowns.now(), image_ids=[other["image_id"]])
    takedowns.write_request(published.storage, request)
    found = traces(published, row) + traces(published, other)
    purge(published)
    assert_gone(published, found)
    (recorded,) = takedowns.read_requests(published.storage)
    assert set(recorded.image_ids) == {row["image_id"], other["image_id"]}
    assert set(published.storage.read_json("engines/withdrawn.json")["image_ids"]) == set(recorded.image_ids)


def test_versions_before_the_current_one_do_not_keep_it(published: Workspace) -> None:
    first = (Path(published.root) / "engines" / "current").read_text().strip()
    publish(PublishSettings(root=published.root, min_score=0.02))
    row = of_side(published, "train")
    found = traces(published, row)
    take_down(published, "image", row["image_id"])
    publish(PublishSettings(root=published.root, min_score=0.02))
    assert_gone(published, found)
    open_engine(f"{published.root}/engines/{first}").verify()


def test_an_engine_of_an_earlier_format_is_deleted_if_it_is_not_in_use(
    published: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    row = of_side(published, "train")
    rows = published.storage.read_table(workspace.MEDIA)
    for name in ("20250101-000000-00000000", "20250101-000000-11111111"):
        table = rows if name.endswith("0") else rows.slice(0, 0)
        published.storage.write_table(f"engines/{name}/rows.parquet", table)
        published.storage.write_json(
            f"engines/{name}/engine.json", {"format_version": 3, "files": {"rows.parquet": ""}}
        )
    take_down(published, "image", row["image_id"])
    purge(published)
    names = [path.rsplit("/", 1)[-1] for path in published.storage.entries("engines")]
    assert "20250101-000000-00000000" not in names
    assert "20250101-000000-11111111" in names
    assert "it holds withdrawn photographs, in an earlier format" in caplog.text


def test_an_engine_that_cannot_be_read_is_deleted_unless_it_is_in_use(
    published: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    current = published.storage.read_bytes(workspace.CURRENT).decode().strip()
    shutil.copytree(
        Path(published.root, "engines", current), Path(published.root, "engines", "20250101-000000-00000000")
    )
    take_down(published, "image", of_side(published, "train")["image_id"])
    for name in (current, "20250101-000000-00000000"):
        (shard,) = published.storage.entries(f"engines/{name}/shards")
        published.storage.write_bytes(f"{shard}/rows.arrow", b"rubbish")
    purge(published)
    assert not published.storage.exists("engines/20250101-000000-00000000")
    assert published.storage.exists(f"engines/{current}/engine.json")
    assert f"{current} must be published again, and then deleted: it may hold withdrawn" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_an_engine_stays_when_the_disk_and_not_the_engine_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> int:
        raise StorageError("cannot be written") from OSError(number, os.strerror(number))

    storage = Storage(str(tmp_path))
    files = {"shards/00000/rows.arrow": {"size": 1, "sha256": ""}}
    storage.write_json("engines/a/engine.json", {"format_version": FORMAT_VERSION, "files": files})
    monkeypatch.setattr("aitax_ray.engine.purge.write_without", fail)
    with pytest.raises(StorageError, match="cannot be written"):
        purge_engine(storage, "engines/a", ["key"])
    assert storage.exists("engines/a/engine.json")


def test_a_copy_of_the_engine_loses_it_with_the_next_publish(published: Workspace, tmp_path: Path) -> None:
    settings = PublishSettings(root=published.root, to=str(tmp_path / "copy"))
    publish(settings)
    row = of_side(published, "train")
    found = traces(published, row)
    take_down(published, "image", row["image_id"])
    assert len(places(str(tmp_path / "copy"), found[0])) == 1
    publish(settings)
    assert [places(str(tmp_path / "copy"), trace) for trace in (found[0], found[2], found[4])] == [[], [], []]
    open_engine(str(tmp_path / "copy")).verify()
    assert takedowns.read_withdrawn(Storage(str(tmp_path / "copy")), "withdrawn.json") == {row["image_id"]}


def test_suspects_and_their_thumbnails_are_deleted(published: Workspace) -> None:
    from aitax_ray.evaluation.pages import write_pages
    from aitax_ray.evaluation.suspect_list import COLUMNS

    rows = [of_side(published, "train", number) for number in (0, 1)]
    header = ",".join(COLUMNS)
    lines = [f"{row['image_id']},Rana alba,Rana rubra,0.9,0.1,,{row['url']},{row['creator']}," for row in rows]
    published.storage.write_bytes(workspace.SUSPECTS, "\n".join([header, *lines, ""]).encode())
    metrics = published.storage.read_json(workspace.EVALUATION)
    species = published.storage.read_table(workspace.PER_SPECIES).to_pylist()
    suspects = [
        {"image_id": r["image_id"], "creator": r["creator"], "confidence": 0.9, "label_score": 0.1} for r in rows
    ]
    write_pages(published, "evaluation", metrics, species, suspects, 30)
    found = traces(published, rows[0])
    take_down(published, "image", rows[0]["image_id"])
    purge(published)
    assert_gone(published, found)
    text = published.storage.read_bytes(workspace.SUSPECTS).decode()
    assert rows[1]["image_id"] in text
    assert rows[1]["creator"] in published.storage.read_bytes("evaluation/report.html").decode()


def test_all_photographs_of_an_author_of_a_species_may_go(published: Workspace) -> None:
    """Also the whole index of a class, and all its rows in the split."""
    gone = [r for r in published.storage.read_table(workspace.MEDIA).to_pylist() if r["species_key"] == KEYS[1]]
    requests = [
        Request(kind="occurrence", value=gbif_id, requested=takedowns.now()) for gbif_id in {r["gbif_id"] for r in gone}
    ]
    record_matches(published.storage, requests, find_photographs(published.storage, Criteria(requests)))
    found = [trace for row in gone for trace in traces(published, row)]
    publish(PublishSettings(root=published.root))
    assert_gone(published, found)
    answer = Identifier(open_engine(published.root)).identify([photo(KEYS[1], 0)])
    shown = {candidate.taxon.species_key: len(candidate.illustrations) for candidate in answer.candidates}
    assert shown[KEYS[1]] == 0


def test_when_all_photographs_are_withdrawn_the_stages_say_so_and_none_waits(published: Workspace) -> None:
    rows = published.storage.read_table(workspace.MEDIA).to_pylist()
    found = [trace for row in rows for trace in traces(published, row)[:1]]
    requests = [
        Request(kind="occurrence", value=gbif_id, requested=takedowns.now()) for gbif_id in {r["gbif_id"] for r in rows}
    ]
    record_matches(published.storage, requests, find_photographs(published.storage, Criteria(requests)))
    purge(published)
    report = published.report("index")
    assert report is not None
    assert report.counts["images"] == 0
    assert not any(
        names for trace in found if (names := [n for n in places(published.root, trace) if "engines" not in n])
    )
    purge(published)
    with pytest.raises(DataError, match="there is nothing to index"):
        index(IndexSettings(root=published.root, force=True))


def test_after_a_kill_at_any_write_the_next_publish_finishes(
    published: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = of_side(published, "train")
    found = traces(published, row)
    digests = {stage: published.digest(stage) for stage in STAGES}
    take_down(published, "image", row["image_id"])
    for slow in ("evaluation.pages.write_pages", "dataset.card.write_card"):  # they overwrite their files
        monkeypatch.setattr(f"aitax_ray.{slow}", lambda *_: None)
    undisturbed = Workspace(str(shutil.copytree(published.root, tmp_path / "undisturbed")))
    purge(undisturbed)
    expected, numbers = state(undisturbed), []
    copy = Workspace(str(shutil.copytree(published.root, tmp_path / "copy")))
    for number in killed_at_each_write(lambda: purge(copy), monkeypatch):
        numbers.append(number)
        purge(copy)
        assert state(copy) == expected
        assert {stage: copy.digest(stage) for stage in STAGES} == digests
        shutil.rmtree(copy.root)
        shutil.copytree(published.root, copy.root)
    assert len(numbers) > 25
    assert_gone(undisturbed, found[3:4])


def test_no_stage_reads_a_withdrawn_photograph_and_a_dry_run_deletes_none(published: Workspace) -> None:
    row = of_side(published, "train")
    take_down(published, "image", row["image_id"])
    stages = {stage.name: stage for stage in pipeline.STAGES}
    seen: list[int] = []

    def count(_: object) -> workspace.StageReport:
        seen.append(published.storage.read_table(workspace.IMAGES).num_rows)
        return published.require("split")

    settings = ManifestSettings(root=published.root, photos=Path(published.root), dry_run=True)
    pipeline.run_stage(replace(stages["manifest"], run=count), settings)
    pipeline.run_stage(replace(stages["split"], run=count), SplitSettings(root=published.root))
    assert seen == [48, 47]
