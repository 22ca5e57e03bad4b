from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import EngineError
from aitax_ray.index.exact import best_within
from aitax_ray.index.leaves import Leaves, cluster, memory_of
from tests.index.vectors import clustered_vectors, near, random_vectors, recall

VECTORS = clustered_vectors(3000, 16, 40).astype(np.float16)
LEAVES = Leaves.of(VECTORS, cluster(VECTORS, 50))


def test_each_vector_is_in_one_leaf_and_its_leaf_is_the_nearest() -> None:
    assert np.sort(LEAVES.rows).tolist() == list(range(3000))
    assert LEAVES.starts[0] == 0
    assert LEAVES.starts[-1] == 3000
    rows = np.arange(3000)[:, None]
    assert (LEAVES.ranks(VECTORS.astype(np.float32), rows) == 0).mean() > 0.98


def test_few_leaves_hold_most_of_the_nearest_and_all_leaves_hold_all() -> None:
    queries = near(VECTORS.astype(np.float32))
    found, similarities = LEAVES.search(VECTORS, queries, 10, 5)
    assert recall(found, VECTORS, queries) > 0.9
    ranks = LEAVES.ranks(queries, best_within(VECTORS, queries, 10)[0])
    assert recall(found, VECTORS, queries) == pytest.approx((ranks < 5).mean(), abs=1e-6)
    exact = best_within(VECTORS, queries, 10)
    found, similarities = LEAVES.search(VECTORS, queries, 10, 50)
    np.testing.assert_array_equal(found, exact[0])
    np.testing.assert_allclose(similarities, exact[1], atol=1e-6)


def test_leaves_are_read_until_they_hold_enough_vectors() -> None:
    found, similarities = LEAVES.search(VECTORS, VECTORS[:3].astype(np.float32), 2999, 1)
    assert found.shape == (3, 2999)
    assert (found >= 0).all()
    assert not np.isnan(similarities).any()


def test_leaves_are_written_and_read(tmp_path: Path) -> None:
    LEAVES.write(tmp_path)
    again = Leaves.read(tmp_path, 3000)
    np.testing.assert_array_equal(again.rows, LEAVES.rows)
    assert memory_of(tmp_path) > 4 * 3000 + 4 * 16 * 40
    with pytest.raises(EngineError, match=r"not those of its 2,999 vectors: publish"):
        Leaves.read(tmp_path, 2999)
    with pytest.raises(EngineError, match="cannot be loaded"):
        Leaves.read(tmp_path / "nowhere", 3000)


def test_fewer_different_vectors_than_leaves_are_divided() -> None:
    vectors = np.repeat(random_vectors(3, 8), 20, axis=0).astype(np.float16)
    leaves = Leaves.of(vectors, cluster(vectors, 10))
    assert np.sort(leaves.rows).tolist() == list(range(60))
    assert len(leaves.centres) <= 10
    assert leaves.search(vectors, vectors[:1].astype(np.float32), 1, 1)[1][0, 0] == pytest.approx(1, abs=1e-2)
