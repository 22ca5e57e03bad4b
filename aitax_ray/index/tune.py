"""Measures what a search finds against exact search, and chooses how many leaves and candidates it needs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aitax_ray.index.exact import best_within, dot_products

MAX_QUERIES = 500
TUNED_FOR = 10  # neighbours
MEASURED_FOR = (1, 10, 100)
CANDIDATES = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000)
# The cost of comparing a candidate exactly, in comparisons of codes: measured with 512 dimensions, 0.12 µs against
# 0.0034 µs. Only the ratio decides, so that a busy machine does not change the choice.
COST_OF_CANDIDATE = 35

Search = Callable[[np.ndarray, int, int, int], tuple[np.ndarray, np.ndarray]]
"""Search queries (Q, D) for k neighbours in so many leaves, with so many candidates: rows (Q, k), -1: none."""


@dataclass(frozen=True)
class HeldOut:
    """Vectors of the index as queries. A query that finds itself does not count: its own row is left out."""

    vectors: np.ndarray
    rows: np.ndarray
    """int64 (Q,): the rows of the queries, ascending."""

    @classmethod
    def draw(cls, vectors: np.ndarray, number: int = MAX_QUERIES, seed: int = 0) -> "HeldOut":
        """Draw at most `number` of the vectors, float16 (N, D)."""
        rng = np.random.default_rng(seed)
        return cls(vectors, np.sort(rng.choice(len(vectors), min(number, len(vectors)), replace=False)))

    @cached_property
    def queries(self) -> np.ndarray:
        """float32 (Q, D)."""
        return np.asarray(self.vectors[self.rows], np.float32)

    @cached_property
    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query and their similarities, without its own row: (Q, 100) or fewer."""
        return self.without_self(*best_within(self.vectors, self.queries, max(MEASURED_FOR) + 1))

    def without_self(self, rows: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drop the query's own row from k + 1 neighbours, or else the last one: (Q, k)."""
        is_self = rows == self.rows[:, None]
        is_self[:, -1] |= ~is_self.any(axis=1)
        shape = len(rows), rows.shape[1] - 1
        return rows[~is_self].reshape(shape), similarities[~is_self].reshape(shape)

    def recalls(self, rows: np.ndarray) -> np.ndarray:
        """Give the share of the k nearest that k + 1 found rows (Q, k + 1) hold, per query: (Q,).

        A row that is as near as the k-th nearest counts as one of them.
        """
        rows, _ = self.without_self(rows, rows)
        if not rows.shape[1]:
            return np.ones(len(rows))
        limit = self.truth[1][:, rows.shape[1] - 1] - 1e-6
        found = [
            np.count_nonzero(dot_products(self.vectors[near[near >= 0]], query[None])[0] >= least)
            for near, query, least in zip(rows, self.queries, limit, strict=True)
        ]
        return np.array([number / rows.shape[1] for number in found])


@dataclass(frozen=True)
class Choice:
    """Leaves and candidates of a search, and its recall@10."""

    leaves_to_search: int
    reorder: int
    recall: float


def choose(
    search: Search,
    held_out: HeldOut,
    recall: float,
    leaves: Sequence[int],
    candidates: Sequence[int],
    vectors_per_leaf: float,
) -> Choice:
    """Choose the cheapest leaves and candidates that reach a recall@10, else the best that there are.

    The recall is reached when it is larger by one standard error of the queries.
    """
    best: Choice | None = None
    most: Choice | None = None
    lowest = np.inf
    for to_search in leaves:
        before = -1.0
        for reorder in candidates:
            cost = to_search * vectors_per_leaf + COST_OF_CANDIDATE * reorder
            if cost >= lowest:
                break
            rows, _ = search(held_out.queries, TUNED_FOR + 1, to_search, max(reorder, TUNED_FOR + 1))
            found = held_out.recalls(rows)
            here = Choice(to_search, reorder, float(found.mean()))
            if most is None or here.recall > most.recall:
                most = here
            if found.mean() - found.std() / np.sqrt(len(found)) >= recall:
                best, lowest = here, cost
                break
            if here.recall < before + 0.002:
                break  # more candidates find no more: the neighbours are in other leaves
            before = here.recall
    chosen = best or most
    assert chosen is not None
    return chosen


def ladder(most: int) -> Iterator[int]:
    """Give numbers of leaves from 3 up to `most`, each about a quarter larger than the one before.

    A vector is in the leaf with the nearest centre, and a search begins with the centres of the largest dot product.
    With 3 leaves nearly each vector finds itself; with 1 leaf 98.7 % do.
    """
    number = 3
    while number < most:
        yield number
        number = max(number + 1, round(number * 1.25))
    yield most
