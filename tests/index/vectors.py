"""Vectors for tests of the search, and shards made of them."""

from pathlib import Path

import numpy as np

from aitax_ray.index.build import SearchOptions, build_index
from aitax_ray.index.exact import best_within
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.searcher import VECTORS


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_vectors(num: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(num, size)))


def clustered_vectors(num: int, size: int = 32, num_clusters: int = 100, seed: int = 1) -> np.ndarray:
    """Vectors as photographs give them: those of a species lie together, and follow each other."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_clusters, size))
    return unit(centres[np.sort(rng.integers(0, num_clusters, num))] + 0.5 * rng.normal(size=(num, size)))


def write_vectors(folder: Path, vectors: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / VECTORS, vectors.astype(np.float16))
    return folder


def build(folder: Path, vectors: np.ndarray, **options: float) -> SearchInfo:
    return build_index(write_vectors(folder, vectors), SearchOptions(**options))  # type: ignore[arg-type]


def near(vectors: np.ndarray, seed: int = 2) -> np.ndarray:
    """Queries near some of the vectors, and none of them."""
    chosen = vectors[:: max(1, len(vectors) // 200)]
    return unit(chosen + 0.3 * random_vectors(len(chosen), chosen.shape[1], seed=seed))


def recall(neighbors: np.ndarray, vectors: np.ndarray, queries: np.ndarray) -> float:
    """The share of the exactly nearest that were found."""
    expected, _ = best_within(vectors.astype(np.float16), queries, neighbors.shape[1])
    pairs = zip(neighbors.tolist(), expected.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs]))
