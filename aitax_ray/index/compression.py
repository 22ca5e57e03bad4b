"""Main components of the vectors (PCA): ScaNN makes shorter codes from them. The full vectors give the final order."""

from pathlib import Path

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.index.search_info import AGAIN, Compression

PROJECTION = "projection.npy"
SAMPLE = 50_000  # vectors from which the components come


def fit(vectors: np.ndarray, compression: float) -> tuple[np.ndarray, Compression]:
    """Find the main components of float16 vectors (N, D): float32 (D, D'), and the share of variance that they keep.

    `compression` of 1 or more is D', below 1 the share of the variance to keep. The mean is left out: it adds the same
    to the dot product of a query with every vector.
    """
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    sample = vectors[rows].astype(np.float32)
    sample -= sample.mean(axis=0)
    values, components = np.linalg.eigh(sample.T @ sample)
    values, components = np.maximum(values[::-1], 0), components[:, ::-1]
    kept = np.cumsum(values) / max(values.sum(), np.finfo(np.float32).tiny)
    number = int(np.searchsorted(kept, compression)) + 1 if compression < 1 else round(compression)
    number = min(number, len(kept))
    return np.ascontiguousarray(components[:, :number], np.float32), Compression(
        dimensions=number, variance_kept=float(kept[number - 1])
    )


def project(vectors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Project float16 vectors (N, D) without their mean, block by block: float32 (N, D')."""
    mean = vectors.mean(axis=0, dtype=np.float32) @ projection
    blocks = (vectors[start : start + 8192].astype(np.float32) for start in range(0, len(vectors), 8192))
    return np.concatenate([block @ projection - mean for block in blocks])


def read_projection(folder: Path, dimensions: tuple[int, int]) -> np.ndarray:
    """Read projection.npy. Raises EngineError when it is missing or of another shape."""
    try:
        projection = np.load(folder / PROJECTION)
    except (OSError, ValueError) as error:
        raise EngineError(f"the index in {folder} cannot be loaded ({error}): {AGAIN}") from error
    if projection.shape != dimensions:
        raise EngineError(f"{folder / PROJECTION} has the shape {projection.shape}, not {dimensions}: {AGAIN}")
    return np.asarray(projection)
