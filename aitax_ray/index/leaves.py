"""An inverted file: the vectors divided into leaves, the search without ScaNN. It runs on every platform.

leaf_centres.npy  float32 (L, D): the mean of the vectors of each leaf
leaf_starts.npy   int64 (L + 1,): where the rows of each leaf start in leaf_rows.npy
leaf_rows.npy     int32 (N,): rows of vectors.npy, ascending within a leaf

The leaves are those of ScaNN's tree where there is one, and the vectors stay in vectors.npy, mapped into memory. So
this search costs 4 bytes per vector, and nothing is built when an engine is loaded.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.index.exact import best_of, dot_products
from aitax_ray.index.search_info import AGAIN

NAMES = ("leaf_centres.npy", "leaf_starts.npy", "leaf_rows.npy")
ROUNDS, SAMPLE_PER_LEAF, BLOCK = 10, 50, 8192


@dataclass(frozen=True)
class Leaves:
    """The leaves of a shard, see the files above."""

    centres: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, leaf: np.ndarray) -> "Leaves":
        """Make the leaves from the vectors, float16 (N, D), and the number of the leaf of each, (N,)."""
        numbers, leaf = np.unique(leaf, return_inverse=True)  # a leaf without vectors is dropped
        rows = np.argsort(leaf, kind="stable").astype(np.int32)
        starts = np.searchsorted(leaf[rows], np.arange(len(numbers) + 1))
        parts = [vectors[rows[a:b]].astype(np.float32).mean(axis=0) for a, b in pairwise(starts)]
        return cls(np.stack(parts), starts, rows)

    def write(self, folder: Path) -> None:
        """Write the three files."""
        for name, table in zip(NAMES, (self.centres, self.starts, self.rows), strict=True):
            np.save(folder / name, table)

    @classmethod
    def read(cls, folder: Path, num_rows: int) -> "Leaves":
        """Read the three files. Raises EngineError when one is missing or broken."""
        try:
            leaves = cls(*(np.load(folder / name, mmap_mode="r") for name in NAMES))
        except (OSError, ValueError) as error:
            raise EngineError(f"the index in {folder} cannot be loaded ({error}): {AGAIN}") from error
        if len(leaves.rows) != num_rows or len(leaves.starts) != len(leaves.centres) + 1:
            raise EngineError(f"the leaves in {folder} are not those of its {num_rows:,} vectors: {AGAIN}")
        return leaves

    def order(self, queries: np.ndarray) -> np.ndarray:
        """Order the leaves by the distance of their centre from each query, nearest first: int64 (Q, L)."""
        return np.argsort(-_nearness(queries, self.centres), axis=1, kind="stable")

    def ranks(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Find the place in `order` of the leaf that holds each row, (Q, k): int64 (Q, k)."""
        leaf_of = np.empty(len(self.rows), np.int64)
        leaf_of[self.rows] = np.repeat(np.arange(len(self.centres)), np.diff(self.starts))
        place = np.argsort(self.order(queries), axis=1)
        return np.take_along_axis(place, leaf_of[rows], axis=1)

    def search(self, vectors: np.ndarray, queries: np.ndarray, k: int, to_search: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest among the vectors of the nearest `to_search` leaves, see Searcher.search.

        More leaves are read until they hold k vectors.
        """
        neighbors = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), np.nan, np.float32)
        sizes = np.diff(self.starts)
        for number, order in enumerate(self.order(queries)):
            enough = int(np.searchsorted(np.cumsum(sizes[order]), k)) + 1
            chosen = order[: max(to_search, enough)]
            rows = np.sort(np.concatenate([self.rows[self.starts[leaf] : self.starts[leaf + 1]] for leaf in chosen]))
            found = dot_products(vectors[rows], queries[number : number + 1])
            (neighbors[number],), (similarities[number],) = best_of(rows[None], found, k)
        return neighbors, similarities


def cluster(vectors: np.ndarray, num_leaves: int, seed: int = 0) -> np.ndarray:
    """Divide float16 vectors (N, D) into leaves by k-means on a sample of them: the number of each one's leaf, (N,)."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(vectors), min(len(vectors), num_leaves * SAMPLE_PER_LEAF), replace=False))
    sample = vectors[chosen].astype(np.float32)
    centres = sample[rng.choice(len(sample), num_leaves, replace=False)]
    for _ in range(ROUNDS):
        leaf = _nearest_centre(sample, centres)
        order = np.argsort(leaf, kind="stable")
        filled, first, counts = np.unique(leaf[order], return_index=True, return_counts=True)
        centres[filled] = np.add.reduceat(sample[order], first, axis=0) / counts[:, None]
        empty = np.setdiff1d(np.arange(num_leaves), filled)
        centres[empty] = sample[rng.choice(len(sample), len(empty), replace=False)]
    return _nearest_centre(vectors, centres)


def _nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    starts = range(0, len(vectors), BLOCK)
    blocks = (vectors[start : start + BLOCK].astype(np.float32, copy=False) for start in starts)
    return np.concatenate([_nearness(block, centres).argmax(axis=1) for block in blocks])


def _nearness(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Give a number that is larger the nearer a centre (L, D) is to a vector (N, D): (N, L)."""
    nearness: np.ndarray = vectors @ centres.T - (centres**2).sum(axis=1) / 2
    return nearness


def memory_of(folder: Path) -> int:
    """Count the bytes of the leaves in a folder, which are mapped into memory."""
    return sum((folder / name).stat().st_size for name in NAMES)
