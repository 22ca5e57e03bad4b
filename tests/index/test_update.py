import logging
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.index import update
from aitax_ray.index.build import MIN_FOR_TREE, SearchOptions
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.searcher import Searcher
from aitax_ray.index.update import update_index
from tests.index.vectors import build, clustered_vectors, near, recall, write_vectors

VECTORS = clustered_vectors(7000)
LESS = SearchOptions(recall=0.9)  # than the earlier search reached


@pytest.fixture
def rebuilt(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which a search was built anew."""
    folders: list[Path] = []
    real = update.build_index

    def build_index(folder: Path, options: SearchOptions | None = None) -> SearchInfo:
        folders.append(folder)
        return real(folder, options)

    monkeypatch.setattr(update, "build_index", build_index)
    return folders


def origin_of(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The place in `before` of each number in `now`, -1 where there is none."""
    place = np.full(len(VECTORS), -1)
    place[before] = np.arange(len(before))
    return place[now]


def test_vectors_are_added_and_deleted_again_and_again(tmp_path: Path, rebuilt: list[Path]) -> None:
    rng = np.random.default_rng(0)
    before = np.sort(rng.choice(len(VECTORS), 6000, replace=False))
    build(tmp_path / "0", VECTORS[before])
    for number in (1, 2, 3):
        gone = rng.choice(before, 200, replace=False)
        others = np.setdiff1d(np.arange(len(VECTORS)), before)
        now = np.sort(np.concatenate([np.setdiff1d(before, gone), rng.choice(others, 300, replace=False)]))
        folder = write_vectors(tmp_path / str(number), VECTORS[now])
        info = update_index(tmp_path / str(number - 1), folder, origin_of(before, now), LESS)
        searcher, queries = Searcher(folder, len(now)), near(VECTORS[now], seed=number)
        assert info.num_rows == len(now)
        assert recall(searcher.search(queries, 10)[0], VECTORS[now], queries) > 0.9
        itself = searcher.search(VECTORS[now], 1)[0][:, 0] == np.arange(len(now))
        assert itself.mean() > 0.98
        assert itself[origin_of(before, now) < 0].mean() > 0.98
        before = now
    assert rebuilt == []


def test_the_leaves_follow_the_update(tmp_path: Path, rebuilt: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "old", VECTORS[:6000])
    folder = write_vectors(tmp_path / "new", VECTORS[100:6500])
    update_index(tmp_path / "old", folder, origin_of(np.arange(6000), np.arange(100, 6500)), LESS)
    assert rebuilt == []
    monkeypatch.setattr("aitax_ray.index.scann_tree.is_available", lambda: False)
    searcher = Searcher(folder, 6400)
    assert searcher.method == "leaves"
    assert (searcher.search(VECTORS[100:6500], 1)[0][:, 0] == np.arange(6400)).mean() > 0.98


def test_a_search_whose_recall_has_fallen_is_built_anew(
    tmp_path: Path, rebuilt: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aitax_ray.index.update")
    # Hardly any leaf is searched: enough by hand, too little for what is asked for now.
    build(tmp_path / "old", VECTORS[:6000], leaves_to_search=0.001, reorder=10)
    folder = write_vectors(tmp_path / "new", VECTORS[:6100])
    origin = origin_of(np.arange(6000), np.arange(6100))
    info = update_index(tmp_path / "old", folder, origin, SearchOptions(recall=0.9))
    assert rebuilt == [folder]
    assert info.measured.recall_at_10 >= 0.9
    assert any("it is built anew" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (SearchOptions(), 3000),  # too many are new
        (SearchOptions(leaves=30), 6000),
        (SearchOptions(compression=8), 6000),
        (SearchOptions(memory=7000 * 40), 6000),
    ],
)
def test_other_settings_and_large_changes_build_anew(
    options: SearchOptions, kept: int, tmp_path: Path, rebuilt: list[Path]
) -> None:
    build(tmp_path / "old", VECTORS[:6000])
    folder = write_vectors(tmp_path / "new", VECTORS[:6100])
    origin = origin_of(np.arange(kept), np.arange(6100))
    update_index(tmp_path / "old", folder, origin, options)
    assert rebuilt == [folder]


def test_a_shard_of_few_vectors_and_a_damaged_one_build_anew(tmp_path: Path, rebuilt: list[Path]) -> None:
    build(tmp_path / "few", VECTORS[: MIN_FOR_TREE - 1])
    build(tmp_path / "broken", VECTORS[:6000])
    (tmp_path / "broken" / "scann" / "scann_config.pb").unlink()
    for name, before in (("few", MIN_FOR_TREE - 1), ("broken", 6000)):
        folder = write_vectors(tmp_path / f"{name}-new", VECTORS[:6100])
        update_index(tmp_path / name, folder, origin_of(np.arange(before), np.arange(6100)))
        assert rebuilt.pop() == folder
        assert Searcher(folder, 6100).method == "scann"
