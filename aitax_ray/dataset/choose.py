"""The decisions of the `split` stage, in their order: which stored photographs are used, and on which side.

All photographs are in memory, in the order of their file (photographs.py), each with some 30 bytes, beside the names of
groups and the keys of photographs that look alike. Other keys are read from the file where they are needed.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.dataset import duplicates, groups, label_trust, reasons, tested
from aitax_ray.dataset.assign import SIDES
from aitax_ray.dataset.photographs import Photographs, write_photographs
from aitax_ray.errors import DataError
from aitax_ray.joins import as_frame
from aitax_ray.licenses import is_admitted
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.dataset.settings import SplitSettings

log = logging.getLogger(__name__)

DUPLICATE_URL = "duplicate_url"  # of the manifest's reasons
DOUBTFUL_WEIGHT = 0.5  # in training
NUM_ROWS = 200_000  # dropped rows that are read at a time
# What the decisions need: other columns are not copied.
TO_NAME = ["species_key", "cluster", "weight"]
TO_COMPARE = ["cluster", "weight"]
TO_KEEP = ["image_id", "jpeg_sha256", "license_id", "width", "height"]
TO_ASSIGN = ["species_key", "group", "weight"]


@dataclass(frozen=True)
class Chosen:
    """What was decided of each photograph.

    `images` has a row per photograph of `photographs`: `species_key`, `trust`, `has_hash`, `weight`; `reason` ("" for
    those that are used), `detail`, `cluster` and `split`; and `group`, its number in `groups`.
    """

    photographs: Photographs
    images: "pl.DataFrame"
    groups: "pl.Series"

    def with_keys(self, num_rows: int) -> "Iterator[pl.DataFrame]":
        """Add image_id, gbif_id and the names of the groups, to some rows at a time."""
        import polars as pl

        start = 0
        for keys in self.photographs.batches(["image_id", "gbif_id"], num_rows):
            rows = self.images.slice(start, keys.height)
            start += keys.height
            texts = pl.col(pl.Categorical, pl.Enum).cast(pl.String)
            yield keys.hstack(rows.with_columns(texts, group=self.groups.gather(rows["group"])))


def choose(ws: Workspace, settings: "SplitSettings", folder: Path, given_split: "pl.DataFrame | None" = None) -> Chosen:
    """Decide for each photograph whether it is used, and on which side.

    Writes their columns to a file in `folder`. `given_split` is an existing split, as split_file.read_split_file gives
    it.
    """
    import polars as pl

    image_size = ws.require("download").settings.get("image_size", settings.min_side)
    min_side = min(settings.min_side, image_size) if settings.rules else None
    photographs = write_photographs(ws, min_side, folder)
    images = photographs.read(["species_key", "trust", "reason", "has_hash"]).rechunk()
    is_doubtful = pl.col("trust").is_in(label_trust.DOUBTFUL) & (settings.labels != "any")
    images = images.with_columns(
        detail=pl.lit("", pl.Categorical),
        weight=pl.when(is_doubtful).then(DOUBTFUL_WEIGHT).otherwise(1.0).cast(pl.Float32),
        split=pl.lit(None, pl.Enum(SIDES)),
    )
    log.info("looking for copies among %s photographs", f"{images.height:,}")
    # Photographs without an organism are not compared: they are neither copies nor contradictions.
    images = images.with_columns(cluster=_clusters(photographs, images["reason"] == "", settings.max_distance))
    is_alike = pl.col("cluster") != ""
    images = _spread(images, is_alike, lambda alike: _contradictions(ws, images.select(TO_NAME).filter(alike)))
    images = _leave_out(images, pl.col("species").is_not_null(), reasons.CONFLICT, pl.col("species")).drop("species")
    license_ids = photographs.read(["license_id"])["license_id"]
    admitted = [name for name in license_ids.unique() if is_admitted(name, settings.license)]
    images = _leave_out(
        images.with_columns(license_ids), ~pl.col("license_id").is_in(admitted), reasons.LICENSE, pl.col("license_id")
    ).drop("license_id")
    if settings.labels == "not-machine":
        images = _leave_out(images, pl.col("trust") == label_trust.MACHINE, reasons.MACHINE_LABEL)
    if settings.labels == "verified":
        images = _leave_out(images, pl.col("trust") != label_trust.VERIFIED, reasons.NOT_VERIFIED, pl.col("trust"))
    if given_split is not None:
        images = images.with_columns(_sides(photographs, given_split))
        images = _leave_out(images, pl.col("split").is_null(), reasons.NOT_IN_SPLIT_FILE)

    is_compared = is_alike & (pl.col("reason") == "")
    images = _spread(images, is_compared, lambda alike: _copies(photographs, images.select(TO_COMPARE), alike))
    group, names = _groups(ws, photographs, images, settings)
    images = images.with_columns(group)
    images = _bound_species(photographs, images, settings)
    images = _hold_out(images, settings)
    if given_split is None:
        # Also by photographs that are left out: a copy of what was in test is as good as that.
        was_tested = images["group"].filter(photographs.find(tested.read(ws, settings)))
        images = _assign(images, names, settings, was_tested)
    images = _leave_out(
        images, (pl.col("weight") < 1) & (pl.col("split") != "train"), reasons.DOUBTFUL_LABEL, pl.col("trust")
    )
    trained = images.filter((pl.col("reason") == "") & (pl.col("split") == "train"))["species_key"].unique()
    images = _leave_out(images, ~pl.col("species_key").is_in(trained.implode()), reasons.NO_TRAINING_IMAGES)
    return Chosen(photographs, images, names)


def _spread(
    images: "pl.DataFrame", condition: "pl.Expr", judge: "Callable[[pl.Series], pl.DataFrame]"
) -> "pl.DataFrame":
    """Set columns to what `judge` says of the photographs to which a condition applies, one row for each, in order.

    `judge` gets for each photograph whether it applies. For the others a new column is null, and one that is there
    stays. No join: it would hold all keys once more.
    """
    import polars as pl

    applies = images.select(condition.alias("applies"))["applies"]
    judged_row = applies.to_frame().select(pl.when("applies").then(pl.col("applies").cum_sum() - 1))["applies"]
    judged = judge(applies)
    for name in judged.columns:
        values = judged[name].gather(judged_row)
        if name in images.columns:
            values = values.cast(images[name].dtype).zip_with(applies, images[name])
        images = images.with_columns(values.alias(name))
    return images


def _clusters(photographs: Photographs, seen: "pl.Series", max_distance: int) -> "pl.Series":
    """The cluster of each photograph: the smallest image_id of those that look the same; "" for all others."""
    import numpy as np
    import polars as pl

    seen_rows = seen.arg_true().to_numpy()
    hashes, is_hashed = photographs.hashes(seen)
    # `sha256` has no name here, so that it is freed before hashes are compared.
    first = duplicates.find_clusters(
        photographs.read(["jpeg_sha256"], seen)["jpeg_sha256"], hashes, is_hashed, max_distance
    )
    del hashes
    is_later = first != np.arange(len(first))
    is_alike = np.zeros(len(seen), bool)
    is_alike[seen_rows[is_later]] = is_alike[seen_rows[first[is_later]]] = True
    ids = photographs.read(["image_id"], pl.Series(is_alike))["image_id"]
    alike_numbers = np.cumsum(is_alike, dtype=np.uint32)  # from 1
    cluster_numbers = np.zeros(len(seen), np.uint32)
    cluster_numbers[seen_rows] = np.where(is_alike[seen_rows], alike_numbers[seen_rows[first]], 0)
    return pl.concat([pl.Series([""]), ids]).cast(pl.Categorical).gather(cluster_numbers).rename("cluster")


def _copies(photographs: Photographs, images: "pl.DataFrame", alike: "pl.Series") -> "pl.DataFrame":
    """Find the copies among the photographs that look alike, as duplicates.copies does."""
    return duplicates.copies(photographs.read(TO_KEEP, alike).hstack(images.filter(alike)))


def _sides(photographs: Photographs, given_split: "pl.DataFrame") -> "pl.Series":
    """The side of each photograph in an existing split."""
    import polars as pl

    key = given_split.columns[0]
    sides = given_split.with_columns(pl.col("split").cast(pl.Enum(SIDES)))
    return photographs.read([key]).join(sides, on=key, how="left", validate="m:1", maintain_order="left")["split"]


def _contradictions(ws: Workspace, alike: "pl.DataFrame") -> "pl.DataFrame":
    """The species that contradict each other in the cluster of a photograph; null if none does."""
    return duplicates.contradictions(alike.with_columns(_names(ws, alike))).replace("", None).to_frame()


def _names(ws: Workspace, images: "pl.DataFrame") -> "pl.Series":
    """Find the name of each photograph's species; its key if it has no name."""
    import polars as pl

    names = as_frame(ws.storage.read_table(workspace.TAXA, ["species_key", "name"], schemas.TAXA))
    names = names.unique("species_key", keep="first", maintain_order=True).with_columns(
        pl.col("species_key").cast(images["species_key"].dtype)
    )
    rows = images.select("species_key").join(names, on="species_key", how="left", validate="m:1", maintain_order="left")
    return rows.select(name=pl.coalesce(pl.col("name").replace("", None), pl.col("species_key").cast(pl.String)))[
        "name"
    ]


