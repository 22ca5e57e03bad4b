import numpy as np
import pytest

from aitax_ray.index.tune import CANDIDATES, HeldOut, choose, ladder
from tests.index.vectors import clustered_vectors

VECTORS = clustered_vectors(1000, 16, 10).astype(np.float16)


def test_a_query_that_finds_itself_does_not_count() -> None:
    held_out = HeldOut.draw(VECTORS, 50)
    assert held_out.queries.shape == (50, 16)
    truth, similarities = held_out.truth
    assert truth.shape == similarities.shape == (50, 100)
    assert not (truth == held_out.rows[:, None]).any()
    rows = np.concatenate([held_out.rows[:, None], truth[:, :10]], axis=1)
    assert held_out.recalls(rows).tolist() == [1] * 50
    # Where the search does not find the query, its last row is left out instead.
    assert held_out.recalls(truth[:, :11]).tolist() == [1] * 50
    only_itself = np.full((50, 11), -1)
    only_itself[:, 0] = held_out.rows
    assert held_out.recalls(only_itself).tolist() == [0] * 50
    half = rows.copy()
    half[:, 6:] = -1
    assert held_out.recalls(half).tolist() == [0.5] * 50


def test_one_of_several_equal_vectors_is_as_good_as_another() -> None:
    held_out = HeldOut(np.repeat(VECTORS[:2], 30, axis=0), np.array([0, 40]))
    rows = np.array([[0, *range(20, 30)], [40, *range(50, 60)]])
    assert held_out.recalls(rows).tolist() == [1, 1]


def test_one_vector_has_no_neighbour_to_miss() -> None:
    held_out = HeldOut.draw(VECTORS[:1])
    assert held_out.recalls(np.array([[0]])).tolist() == [1]


def searcher(held_out: HeldOut, tried: list[tuple[int, int]]):  # type: ignore[no-untyped-def]
    """A search that finds a tenth more with each leaf, up to one neighbour per five candidates."""

    def search(queries: np.ndarray, k: int, leaves: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        tried.append((leaves, candidates))
        rows = np.concatenate([held_out.rows[:, None], held_out.truth[0][:, : k - 1]], axis=1)
        rows[:, 1 + min(leaves, candidates // 5) :] = -1
        return rows, np.zeros(rows.shape)

    return search


def test_the_cheapest_leaves_and_candidates_that_reach_the_recall_are_chosen() -> None:
    held_out = HeldOut.draw(VECTORS, 20)
    tried: list[tuple[int, int]] = []
    for recall, leaves, reorder in ((0.85, 9, 50), (0.55, 6, 30)):
        chosen = choose(searcher(held_out, tried), held_out, recall, range(1, 100), CANDIDATES, 100)
        assert (chosen.leaves_to_search, chosen.reorder) == (leaves, reorder)
        assert chosen.recall == pytest.approx(min(leaves, reorder // 5) / 10)


def test_where_none_reaches_the_recall_the_best_is_chosen() -> None:
    held_out = HeldOut.draw(VECTORS, 20)
    chosen = choose(searcher(held_out, []), held_out, 0.9, [2, 4, 3], CANDIDATES, 100)
    assert chosen.leaves_to_search == 4
    assert chosen.recall == pytest.approx(0.4)


def test_the_steps_of_leaves_grow_and_end_at_all_leaves() -> None:
    for most in (1, 2, 3, 4, 707):
        steps = list(ladder(most))
        assert steps == sorted(set(steps))
        assert steps[-1] == most
    assert len(list(ladder(5000))) < 40
