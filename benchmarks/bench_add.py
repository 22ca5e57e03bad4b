"""How well are species recognised that are added without training, beside a training that includes them?

The root of the argument is copied into two: one lacks some species, the other has only these. The first one is trained
with the default recipe, and the second one is added by `index --add`. A third copy, with all species, is trained with
the same recipe. All are measured on the same test photographs: those of the new species, and those of the others.
"mean" has as the row of a new species its mean embedding of unit length, as in "imprinted weights" (Qi et
al. 2018, arXiv 1712.07136), with a scale and a shift fitted on the same validation photographs.

    python benchmarks/bench_add.py ROOT                       a root where `aitax split` is complete
    python benchmarks/bench_add.py ROOT --few 3               with 3 training photographs of each added species
    python benchmarks/bench_add.py ROOT --species KEY KEY     these are added
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from aitax_ray import schemas, workspace
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.index import head_rows
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.training.settings import TrainSettings
from aitax_ray.training.train import train
from aitax_ray.workspace import Workspace

STAGES = ("archive", "manifest", "images", "ledger", "split")


def copy_root(source: Path, target: Path, species: list[str], few: int | None, added_species: list[str]) -> Workspace:
    """Copy a root with some species, and at most `few` training photographs of each added one."""
    for name in STAGES:
        shutil.copytree(source / name, target / name)
    ws = Workspace(str(target))
    split: Any = pl.from_arrow(ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT))
    split = split.filter(pl.col("species_key").is_in(species)).sort("image_id")
    if few is not None:
        is_many = pl.col("species_key").is_in(added_species) & (pl.col("split") == "train")
        split = split.filter(~is_many | (pl.col("image_id").cum_count().over("species_key", "split") <= few))
    number = pl.col("species_key").rank("dense").cast(pl.Int32) - 1
    table = split.with_columns(class_index=number).select(schemas.SPLIT.names).to_arrow().cast(schemas.SPLIT)
    ws.storage.write_table(workspace.SPLIT, table)
    return ws


def as_means(train_part: head_rows.Examples, num_new: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean embedding of unit length of each new species, in place of the fit."""
    unit = train_part.embedding / np.linalg.norm(train_part.embedding, axis=1, keepdims=True)
    rows = np.stack([unit[train_part.new == number].mean(axis=0) for number in range(num_new)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.zeros(num_new)


def measure(ws: Workspace, species: list[str]) -> tuple[str, str]:
    """Evaluate. Returns top-1 of the new species, and of the others."""
    evaluate(EvaluateSettings(root=ws.root, force=True))
    answers: Any = pl.from_arrow(ws.storage.read_table(workspace.ANSWERS, schema=schemas.ANSWERS))
    is_new, hit = answers["species_key"].is_in(species), answers["species_key"] == answers["answer"]
    right = [hit.filter(side) for side in (is_new, ~is_new)]
    first, second = (f"{part.mean() or 0:.3f} ({part.sum()} of {len(part)})" for part in right)
    return first, second


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--species", nargs="+", help="species that are added; default: every third")
    parser.add_argument("--few", type=int, nargs="*", default=[], help="training photographs of each new species")
    given = parser.parse_args()
    if given.root is None:
        sys.exit(print("bench_add.py needs a root with photographs: it is left out"))  # noqa: T201
    source = Workspace(str(given.root))
    keys = sorted(set(source.storage.read_table(workspace.SPLIT, ["species_key"])["species_key"].to_pylist()))
    new = given.species or keys[2::3]
    known = [key for key in keys if key not in new]
    show(f"{len(new)} new species, {len(known)} others", ("new species", "others"))
    with tempfile.TemporaryDirectory(prefix="aitax-bench-") as folder:
        top = Path(folder)
        first = copy_root(given.root, top / "first", known, None, [])
        train(TrainSettings(root=first.root))
        index(IndexSettings(root=first.root, thumbnails=False))
        show("without the new species", measure(first, new))
        for few in (None, *given.few):
            other = copy_root(given.root, top / f"other{few}", new, few, new)
            name = "all" if few is None else str(few)
            for method, rows in (("fit", head_rows._regress), ("mean", as_means)):
                regress, head_rows._regress = head_rows._regress, rows
                index(IndexSettings(root=first.root, add=(other.root,), thumbnails=False, force=True))
                head_rows._regress = regress
                show(f"added, {name} photographs, {method}", measure(first, new))
            both = copy_root(given.root, top / f"both{few}", keys, few, new)
            train(TrainSettings(root=both.root))
            index(IndexSettings(root=both.root, thumbnails=False))
            show(f"trained, {name} photographs", measure(both, new))


def show(name: str, pair: tuple[str, str]) -> None:
    """Print a line of the table."""
    print(f"{name:40} {pair[0]:>20} {pair[1]:>20}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