def _groups(
    ws: Workspace, photographs: Photographs, images: "pl.DataFrame", settings: "SplitSettings"
) -> "tuple[pl.Series, pl.Series]":
    """Find the group of each photograph, and the groups' names. Photographs that are left out also link occurrences."""
    import polars as pl

    columns = ["gbif_id", "species_key", "recorded_by", "event_date", "decimal_latitude", "decimal_longitude"]
    occurrences = schemas.OCCURRENCES.empty_table().select(columns)
    if settings.group_by:
        occurrences = ws.storage.read_table(workspace.OCCURRENCES, columns, schemas.OCCURRENCES)
    # Of the rows with one URL the manifest keeps one, which is of one occurrence.
    names, others = (
        ["species_key", "gbif_id", "url"],
        [pl.DataFrame(schema={"image_id": pl.String, "species_key": pl.Categorical, "gbif_id": pl.String})],
    )
    for batch in ws.storage.read_batches(workspace.DROPPED, [*names, "reason"], NUM_ROWS, schemas.DROPPED):
        rows = as_frame(batch).filter(pl.col("reason") == DUPLICATE_URL)
        ids = pl.Series("image_id", [schemas.image_id(url) for url in rows["url"]], pl.String)
        others.append(rows.select(ids, pl.col("species_key").cast(pl.Categorical), "gbif_id"))
    shared = pl.concat(others)
    is_shared = photographs.find(shared["image_id"])
    own = photographs.read(["image_id"], is_shared)
    clustered = _spread(
        images.select("species_key", "cluster", is_shared.alias("is_shared")),
        pl.col("is_shared") & (pl.col("cluster") == ""),
        lambda alone: own.select(cluster="image_id").filter(alone.filter(is_shared)),
    )
    shared = shared.join(own.hstack(clustered.select("cluster").filter(is_shared)), on="image_id", validate="m:1")
    rows = clustered.select("species_key", "cluster").hstack(photographs.read(["gbif_id"]))
    group, keys = groups.group(rows, groups.keys(as_frame(occurrences), settings.group_by), shared)
    return pl.Series("group", group, pl.UInt32), keys


