"""`index --add` on tiny roots: the model knows two species; another root has one of them and a new one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.dataset.reasons import HELD_OUT
from aitax_ray.engine.matches import find_photographs, record_matches
from aitax_ray.engine.purge import purge
from aitax_ray.errors import MissingArtifactError
from aitax_ray.index import add, added, overlap
from aitax_ray.index.assemble import Share, write_share
from aitax_ray.index.embeddings import source_suffix
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import open_index, read_rows
from aitax_ray.index.thumbnails import open_thumbnails, write_thumbnails
from aitax_ray.schemas import image_id
from aitax_ray.takedowns import Request, now
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.small import KEYS, SIDES, PredictedHere, trained_on_two, write_root

FIRST, SECOND, NEW = KEYS
MORE = ("train",) * 4 + ("val",) * 2 + ("test",) * 2


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for module in ("embed", "add"):
        monkeypatch.setattr(f"aitax_ray.index.{module}.predictions", PredictedHere)
    return Workspace(str(shutil.copytree(trained_on_two(tmp_path_factory), tmp_path / "root")))


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    """A root with other photographs of the second species, and with those of a new one."""
    return write_root(tmp_path / "other", {SECOND: MORE, NEW: SIDES}, first=100)


def run(root: Workspace, *others: Workspace, **settings: Any) -> Any:
    given = {"root": root.root, "add": [other.root for other in others], "thumbnails": False, **settings}
    return index(IndexSettings.model_validate(given))


def edit(ws: Workspace, path: str, change: Any) -> None:
    """Change the rows of a table; None deletes a row."""
    table = ws.storage.read_table(path)
    rows = [row for row in map(change, table.to_pylist()) if row]
    ws.storage.write_table(path, pa.Table.from_pylist(rows, table.schema))


def test_photographs_of_the_other_root_are_indexed_and_new_species_follow_the_trained_ones(
    root: Workspace, other: Workspace
) -> None:
    report = run(root, other)
    assert report.counts == {
        "images": 2 * 8 + 4 + 8, "shards": 1, "added_train": 4 + 8, "added_test": 2 + 4, "added_species": 1,
    }  # fmt: skip
    assert report.reasons == {}
    rows = read_rows(root.storage).to_pylist()
    assert [row["class_index"] for row in rows] == [0] * 8 + [1] * 12 + [2] * 8
    credit = {row["image_id"]: row["creator"] for row in rows}
    assert credit[image_id(f"https://photos.example/{NEW}/100.jpg")] == f"Author of {NEW}/100"
    assert {row["split"] for row in rows} == {"train"}
    assert added.read_added_classes(root) == [NEW]
    assert added.read_info(root).classes == KEYS
    names = added.read_joined(root, workspace.TAXA, ["species_key", "name"], schemas.TAXA).to_pylist()
    assert [row["species_key"] for row in names].count(NEW) == 1
    with open_index(root.storage) as found:
        neighbors, similarities = found.search(found.shards[0].vectors.astype(np.float32), 1)
        # Some photographs differ so little that on some processors another one is found in the place of the same one.
        assert np.mean(neighbors[:, 0] == np.arange(len(rows))) > 0.8
        np.testing.assert_allclose(similarities, 1, atol=2e-3)


def test_the_new_species_is_recognised_and_the_trained_ones_keep_their_names(root: Workspace, other: Workspace) -> None:
    run(root, other)
    split = added.read_joined(root, workspace.SPLIT).to_pylist()
    of_test = {row["image_id"]: KEYS.index(row["species_key"]) for row in split if row["split"] == "test"}
    embedded = {
        key: np.array(unit, np.float32) * length[0]
        for rows in added.read_views(root)
        for key, unit, length in zip(*(rows[name].to_pylist() for name in ("image_id", "unit", "length")), strict=True)
    }
    tested = [(embedded[key], target) for key, target in of_test.items() if key in embedded]
    logits = added.read_head(root)(np.stack([embedding for embedding, _ in tested]))
    assert logits.shape == (len(tested), 3)
    target = np.array([target for _, target in tested])
    hit = logits.argmax(axis=1) == target
    assert hit[target == 2].mean() >= 0.75
    assert hit[target == 1].mean() == 1
    # The rows of the trained species are as they were.
    _, extended = added.read_classifier(root)
    weight = extended.head.weight.detach().numpy()
    assert weight.shape[0] == 3
    from aitax_ray.training.predict import read_classifier

    np.testing.assert_array_equal(weight[:2], read_classifier(root)[1].head.weight.detach().numpy())


def test_a_root_with_known_species_only_adds_photographs_and_leaves_the_classifier_alone(
    root: Workspace, tmp_path: Path
) -> None:
    other = write_root(tmp_path / "other", {FIRST: MORE, SECOND: MORE}, first=100)
    report = run(root, other)
    assert report.counts["added_species"] == 0
    assert report.counts["added_train"] == 8
    assert added.read_info(root).classes == KEYS[:2]
    assert added.read_head(root)(np.zeros((1, added.read_info(root).embedding_size), np.float32)).shape == (1, 2)


def test_what_both_roots_have_is_left_out_with_a_reason(root: Workspace, tmp_path: Path) -> None:
    # Numbers 0 to 7 are in train here, 8 to 11 in val, 12 to 15 in test.
    sides = ("train",) * 14 + ("train", "test", "train")
    report = run(root, write_root(tmp_path / "other", {SECOND: sides, NEW: ("train", "train")}, first=2))
    assert report.reasons == {overlap.IN_TRAIN: 6, overlap.IN_TEST: 8}
    assert report.counts["added_train"] == 2 + 2
    ids = [row["image_id"] for row in read_rows(root.storage).to_pylist()]
    assert len(ids) == len(set(ids)) == 16 + 4


def test_a_photograph_of_two_added_roots_counts_once(root: Workspace, other: Workspace, tmp_path: Path) -> None:
    again = write_root(tmp_path / "again", {NEW: ("train",) * 10}, first=100)
    report = run(root, other, again)
    assert report.reasons == {overlap.IN_TRAIN: 8, overlap.IN_TEST: 2}
    assert report.counts["images"] == 2 * 8 + 4 + 8


def test_withdrawn_photographs_are_left_out(root: Workspace, other: Workspace) -> None:
    from aitax_ray.takedowns import Request, now, write_request

    write_request(root.storage, Request(kind="creator", value=f"author of {NEW.lower()}/100", requested=now()))
    write_request(
        other.storage, Request(kind="image", value=image_id(f"https://photos.example/{NEW}/101.jpg"), requested=now())
    )
    report = run(root, other)
    assert report.reasons == {overlap.WITHDRAWN: 2}
    assert report.counts["added_train"] == 4 + 6


def test_an_added_photograph_that_is_withdrawn_later_is_gone_and_stays_gone(
    root: Workspace, other: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several shards, of all sides, and thumbnails; also when all is made again from the other root."""
    monkeypatch.setattr("aitax_ray.index.distributed.write_shares", write_here)
    for module in ("index", "add"):
        monkeypatch.setattr(f"aitax_ray.index.{module}.make_thumbnails", thumbnails_here)
    settings = {"sides": "all", "views": 2, "photographs_per_shard": 15, "thumbnails": True, "thumbnail_size": 32}
    before = run(root, other, **settings)
    assert before.counts["images"] == 2 * len(SIDES) + len(MORE) + len(SIDES)
    assert before.counts["shards"] == 4
    gone = [image_id(f"https://photos.example/{NEW}/{number}.jpg") for number in (100, 115)]  # of train and of test
    requests = [Request(kind="image", value=key, requested=now()) for key in gone]
    record_matches(root.storage, requests, find_photographs(root.storage, Criteria(requests)))
    purge(root)
    report = run(root, other, **settings)
    assert report.started == before.started  # nothing is made again
    assert report.counts["images"] == before.counts["images"] - 2
    for again in (report, run(root, other, force=True, **settings)):
        assert again.counts["images"] == report.counts["images"]
        for file in root.storage.files("index"):
            content = root.storage.read_bytes(file.path)
            if file.path.endswith(".parquet"):
                content += str(root.storage.read_table(file.path).to_pylist()).encode()
            assert not any(key.encode() in content for key in gone), file.path
        with open_index(root.storage) as found:
            vectors = np.concatenate([shard.vectors for shard in found.shards]).astype(np.float32)
            neighbors, _ = found.search(vectors, 1)
            assert neighbors[:, 0].tolist() == list(range(len(found)))


