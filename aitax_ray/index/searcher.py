"""The search of a shard: by ScaNN, without it through the same leaves, or exactly. Each gives the same answers.

Few vectors are compared one by one. Where ScaNN cannot be had, such as on a Mac, aitax_ray.index.leaves searches.
"""

import logging
from pathlib import Path

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.index import scann_tree
from aitax_ray.index.compression import read_projection
from aitax_ray.index.exact import best_of, best_within, dot_products
from aitax_ray.index.leaves import Leaves
from aitax_ray.index.scann_tree import ScannTree
from aitax_ray.index.search_info import AGAIN, SearchInfo

log = logging.getLogger(__name__)

VECTORS = "vectors.npy"
SCANN_ROWS = "scann_rows.npy"  # int32 (N,): the row of each vector of ScaNN, where vectors were added or deleted


class Searcher:
    """Finds the vectors of a shard that are nearest to a query."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        """Load the search of `num_rows` vectors that was built into a folder. Raises EngineError when it has none."""
        self.info = SearchInfo.read(folder)
        try:
            self._vectors: np.ndarray = np.load(folder / VECTORS, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise EngineError(f"the index in {folder} cannot be loaded ({error}): {AGAIN}") from error
        shape = (self.info.num_rows, self.info.dimensions)
        if self._vectors.shape != shape or num_rows != shape[0]:
            raise EngineError(
                f"search.json in {folder} is of {shape[0]:,} vectors of {shape[1]} numbers, not of these "
                f"{num_rows:,} rows: {AGAIN}"
            )
        self.method = self.info.method
        if self.method == "scann" and not scann_tree.is_available():
            log.info("ScaNN is not installed here: the search reads the leaves of its tree itself")
            self.method = "leaves" if self.info.tree else "exact"
        if self.method == "scann":
            self._open_scann(folder)
        elif self.method == "leaves":
            self._leaves = Leaves.read(folder, num_rows)

    def _open_scann(self, folder: Path) -> None:
        assert self.info.scann is not None
        self._tree = ScannTree.load(folder, self.info.scann.in_memory)
        self._projection = None
        if self.info.compression:
            self._projection = read_projection(folder, (self.info.dimensions, self.info.compression.dimensions))
        self._rows = np.load(folder / SCANN_ROWS) if (folder / SCANN_ROWS).exists() else None
        if len(self._tree) != len(self._vectors) or (self._rows is not None and len(self._rows) != len(self._vectors)):
            raise EngineError(f"ScaNN's files in {folder} are not those of its {len(self._vectors):,} vectors: {AGAIN}")

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each of N unit vectors (N, D).

        Returns neighbors int64 (N, k') and similarities (cosines) float32 (N, k'), best first. k' is the smaller one of
        k and the number of rows. With few leaves fewer may be found: the rest are neighbor -1 and similarity NaN.
        """
        queries = np.ascontiguousarray(embeddings, np.float32)
        k = min(k, self.info.num_rows)
        if self.method == "exact":
            return best_within(self._vectors, queries, k)
        if self.method == "leaves":
            assert self.info.tree is not None
            return self._leaves.search(self._vectors, queries, k, self.info.tree.leaves_to_search)
        assert self.info.scann is not None
        # The leaves that are searched must hold the neighbours.
        least = -(-4 * k * self.info.scann.leaves // self.info.num_rows)
        leaves = min(self.info.scann.leaves, max(self.info.scann.leaves_to_search, least))
        return self.search_scann(queries, k, leaves, max(self.info.scann.reorder, 2 * k))

    def search_scann(self, queries: np.ndarray, k: int, leaves: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """Search as `search` does, by ScaNN, with these numbers of leaves and of exactly compared candidates."""
        assert self.info.scann is not None
        candidates = min(max(k, candidates), self.info.num_rows)
        projected = queries if self._projection is None else queries @ self._projection
        found = k if self.info.scann.in_memory else candidates
        numbers, similarities = self._tree.search(projected, found, leaves, candidates)
        rows = numbers if self._rows is None else np.where(numbers >= 0, self._rows[numbers], -1)
        if self.info.scann.in_memory:
            return rows, similarities
        return compare(self._vectors, queries, rows, k)


def compare(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose the k nearest of some rows (Q, C) for each query by their vectors; -1 is no row, and comes last."""
    similarities = np.full(rows.shape, -np.inf, np.float32)
    for number, near in enumerate(rows):
        is_row = near >= 0
        similarities[number, is_row] = dot_products(vectors[near[is_row]], queries[number : number + 1])[0]
    rows, similarities = best_of(rows, similarities, k)
    return rows, np.where(rows < 0, np.nan, similarities).astype(np.float32)
