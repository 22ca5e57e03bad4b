"""Compares the search with comparing a query with every vector: its speed, and the share of neighbours it finds.

The claim: with MIN_FOR_TREE vectors or more, ScaNN's tree is faster than exact search, at a recall of 95 % or more.
With fewer, exact search is fast enough. Both run here on the same vectors, one query at a time, as in the service.
The peer for exact search is numpy: one matrix product and a partial sort.

    python benchmarks/bench_search.py [--numbers 2000 10000 100000]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aitax_ray.index.searcher import MIN_FOR_TREE, Searcher, build_index

SIZE, NUM_QUERIES, K = 512, 300, 10


def vectors(num: int, rng: np.random.Generator) -> np.ndarray:
    """Draw unit vectors in clusters, as embeddings of photographs of species form them."""
    centres = rng.normal(size=(max(1, num // 50), SIZE))
    points = centres[rng.integers(0, len(centres), num)] + 0.7 * rng.normal(size=(num, SIZE))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def timed(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> tuple[float, list[set[int]]]:
    """Measure the seconds per query, and return the neighbours found."""
    search(queries[:1])
    begin = time.perf_counter()
    found = [search(query[None]) for query in queries]
    return (time.perf_counter() - begin) / len(queries), [set(row[0].tolist()) for row in found]


def main() -> None:
    """Measure each number of vectors and print a line per number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=[2_000, MIN_FOR_TREE, 100_000])
    rng = np.random.default_rng(0)
    for num in parser.parse_args().numbers:
        table = vectors(num + NUM_QUERIES, rng)
        indexed, queries = table[:num], table[num:]

        def exact(query: np.ndarray, indexed: np.ndarray = indexed) -> np.ndarray:
            similarity = query @ indexed.T
            return np.argpartition(-similarity, K, axis=1)[:, :K]

        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            np.save(Path(folder) / "vectors.npy", indexed.astype(np.float16))
            build_index(Path(folder))
            built_s = time.perf_counter() - begin
            searcher = Searcher(Path(folder), num)
            ours_s, ours = timed(lambda query, s=searcher: s.search(query, K)[0], queries)  # type: ignore[misc]
        theirs_s, theirs = timed(exact, queries)
        recall = sum(len(a & b) for a, b in zip(ours, theirs, strict=True)) / (K * NUM_QUERIES)
        print(  # noqa: T201  a benchmark reports
            f"{num:>9,} vectors: ours {1e3 * ours_s:.3f} ms ({'tree' if num >= MIN_FOR_TREE else 'exact'}, built in "
            f"{built_s:.1f} s), numpy {1e3 * theirs_s:.3f} ms, ratio {theirs_s / ours_s:.1f}, recall@{K} {recall:.3f}"
        )


if __name__ == "__main__":
    main()
