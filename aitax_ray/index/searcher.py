"""Nearest neighbours with ScaNN: an index of unit vectors, built into a folder that may be copied, and its search.

ScaNN: Guo et al. 2020, "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", arXiv 1908.10396.
"""

import math
from pathlib import Path

import numpy as np

from aitax_ray.errors import EngineError

# With fewer vectors, comparing with each of them is exact and takes well under a millisecond: no tree is faster.
MIN_FOR_TREE = 10_000
# ScaNN's own advice for a tree: about the square root of the number of vectors as leaves.
# (github.com/google-research/google-research/blob/master/scann/docs/algorithms.md)
TRAINING_SAMPLE = 250_000
ANISOTROPIC_THRESHOLD = 0.2  # the value of ScaNN's examples for unit vectors


VECTORS, SCANN = "vectors.npy", "scann"  # the files of a shard that a search reads


def build_index(folder: Path, *, leaves_to_search: float = 0.1, reorder: int = 200) -> None:
    """Build the search of the unit vectors in folder/vectors.npy, float16 (N, D), N >= 1, into the same folder.

    With fewer than MIN_FOR_TREE vectors the search is exact. Otherwise it goes through a tree: it reads a share of
    `leaves_to_search` of the leaves, and computes the exact similarity of the best `reorder` candidates.
    """
    import scann

    vectors = np.load(folder / VECTORS).astype(np.float32)
    num = len(vectors)
    builder = scann.scann_ops_pybind.builder(vectors, min(10, num), "dot_product")
    if num < MIN_FOR_TREE:
        builder = builder.score_brute_force()
    else:
        leaves = round(math.sqrt(num))
        builder = (
            builder.tree(
                leaves, max(1, round(leaves * leaves_to_search)), training_sample_size=min(num, TRAINING_SAMPLE)
            )
            .score_ah(2, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD)
            .reorder(reorder)
        )
    (folder / SCANN).mkdir(exist_ok=True)
    builder.build().serialize(str(folder / SCANN), relative_path=True)


class Searcher:
    """Finds the indexed vectors that are nearest to a query."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        """Load the search of `num_rows` vectors that was built into a folder. Raises EngineError when it has none."""
        import scann

        self.num_rows = num_rows
        try:
            self._scann = scann.scann_ops_pybind.load_searcher(str(folder / SCANN))
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"the index in {folder} cannot be loaded ({error}): publish the engine again") from error

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each of N unit vectors (N, D).

        Returns neighbors int64 (N, k') and similarities (cosines) float32 (N, k'), best first. k' is the smaller one of
        k and the number of rows. With few leaves or candidates fewer may be found: the rest are neighbor -1 and
        similarity NaN.
        """
        k = min(k, self.num_rows)
        neighbors, similarities = self._scann.search_batched(np.ascontiguousarray(embeddings, np.float32), k)
        # ScaNN marks missing neighbours with row 0, which is a photograph.
        return np.where(np.isnan(similarities), -1, neighbors.astype(np.int64)), similarities
