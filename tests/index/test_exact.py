from pathlib import Path

import numpy as np
import pytest

from aitax_ray.index.exact import BLOCK, best_within


def unit_vectors(num: int, size: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("num", [1, 7, BLOCK, 5 * BLOCK + 3])
def test_the_nearest_are_those_of_a_full_comparison(num: int, num_threads: int, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", unit_vectors(num, 24).astype(np.float16))
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = unit_vectors(5, 24, seed=1)
    positions, similarities = best_within(vectors, queries, 9, num_threads)
    cosines = queries.astype(np.float64) @ np.asarray(vectors, np.float64).T
    assert (positions.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(positions, np.argsort(-cosines, axis=1)[:, :9])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :9], atol=1e-6)


def test_many_queries_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(4 * BLOCK, 16).astype(np.float16)
    queries = unit_vectors(40, 16, seed=2)
    expected = best_within(vectors, queries, 30)
    monkeypatch.setattr("aitax_ray.index.exact.SIMILARITIES", 1)
    for num_threads in (1, 2):
        found = best_within(vectors, queries, 30, num_threads)
        np.testing.assert_array_equal(found[0], expected[0])


def test_a_slice_of_a_species_is_searched_and_equals_come_in_order() -> None:
    vectors = np.repeat(unit_vectors(1, 8), 50, axis=0).astype(np.float16)
    positions, _ = best_within(vectors[10:16], unit_vectors(2, 8), 6)
    assert positions.tolist() == [list(range(6))] * 2


def test_no_vector_and_no_query_give_empty_answers() -> None:
    vectors, queries = unit_vectors(3, 8).astype(np.float16), unit_vectors(2, 8)
    assert [part.shape for part in best_within(vectors[:0], queries, 4)] == [(2, 0), (2, 0)]
    assert [part.shape for part in best_within(vectors, queries[:0], 4)] == [(0, 3), (0, 3)]
