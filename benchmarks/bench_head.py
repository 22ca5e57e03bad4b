"""How much memory and time does the head take, on the embeddings of many photographs?

The claim: `train --recipe linear-probe` fits the head of 500,000 photographs with embeddings of 1,280 numbers within
4 GB of memory. The embeddings are generated: a cloud around a direction per species, with a long-tailed number of
photographs per species. They lie in a file that is mapped into memory, as in `train`. The peak counts the pages of that
file too.

    python benchmarks/bench_head.py                                     500,000 photographs of 1,000 species
    python benchmarks/bench_head.py --rows 50000 100000 200000          growth
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from aitax_ray.training.head import CHUNK, Features, fit_linear

SIZE = 1280


def generate(rows: int, species: int, folder: Path, seed: int) -> Features:
    """Write embeddings of unit length to a file in `folder`, and map it."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, species + 1)
    target = rng.choice(species, rows, p=frequency / frequency.sum())
    target[:species] = np.arange(species) % species  # each species has a photograph
    direction = np.random.default_rng(0).standard_normal((species, SIZE), np.float32)
    unit = np.memmap(folder / f"unit-{seed}", np.float16, "w+", shape=(rows, SIZE))
    for start in range(0, rows, CHUNK):
        part = target[start : start + CHUNK]
        embedding = direction[part] + 4 * rng.standard_normal((len(part), SIZE), np.float32)
        unit[start : start + CHUNK] = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    return Features(unit, np.ones(rows, np.float32), target.astype(np.int64), np.ones(rows, np.float32))


def measure(rows: int, species: int) -> None:
    """Fit the head, and print the time and the peak of the memory of this process."""
    with tempfile.TemporaryDirectory(prefix="aitax-bench-") as folder:
        train, val = (
            generate(rows, species, Path(folder), 1),
            generate(max(rows // 50, species), species, Path(folder), 2),
        )
        head = torch.nn.Linear(SIZE, species)
        begin = time.perf_counter()
        fitted = fit_linear(head, train, val, torch.zeros(species), torch.ones(species), 0)
        seconds = time.perf_counter() - begin
    best = next(row for row in fitted if row["is_best"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(  # noqa: T201  a benchmark reports
        f"{rows:10,} {species:8,} {seconds:8.0f} {peak:9.2f} {best['top1']:7.3f} {best['macro_top1']:7.3f}", flush=True
    )


def main() -> None:
    """Measure each number of rows in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000])
    parser.add_argument("--species", type=int, default=1000)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args.rows[0], args.species)
        return
    print(f"{'rows':>10} {'species':>8} {'s':>8} {'peak GiB':>9} {'top-1':>7} {'macro':>7}", flush=True)  # noqa: T201
    for rows in args.rows:
        command = [sys.executable, __file__, "--child", "--rows", str(rows), "--species", str(args.species)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