def _bound_species(photographs: Photographs, images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Keep --max-images per species, doubtful labels last; then leave out species with fewer than --min-images."""
    import numpy as np
    import polars as pl

    from aitax_ray.dataset.assign import draw

    is_left = pl.col("reason") == ""
    if settings.max_images is not None:
        ids = (batch["image_id"] for batch in photographs.batches(["image_id"]))
        drawn = pl.Series("drawn", np.concatenate([np.empty(0), *(draw(settings.seed, some) for some in ids)]))
        rank = pl.struct(~is_left, -pl.col("weight"), "drawn").rank("ordinal").over("species_key")
        images = images.with_columns(drawn).with_columns(rank=rank)
        images = _leave_out(images, pl.col("rank") > settings.max_images, reasons.ABOVE_MAX_IMAGES).drop(
            "drawn", "rank"
        )
    num = is_left.sum().over("species_key")
    return _leave_out(images, num < settings.min_images, reasons.TOO_FEW_IMAGES, num.cast(pl.String))


def _hold_out(images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Leave out --holdout-species species, drawn by --seed: their photographs show what no class is for.

    Raises DataError unless two species are left.
    """
    import polars as pl

    from aitax_ray.dataset.assign import draw

    if not settings.holdout_species:
        return images
    species = images.filter(pl.col("reason") == "")["species_key"].unique().sort()
    if len(species) - settings.holdout_species < 2:
        raise DataError(
            f"--holdout-species {settings.holdout_species} would leave fewer than two of {len(species)} species: "
            "ask for fewer"
        )
    drawn = draw(settings.seed, (f"holdout/{key}" for key in species))
    held_out = pl.col("species_key").is_in(species.gather(drawn.argsort()[: settings.holdout_species]).implode())
    images = _leave_out(images, held_out & (pl.col("weight") < 1), reasons.DOUBTFUL_LABEL, pl.col("trust"))
    return _leave_out(images, held_out, reasons.HELD_OUT)


def _assign(
    images: "pl.DataFrame", names: "pl.Series", settings: "SplitSettings", was_tested: "pl.Series"
) -> "pl.DataFrame":
    """Give each remaining photograph its side; the groups `was_tested` stay in test.

    `names` are those of the groups. Groups whose labels are all doubtful are for training.
    """
    import numpy as np
    import polars as pl

    from aitax_ray.dataset.assign import TRAIN, assign, draw

    earlier = np.zeros(len(names), bool)
    earlier[was_tested.to_numpy()] = True

    def judge(is_left: pl.Series) -> pl.DataFrame:
        remaining = images.select(TO_ASSIGN).filter(is_left)
        is_believed = np.zeros(len(names), bool)
        is_believed[remaining.filter(pl.col("weight") == 1)["group"].to_numpy()] = True
        numbers, species = remaining["group"].to_numpy(), remaining["species_key"].unique().sort()
        # Species are numbered by their names. A pair is one number of 64 bits, since NumPy sorts these fast.
        codes = species.to_physical().to_numpy()
        ranks = np.zeros(codes.max(initial=0) + 1, np.uint64)
        ranks[codes] = np.arange(len(codes))
        pairs = ranks[remaining["species_key"].to_physical().to_numpy()] << np.uint64(32) | numbers
        pairs = np.unique(pairs[is_believed[numbers]])
        members = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
        # Most names may be of occurrences without a photograph that remains: for these no number is drawn.
        drawn = np.zeros(len(names))
        drawn[is_believed] = draw(settings.seed, names.filter(pl.Series(is_believed)))
        sides = assign(drawn, members, settings.val, settings.test, earlier)
        sides[~is_believed] = TRAIN
        return pl.DataFrame({"split": pl.Series(SIDES, dtype=pl.Enum(SIDES)).gather(sides[numbers])})

    return _spread(images, pl.col("reason") == "", judge)


def _leave_out(
    images: "pl.DataFrame", condition: "pl.Expr", reason: str, detail: "pl.Expr | None" = None
) -> "pl.DataFrame":
    """Give a reason to the remaining photographs to which a condition applies."""
    import polars as pl

    applies = (pl.col("reason") == "") & condition
    detail = pl.lit("") if detail is None else detail
    return images.with_columns(
        reason=pl.when(applies).then(pl.lit(reason, pl.Categorical)).otherwise("reason"),
        detail=pl.when(applies).then(detail.cast(pl.Categorical)).otherwise("detail"),
    )
