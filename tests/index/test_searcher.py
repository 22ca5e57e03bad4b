from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import EngineError
from aitax_ray.index.searcher import MIN_FOR_TREE, SCANN, VECTORS, Searcher, build_index


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_vectors(num: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(num, size)))


def clustered_vectors(num: int, size: int = 32, num_clusters: int = 200) -> np.ndarray:
    """Vectors as photographs give them: those of a species lie together."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(num_clusters, size))
    return unit(centres[rng.integers(0, num_clusters, num)] + 0.5 * rng.normal(size=(num, size)))


def build(folder: Path, vectors: np.ndarray, **settings: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VECTORS, vectors.astype(np.float16))
    build_index(folder, **settings)  # type: ignore[arg-type]


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    cosine = queries @ vectors.T
    best = np.argsort(-cosine, axis=1)[:, :k]
    return best, np.take_along_axis(cosine, best, axis=1)


@pytest.mark.parametrize("num", [1, 2, 17, 300])
def test_few_vectors_are_searched_exactly(num: int, tmp_path: Path) -> None:
    vectors, queries = random_vectors(num), random_vectors(5, seed=9)
    build(tmp_path, vectors)
    neighbors, similarities = Searcher(tmp_path, num).search(queries, 12)
    expected, cosine = nearest(vectors, queries, 12)
    assert neighbors.shape == similarities.shape == (5, min(12, num))
    assert (neighbors.dtype, similarities.dtype) == (np.int64, np.float32)
    assert (neighbors == expected).mean() >= 0.9  # float16 may swap two that are as near
    np.testing.assert_allclose(similarities, cosine, atol=1e-3)


def test_many_vectors_are_searched_through_a_tree_that_finds_most(tmp_path: Path) -> None:
    vectors = clustered_vectors(MIN_FOR_TREE)
    queries = unit(vectors[::100] + 0.05 * random_vectors(100, seed=3))
    build(tmp_path, vectors)
    searcher = Searcher(tmp_path, len(vectors))
    neighbors, similarities = searcher.search(queries, 10)
    expected, _ = nearest(vectors, queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(neighbors.tolist(), expected.tolist(), strict=True)])
    assert recall >= 0.9
    # The best are measured exactly, and come in order.
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", queries, vectors[neighbors]), atol=1e-3)
    assert (np.diff(similarities, axis=1) <= 1e-6).all()
    again, _ = searcher.search(queries[:1], 10)
    np.testing.assert_array_equal(again[0], neighbors[0])


def test_looking_at_more_of_the_tree_finds_more(tmp_path: Path) -> None:
    vectors, queries = random_vectors(MIN_FOR_TREE), random_vectors(50, seed=4)
    expected, _ = nearest(vectors, queries, 10)
    found = []
    for share in (0.02, 1.0):
        folder = tmp_path / str(share)
        build(folder, vectors, leaves_to_search=share)
        neighbors, _ = Searcher(folder, len(vectors)).search(queries, 10)
        found.append(sum(len(set(a) & set(b)) for a, b in zip(neighbors.tolist(), expected.tolist(), strict=True)))
    assert found[0] < found[1]
    assert found[1] > 450


@pytest.mark.parametrize("few", [{"reorder": 50}, {"leaves_to_search": 0.001}])
def test_neighbours_that_are_not_found_are_marked(few: dict[str, float], tmp_path: Path) -> None:
    vectors = random_vectors(MIN_FOR_TREE)
    build(tmp_path, vectors, **few)
    neighbors, similarities = Searcher(tmp_path, len(vectors)).search(vectors[:20], 200)
    missing = neighbors < 0
    assert neighbors.shape == (20, 200)
    assert missing.any()
    np.testing.assert_array_equal(missing, np.isnan(similarities))
    assert not missing[:, 0].any()
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()  # they come last
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in neighbors)


@pytest.mark.parametrize("num", [17, MIN_FOR_TREE])
def test_an_index_can_be_moved(num: int, tmp_path: Path) -> None:
    vectors = clustered_vectors(num)
    build(tmp_path / "here", vectors)
    before = Searcher(tmp_path / "here", num).search(vectors[:5], 3)
    (tmp_path / "there").mkdir()
    (tmp_path / "here").rename(tmp_path / "there" / "engine")
    after = Searcher(tmp_path / "there" / "engine", num).search(vectors[:5], 3)
    np.testing.assert_array_equal(after[0], before[0])


def test_a_missing_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nowhere cannot be loaded.*publish the engine again"):
        Searcher(tmp_path / "nowhere", 3)


def test_an_index_that_lacks_a_file_is_an_error(tmp_path: Path) -> None:
    build(tmp_path, random_vectors(17))
    (tmp_path / SCANN / "scann_config.pb").unlink()
    with pytest.raises(EngineError, match="cannot be loaded"):
        Searcher(tmp_path, 17)
