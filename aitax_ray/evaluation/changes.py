"""What has changed since an earlier engine, on the photographs that both were tested with."""

import dataclasses
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.evaluation.answers import Taxonomy
from aitax_ray.evaluation.compare import Comparison, compare
from aitax_ray.evaluation.summary import percent
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace

ANSWERS = "answers.parquet"  # of an engine
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OtherAnswers:
    """The answers of another engine."""

    name: str
    """The version of the engine, or the folder."""
    rows: pa.Table
    """schemas.ANSWERS."""


def read_answers(ws: Workspace, location: str | None) -> OtherAnswers | None:
    """Read the answers of the engine at `location`: an engine's folder, a root, or a folder of engines.

    Without a location of the current engine of the workspace; None when there is none, or one of an earlier version
    that holds no answers. Raises DataError when the given location has no answers.
    """
    storage = ws.storage if location is None else Storage(location.removesuffix("/").removesuffix("/current"))
    for prefix in ("", "engines/"):
        pointer = f"{prefix}current"
        if storage.exists(pointer):
            version = storage.read_bytes(pointer).decode().strip()
            path = f"{prefix}{version}/{ANSWERS}"
            if storage.exists(path):
                return OtherAnswers(version, storage.read_table(path, schema=schemas.ANSWERS))
    if location is None:
        return None
    for path in (ANSWERS, workspace.ANSWERS):
        if storage.exists(path):
            return OtherAnswers(storage.address(), storage.read_table(path, schema=schemas.ANSWERS))
    raise DataError(
        f"--compare: {storage.address()} holds no answers to test photographs: give an engine that this version "
        "published, or a root where `aitax evaluate` has been run"
    )


def compare_answers(before: pa.Table, after: pa.Table) -> Comparison:
    """Compare two engines on the photographs with the same species in both tables (schemas.ANSWERS)."""
    import polars as pl

    old: Any = pl.from_arrow(before)
    new: Any = pl.from_arrow(after)
    old = old.select("image_id", "species_key", before=pl.col("answer") == pl.col("species_key"))
    both = new.join(old, on=["image_id", "species_key"], how="inner", validate="1:1", maintain_order="left")
    return compare(
        both["before"].to_numpy(),
        (both["answer"] == both["species_key"]).to_numpy(),
        np.array(both["species_key"].to_list(), str),
        both.select(pl.concat_str("gbif_id", "species_key", separator="\0")).to_series().to_numpy().astype(str),
    )


def compare_added(before: pa.Table, after: pa.Table) -> Comparison | None:
    """Compare both on the species that the first one knew without training; None without common photographs."""
    found = compare_answers(before.filter(pc.fill_null(before["is_added"], False)), after)
    return found if found.num_photographs else None


def describe_changes(other: OtherAnswers | None, answers: pa.Table, taxonomy: Taxonomy) -> dict[str, Any] | None:
    """Describe what has changed since the other engine, for metrics.json; None without one."""
    if other is None:
        return None
    found = compare_answers(other.rows, answers)
    added = compare_added(other.rows, answers)
    if added is not None:
        log.info(
            "species that %s knew without training: top-1 was %s, is %s, on %s photographs",
            other.name, percent(added.top1.before), percent(added.top1.after), f"{added.num_photographs:,}",
        )  # fmt: skip
    names = dict(zip(taxonomy.keys, taxonomy.names, strict=True))
    log.info("compared with %s on %s photographs", other.name, f"{found.num_photographs:,}")
    return {
        "against": other.name,
        "num_photographs": found.num_photographs,
        "num_occurrences": found.num_occurrences,
        "top1": dataclasses.asdict(found.top1),
        "macro_top1": dataclasses.asdict(found.macro_top1),
        "added": None if added is None else dataclasses.asdict(added.top1) | {"num_photographs": added.num_photographs},
        "is_significantly_worse": found.is_significantly_worse,
        "is_significantly_better": found.is_significantly_better,
        "species": [row | {"name": names.get(str(row["species_key"]), "")} for row in found.species],
    }
