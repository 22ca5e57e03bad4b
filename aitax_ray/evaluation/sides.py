"""Reads what the evaluation works on: validation and test photographs with their neighbours, taxonomy, columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.evaluation.answering import Side
from aitax_ray.evaluation.answers import Taxonomy, make_taxonomy
from aitax_ray.evaluation.neighbors import NUM_NEIGHBORS, Neighbors
from aitax_ray.evaluation.photographs import HELD_OUT, read_photographs, read_rows
from aitax_ray.evaluation.questions import Photographs
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.index.added import read_added_classes, read_info, read_joined
from aitax_ray.index.shards import open_index
from aitax_ray.joins import join_rows, look_up
from aitax_ray.workspace import Workspace

BATCH = 4096  # photographs that are searched at a time
COLUMNS = ("country", "publisher", "year", "basis of record", "licence")


@dataclass(frozen=True)
class Sides:
    """The photographs that are evaluated."""

    val: Side
    test: Side
    unknown: tuple[Side, Side] | None
    """Photographs of species that were held out: some to choose with, others to measure with."""
    unknown_species: np.ndarray
    """int64: the number of the species of each photograph to choose with."""
    taxonomy: Taxonomy
    rows: pa.Table
    """schemas.SPLIT of the test photographs, in their order, with those of MEDIA and OCCURRENCES (see `_describe`)."""
    held_out: list[str]
    """Names of the species that were held out."""
    num_measured: int
    """How many of these have photographs to measure with."""
    num_added: int
    """The last classes: species that `index --add` added to the trained ones."""


def read_sides(ws: Workspace, settings: EvaluateSettings) -> Sides:
    """Read the photographs of all sides. Raises DataError when no photograph is in the test split."""
    rows = read_rows(ws)
    side_of = np.array(rows["split"].to_pylist())
    if not (side_of == "test").any():
        raise DataError(
            "no photograph is in the test split: run `aitax split` with --test above 0 and more photographs"
        )
    photographs = read_photographs(ws, settings, rows)
    neighbors = search(ws, photographs)
    classes, taxa = read_info(ws).classes, read_joined(ws, workspace.TAXA, schema=schemas.TAXA)
    split = read_joined(ws, workspace.SPLIT, ["class_index", "split"])
    trained = split.filter(pc.equal(split["split"], "train"))["class_index"].to_numpy()
    num_train = np.bincount(trained, minlength=len(classes))

    def side(which: np.ndarray) -> Side:
        return Side(photographs.select(which), neighbors.select(which), num_train)

    held_out = np.flatnonzero(side_of == HELD_OUT)
    keys, species = np.unique(np.array(rows["species_key"].to_pylist(), str)[held_out], return_inverse=True)
    unknown, is_first = None, np.zeros(len(held_out), bool)
    if len(held_out):
        halves = species if len(keys) > 1 else photographs.occurrence[held_out]  # of one species alone its occurrences
        is_first = halves % 2 == 0
        unknown = side(held_out[is_first]), side(held_out[~is_first])
    return Sides(
        val=side(side_of == "val"),
        test=side(side_of == "test"),
        unknown=unknown,
        unknown_species=species[is_first],
        taxonomy=read_taxonomy(classes, taxa),
        rows=_describe(ws, rows.filter(pa.array(side_of == "test"))),
        num_measured=len(np.unique(species[~is_first])),
        num_added=len(read_added_classes(ws)),
        held_out=look_up(keys.tolist(), taxa, "species_key", workspace.TAXA)["name"].to_list(),
    )


def read_taxonomy(classes: list[str], taxa: pa.Table) -> Taxonomy:
    """The genus and the family of each class, from schemas.TAXA."""
    rows = look_up(classes, taxa, "species_key", workspace.TAXA)
    names, genus, family = (rows[column].to_list() for column in ("name", "genus", "family"))
    return make_taxonomy(classes, names, genus, family)


def name_classes(ws: Workspace) -> dict[str, int]:
    """The class_index of each species key, name and scientific name, see external.normalize_name."""
    from aitax_ray.evaluation.external import normalize_name

    taxa = read_joined(ws, workspace.TAXA, schema=schemas.TAXA)
    rows = look_up(read_info(ws).classes, taxa, "species_key", workspace.TAXA)
    columns = [rows[name].to_list() for name in ("scientific_name", "name", "species_key")]  # the last one wins
    return {normalize_name(name): place for column in columns for place, name in enumerate(column) if name}


def search(ws: Workspace, photographs: Photographs) -> Neighbors:
    """Search the nearest training photographs of each photograph, in the index.

    An index of all sides holds the photograph itself too, and others of its occurrence. So more neighbours are searched
    there, and only training photographs are kept: in rare cases fewer than NUM_NEIGHBORS.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    with open_index(ws.storage) as index:
        is_train = np.concatenate([pc.equal(shard.rows["split"], "train").to_numpy() for shard in index.shards])
        num = NUM_NEIGHBORS if is_train.all() else 2 * NUM_NEIGHBORS
        for start in range(0, len(photographs), BATCH):
            rows, similarity = index.search(photographs.unit[start : start + BATCH].astype(np.float32), num)
            is_kept = (rows >= 0) & is_train[np.maximum(rows, 0)]
            first = np.argsort(~is_kept, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
            rows, similarity = np.where(is_kept, rows, -1), np.where(is_kept, similarity, np.float32(np.nan))
            parts.append(
                (index.classes_of(np.take_along_axis(rows, first, 1)), np.take_along_axis(similarity, first, 1))
            )
    return Neighbors(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _describe(ws: Workspace, rows: pa.Table) -> pa.Table:
    """Add to rows of schemas.SPLIT what the figures are broken down by, COLUMNS, and the credits of MEDIA."""
    import polars as pl

    credits = ["url", "license_id", "license", "creator", "rights_holder", "publisher", "references"]
    media: Any = pl.from_arrow(read_joined(ws, workspace.MEDIA, ["image_id", *credits], schemas.MEDIA))
    wanted = ["gbif_id", "species_key", "country_code", "event_date", "basis_of_record"]
    seen: Any = pl.from_arrow(read_joined(ws, workspace.OCCURRENCES, wanted, schemas.OCCURRENCES))
    found: Any = pl.from_arrow(rows)
    found = join_rows(found, media, "image_id", workspace.MEDIA, how="left")
    seen = seen.unique(["gbif_id", "species_key"], keep="first", maintain_order=True)
    found = found.join(seen, on=["gbif_id", "species_key"], how="left", validate="m:1", maintain_order="left")
    year = pl.col("event_date").str.extract(r"^(\d{4})").fill_null("")
    found = found.with_columns(
        pl.col("country_code").alias("country"),
        year.alias("year"),
        pl.col("basis_of_record").alias("basis of record"),
        pl.col("license_id").alias("licence"),
    )
    return found.with_columns(pl.col(pl.String).fill_null("")).to_arrow()
