"""The searcher: ScaNN over unit vectors. Built once, saved as a folder that may be copied, loaded by the service.

ScaNN: Guo et al. 2020, "Accelerating Large-Scale Inference with Anisotropic Vector Quantization", arXiv 1908.10396.
"""

import math
from pathlib import Path

import numpy as np

from aitax_ray.errors import EngineError

# Below this, comparing with every vector takes well under a millisecond and is exact; trees have nothing to win.
MIN_FOR_TREE = 10_000
# ScaNN's own advice for a tree: about the square root of the number of vectors as leaves.
# (github.com/google-research/google-research/blob/master/scann/docs/algorithms.md)
TRAINING_SAMPLE = 250_000
ANISOTROPIC_THRESHOLD = 0.2  # the value of ScaNN's examples for unit vectors


def build_index(embeddings: np.ndarray, folder: Path, *, leaves_to_search: float = 0.1, reorder: int = 200) -> None:
    """Build the index of unit vectors (N, D), N >= 1, into an empty or absent local folder.

    With few vectors the search is exact; with MIN_FOR_TREE or more it goes through a tree, of whose leaves it looks at
    a share of `leaves_to_search`, and measures the best `reorder` exactly.
    """
    import scann

    num = len(embeddings)
    builder = scann.scann_ops_pybind.builder(np.ascontiguousarray(embeddings, np.float32), min(10, num), "dot_product")
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
    folder.mkdir(parents=True, exist_ok=True)
    builder.build().serialize(str(folder), relative_path=True)


class Searcher:
    """Finds the nearest of the indexed vectors."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        """Load a built index of `num_rows` vectors. Raises EngineError when the folder holds none."""
        import scann

        self.num_rows = num_rows
        try:
            self._scann = scann.scann_ops_pybind.load_searcher(str(folder))
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"the index in {folder} cannot be loaded ({error}): publish the engine again") from error

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each of N unit vectors (N, D).

        Returns neighbors int64 (N, k') and similarities float32 (N, k'), best first, where k' is k or the number of
        rows, whichever is smaller; similarity is the cosine. Where fewer are found (with few leaves to search or few
        candidates to reorder) the rest are neighbor -1 and similarity NaN.
        """
        k = min(k, self.num_rows)
        neighbors, similarities = self._scann.search_batched(np.ascontiguousarray(embeddings, np.float32), k)
        # ScaNN fills up with row 0, which is a photograph.
        return np.where(np.isnan(similarities), -1, neighbors.astype(np.int64)), similarities