def write_here(ws: Workspace, settings: IndexSettings, batches: Any, shares: list[Share]) -> None:
    for share in shares:
        write_share(ws, settings, batches, share)


def thumbnails_here(ws: Workspace, labels: Any, size: int, source: Workspace | None = None) -> None:
    thumbnails = open_thumbnails(ws.storage, size, source_suffix(source) if source else "")
    images = (source or ws).storage.read_table(workspace.IMAGES, ["image_id", "jpeg"])
    keys = pa.array([key.decode() for key in labels.image_ids.tolist()])
    images = images.filter(pc.is_in(images["image_id"], keys))
    write_thumbnails(images, thumbnails, size)


def test_species_that_the_root_lists_without_using_them_are_no_obstacle(root: Workspace, other: Workspace) -> None:
    taxa = root.storage.read_table(workspace.TAXA)
    assert NEW in taxa["species_key"].to_pylist()  # the manifest lists it; no photograph is in the split
    run(root, other)
    joined = added.read_joined(root, workspace.TAXA, schema=schemas.TAXA)["species_key"].to_pylist()
    assert sorted(joined) == KEYS


def test_a_change_of_the_other_root_runs_the_stage_again_and_embeds_only_what_is_new(
    root: Workspace, other: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(root, other)
    assert run(root, other) == first
    edit(other, workspace.SPLIT, lambda row: None if row["species_key"] == SECOND else row)
    monkeypatch.setattr("aitax_ray.index.add.predictions", lambda *_, **__: pytest.fail("embedded again"))
    second = run(root, other)
    assert second.counts["added_train"] == 8
    assert second.fingerprint != first.fingerprint


def test_without_add_what_was_added_is_gone(root: Workspace, other: Workspace) -> None:
    run(root, other)
    report = run(root)
    assert report.counts == {"images": 16, "shards": 1}
    assert added.read_added_classes(root) == []
    assert not root.storage.entries(workspace.ADDED)
    assert not root.storage.entries(workspace.ADDED_VIEWS)


def test_the_other_root_is_not_needed_after_the_stage(root: Workspace, other: Workspace) -> None:
    run(root, other)
    shutil.rmtree(other.root)
    assert added.read_info(root).classes == KEYS
    with pytest.raises(MissingArtifactError, match=f"run `aitax manifest --root {other.root}` first"):
        run(root, other)
    assert root.report("index") is not None


def test_a_run_that_was_killed_continues(root: Workspace, other: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(root, other)
    ids = sorted(key for rows in added.read_views(root) for key in rows["image_id"].to_pylist())
    (weight,) = (added.read_classifier(root)[1].head.weight.detach().numpy(),)
    with monkeypatch.context() as patch:
        patch.setattr("aitax_ray.index.extend.fit_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(root, other, force=True)
    with monkeypatch.context() as patch:
        patch.setattr("aitax_ray.index.add.predictions", lambda *_, **__: pytest.fail("embedded again"))
        again = run(root, other)
    assert again.counts == expected.counts
    for name in ("scale", "shift"):
        assert again.metrics[name] == expected.metrics[name]
    assert sorted(key for rows in added.read_views(root) for key in rows["image_id"].to_pylist()) == ids
    np.testing.assert_array_equal(added.read_classifier(root)[1].head.weight.detach().numpy(), weight)


def test_held_out_photographs_keep_their_side_unless_their_species_is_added(root: Workspace, tmp_path: Path) -> None:
    key = image_id(f"https://photos.example/{NEW}/100.jpg")
    row = {"image_id": key, "gbif_id": "", "species_key": NEW, "reason": HELD_OUT, "detail": "", "cluster": ""}
    excluded = pa.Table.from_pylist([row], schemas.EXCLUDED)
    root.storage.write_table(workspace.EXCLUDED, excluded)
    root.storage.write_table("images/c.parquet", stored_photograph(key))
    new, known = (add._read_photographs(write_root(tmp_path / key, {key: MORE}, first=100)) for key in (NEW, FIRST))
    assert key in add._read_here(root, [known])["image_id"].to_list()
    assert key not in add._read_here(root, [known, new])["image_id"].to_list()


def stored_photograph(key: str) -> pa.Table:
    return pa.Table.from_pylist([blank_row(schemas.IMAGES, image_id=key)], schemas.IMAGES)
