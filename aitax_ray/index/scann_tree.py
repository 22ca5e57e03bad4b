"""ScaNN: builds its index of unit vectors into a folder that may be copied, adds and deletes vectors, searches.

Guo et al. 2020, "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", arXiv 1908.10396.
Wheels of ScaNN exist for Linux alone. Elsewhere `is_available` is false.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.index.search_info import AGAIN

SCANN = "scann"
TOKENS = "datapoint_to_token.npy"  # the leaf of each vector, in ScaNN's folder
# The advice for ScaNN's trees: about the square root of the number of vectors as leaves.
# (github.com/google-research/google-research/blob/master/scann/docs/algorithms.md)
SAMPLE_PER_LEAF = 200
# Measured on 50,000 and 500,000 vectors like those of benchmarks/bench_search.py, at a recall@10 of 0.95 and 0.99:
# codes of 4 dimensions are 25 % to 50 % faster than those of 2, and half as long; a threshold of 0.2 costs 10 % of the
# speed; SOAR, which stores a vector in two leaves, is 0 % to 15 % slower and takes more memory.
DIMENSIONS_PER_BLOCK = 4
ANISOTROPIC_THRESHOLD = 0.1


def is_available() -> bool:
    """Say whether ScaNN can be imported."""
    try:
        import scann  # noqa: F401  only whether it is there
    except ImportError:
        return False
    return True


def default_leaves(num: int) -> int:
    """Choose the number of leaves for `num` vectors."""
    return max(1, round(math.sqrt(num)))


class ScannTree:
    """An index of ScaNN. It may hold the vectors in memory for the exact comparison, or their codes alone."""

    def __init__(self, searcher: Any, in_memory: bool) -> None:
        self._searcher, self._in_memory = searcher, in_memory

    @classmethod
    def build(cls, vectors: np.ndarray, leaves: int, in_memory: bool) -> "ScannTree":
        """Build the index of float32 vectors (N, D)."""
        from scann.scann_ops.py import scann_ops_pybind
        from scann.scann_ops.py.scann_builder import ReorderType

        builder = scann_ops_pybind.builder(vectors, min(10, len(vectors)), "dot_product")
        sample = min(len(vectors), max(100_000, SAMPLE_PER_LEAF * leaves))
        builder = builder.tree(leaves, 1, training_sample_size=sample, min_partition_size=1)
        builder = builder.score_ah(
            min(DIMENSIONS_PER_BLOCK, vectors.shape[1]), anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD
        )
        if in_memory:
            builder = builder.reorder(100, quantize=ReorderType.BFLOAT16)
        return cls(builder.build(), in_memory)

    @classmethod
    def load(cls, folder: Path, in_memory: bool) -> "ScannTree":
        """Load the index from folder/scann. Raises EngineError when it cannot be loaded."""
        from scann.scann_ops.py import scann_ops_pybind

        place = folder / SCANN
        try:
            # ScaNN would unpickle this file, which runs whatever code it names. Ours has no such file.
            if (place / "scann_docids.pkl").exists():
                raise ValueError("scann_docids.pkl is not a file of ours")
            if not (place / "scann_assets.pbtxt").is_file():
                raise ValueError("scann_assets.pbtxt is missing")
            return cls(scann_ops_pybind.load_searcher(str(place)), in_memory)
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"the index in {folder} cannot be loaded ({error}): {AGAIN}") from error

    def write(self, folder: Path) -> None:
        """Write the index into folder/scann."""
        (folder / SCANN).mkdir(exist_ok=True)
        self._searcher.serialize(str(folder / SCANN), relative_path=True)

    def __len__(self) -> int:
        return int(self._searcher.size())

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete vectors by their number, in this order. The last vector gets the number of the deleted one."""
        if numbers:
            self._searcher.searcher.delete(list(numbers))

    def add(self, vectors: np.ndarray) -> None:
        """Add float32 vectors (N, D). They get the next numbers. The leaves stay as they are."""
        if len(vectors):
            self._searcher.searcher.upsert([None] * len(vectors), vectors, 256)

    def search(self, queries: np.ndarray, k: int, leaves: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """Find k neighbours of float32 queries (Q, D): int64 numbers, -1 where there is none, and similarities.

        Without the vectors in memory these are the best by the codes, and `candidates` is not used.
        """
        before = candidates if self._in_memory else k
        numbers, similarities = self._searcher.search_batched(
            np.ascontiguousarray(queries, np.float32), k, before, leaves
        )
        rows: np.ndarray = numbers.astype(np.int64)
        # ScaNN marks missing neighbours, which come last, with number 0, which is a vector.
        if np.isnan(similarities[:, -1]).any():
            rows[np.isnan(similarities)] = -1
        return rows, similarities


def memory_of(folder: Path) -> int:
    """Count the bytes that the index in folder/scann takes in memory once it is loaded: about those of its files."""
    return sum(path.stat().st_size for path in (folder / SCANN).iterdir())
