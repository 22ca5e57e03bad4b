from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas
from aitax_ray.errors import EngineError
from aitax_ray.index.build import MIN_FOR_TREE, SearchOptions
from aitax_ray.index.shards import Index, find_origin, open_index, read_rows, write_shard
from aitax_ray.storage import Storage
from tests.blank import blank_row
from tests.index.vectors import clustered_vectors, near, recall

CLASSES = np.array([0, 0, 0, 2, 2, 2, 2, 3])


def vectors(num: int = len(CLASSES), size: int = 16) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(num, size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def rows(classes: np.ndarray, first: int = 0) -> pa.Table:
    blank = [blank_row(schemas.INDEX_ROWS, image_id=f"{first + n:040x}", class_index=c) for n, c in enumerate(classes)]
    return pa.Table.from_pylist(blank, schemas.INDEX_ROWS)


def write(root: Path, *ends: int) -> list[Path]:
    """Write the photographs into shards that end before these rows."""
    folders = [root / "index" / "shards" / f"{number:05}" for number in range(len(ends))]
    for folder, first, end in zip(folders, [0, *ends], ends, strict=False):
        write_shard(folder, rows(CLASSES[first:end], first), vectors()[first:end])
    return folders


def test_several_shards_answer_as_one(tmp_path: Path) -> None:
    one, three = Index(write(tmp_path / "one", 8)), Index(write(tmp_path / "three", 2, 5, 8))
    queries = vectors(5).astype(np.float32)[::-1]
    for k in (1, 4, 20):
        neighbors, similarities = one.search(queries, k)
        assert neighbors.shape == (5, min(k, 8))
        np.testing.assert_array_equal(three.search(queries, k)[0], neighbors)
        np.testing.assert_allclose(three.search(queries, k)[1], similarities, atol=1e-6)
    assert one.classes_of(neighbors).tolist() == three.classes_of(neighbors).tolist() == CLASSES[neighbors].tolist()
    assert len(one) == len(three) == 8
    assert one.count_classes(5).tolist() == three.count_classes(5).tolist() == [3, 0, 4, 1, 0]
    assert one.ranges_of(2) == [(0, 3, 7)]
    assert three.ranges_of(2) == [(1, 1, 3), (2, 0, 2)]
    assert three.ranges_of(1) == []
    assert three.classes_of(np.array([[-1, 7]])).tolist() == [[-1, 3]]


def test_an_index_is_opened_where_it_lies_or_copied_here(tmp_path: Path) -> None:
    import fsspec

    write(tmp_path, 3, 8)
    fsspec.filesystem("memory").put(str(tmp_path), "/far", recursive=True)
    for root in (str(tmp_path), "memory://far"):
        with open_index(Storage(root)) as index:
            assert index.search(vectors().astype(np.float32), 1)[0].ravel().tolist() == list(range(8))
        assert read_rows(Storage(root), ["class_index"])["class_index"].to_pylist() == CLASSES.tolist()
    assert read_rows(Storage(str(tmp_path))).schema.equals(schemas.INDEX_ROWS)


def test_no_index_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"no index in .*index/shards: run `aitax index`"),
        open_index(Storage(str(tmp_path))),
    ):
        pass


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    (folder,) = write(tmp_path, 8)
    np.save(folder / "vectors.npy", vectors(7).astype(np.float16))
    with pytest.raises(EngineError, match=r"8 rows and 7 vectors.*publish the engine again"):
        Index([folder])
    (folder / "rows.arrow").write_bytes(b"rubbish")
    with pytest.raises(EngineError, match="cannot be loaded"):
        Index([folder])


def test_a_photograph_with_the_same_vector_is_found_in_an_earlier_shard(tmp_path: Path) -> None:
    (earlier,) = write(tmp_path / "earlier", 8)
    now = rows(CLASSES[2:], 2)
    changed = vectors()[2:].astype(np.float16)
    assert find_origin(earlier, now, changed).tolist() == [2, 3, 4, 5, 6, 7]  # type: ignore[union-attr]
    changed[1] = -changed[1]
    assert find_origin(earlier, rows(CLASSES[2:], 3), changed).tolist() == [-1] * 6  # type: ignore[union-attr]
    assert find_origin(earlier, now, changed).tolist() == [2, -1, 4, 5, 6, 7]  # type: ignore[union-attr]
    assert find_origin(earlier, now, changed[:, :8]) is None
    assert find_origin(tmp_path / "nowhere", now, changed) is None


def test_a_shard_updates_the_search_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = clustered_vectors(MIN_FOR_TREE + 200)
    classes = np.zeros(len(drawn), np.int64)
    write_shard(tmp_path / "earlier", rows(classes[:-100]), drawn[:-100], SearchOptions(recall=0.96))
    monkeypatch.setattr("aitax_ray.index.update.build_index", None)
    updated = tmp_path / "updated"
    write_shard(updated, rows(classes[50:], 50), drawn[50:], SearchOptions(recall=0.9), tmp_path / "earlier")
    found, _ = Index([updated]).search(drawn[50:].astype(np.float16).astype(np.float32), 1)
    assert (found[:, 0] == np.arange(len(drawn) - 50)).mean() > 0.98


def test_shards_of_many_photographs_answer_as_one_within_the_recall(tmp_path: Path) -> None:
    drawn = clustered_vectors(2 * MIN_FOR_TREE)
    classes = np.zeros(len(drawn), np.int64)
    for number, part in enumerate((slice(MIN_FOR_TREE), slice(MIN_FOR_TREE, None))):
        write_shard(tmp_path / f"{number}", rows(classes[part], number * MIN_FOR_TREE), drawn[part])
    queries = near(drawn)
    neighbors, similarities = Index([tmp_path / "0", tmp_path / "1"]).search(queries, 10)
    assert recall(neighbors, drawn, queries) >= 0.93
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", queries, drawn[neighbors]), atol=5e-3)
