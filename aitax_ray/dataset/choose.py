"""The decisions of the `split` stage, in their order: which stored photographs are used, and on which side."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.dataset import duplicates, groups, label_trust, reasons, tested
from aitax_ray.dataset.assign import SIDES
from aitax_ray.dataset.photographs import read_photographs
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
KEYS = ["species_key", "gbif_id"]
# What the decisions need: other columns are not copied.
TO_COMPARE = ["image_id", "jpeg_sha256", "phash"]
TO_NAME = ["species_key", "cluster", "weight"]
TO_KEEP = ["image_id", "cluster", "jpeg_sha256", "license_id", "width", "height", "weight"]
TO_ASSIGN = ["species_key", "group", "weight"]


def choose(ws: Workspace, settings: "SplitSettings", given_split: "pl.DataFrame | None" = None) -> "pl.DataFrame":
    """All photographs with `reason` ("" for those that are used), `detail`, `cluster`, `group` and `split`.

    `given_split` is an existing split, as split_file.read_split_file gives it.
    """
    import polars as pl

    image_size = ws.require("download").settings.get("image_size", settings.min_side)
    images = read_photographs(ws, min(settings.min_side, image_size) if settings.rules else None)
    is_doubtful = pl.col("trust").is_in(label_trust.DOUBTFUL) & (settings.labels != "any")
    images = images.with_columns(
        detail=pl.lit(""),
        weight=pl.when(is_doubtful).then(DOUBTFUL_WEIGHT).otherwise(1.0).cast(pl.Float32),
        split=pl.lit(None, pl.Enum(SIDES)),
    )
    log.info("looking for copies among %s photographs", f"{images.height:,}")
    # Photographs without an organism are not compared: they are neither copies nor contradictions.
    images = _spread(images, TO_COMPARE, pl.col("reason") == "", lambda seen: _clusters(seen, settings.max_distance))
    images = images.drop("phash").with_columns(pl.col("cluster").fill_null(""))
    is_alike = pl.col("cluster") != ""
    images = _spread(images, TO_NAME, is_alike, lambda alike: _contradictions(ws, alike))
    images = _leave_out(images, pl.col("species").is_not_null(), reasons.CONFLICT, pl.col("species")).drop("species")
    admitted = [name for name in images["license_id"].unique() if is_admitted(name, settings.license)]
    images = _leave_out(images, ~pl.col("license_id").is_in(admitted), reasons.LICENSE, pl.col("license_id"))
    if settings.labels == "not-machine":
        images = _leave_out(images, pl.col("trust") == label_trust.MACHINE, reasons.MACHINE_LABEL)
    if settings.labels == "verified":
        images = _leave_out(images, pl.col("trust") != label_trust.VERIFIED, reasons.NOT_VERIFIED, pl.col("trust"))
    if given_split is not None:
        images = images.drop("split").join(
            given_split.with_columns(pl.col("split").cast(pl.Enum(SIDES))),
            on=given_split.columns[0],
            how="left",
            validate="m:1",
            maintain_order="left",
        )
        images = _leave_out(images, pl.col("split").is_null(), reasons.NOT_IN_SPLIT_FILE)
    images = _spread(images, TO_KEEP, is_alike & (pl.col("reason") == ""), duplicates.copies)
    images = images.drop("jpeg_sha256", "license_id", "width", "height")
    images = images.with_columns(_groups(ws, images, settings))
    images = _bound_species(images, settings)
    images = _hold_out(images, settings)
    if given_split is None:
        images = _assign(images, settings, tested.read(ws, settings))
    images = _leave_out(
        images, (pl.col("weight") < 1) & (pl.col("split") != "train"), reasons.DOUBTFUL_LABEL, pl.col("trust")
    )
    trained = images.filter((pl.col("reason") == "") & (pl.col("split") == "train"))["species_key"].unique()
    return _leave_out(images, ~pl.col("species_key").is_in(trained.implode()), reasons.NO_TRAINING_IMAGES)


def _spread(
    images: "pl.DataFrame", columns: list[str], condition: "pl.Expr", judge: "Callable[[pl.DataFrame], pl.DataFrame]"
) -> "pl.DataFrame":
    """Set columns to what `judge` says of the photographs to which a condition applies, one row for each, in order.

    `judge` gets some columns of these photographs. For the others a new column is null, and one that is there stays.
    No join: it would hold all keys once more.
    """
    import polars as pl

    applies = images.select(condition.alias("applies"))["applies"]
    place = pl.DataFrame({"applies": applies}).select(pl.when("applies").then(pl.col("applies").cum_sum() - 1))
    judged = judge(images.select(columns).filter(applies))
    for name in judged.columns:
        values = judged[name].gather(place["applies"])
        if name in images.columns:
            values = values.cast(images[name].dtype).zip_with(applies, images[name])
        images = images.with_columns(values.alias(name))
    return images


def _clusters(seen: "pl.DataFrame", max_distance: int) -> "pl.DataFrame":
    """The cluster of each photograph, "" for one that looks like no other."""
    import polars as pl

    found = seen.select("image_id").with_columns(duplicates.find_clusters(seen, max_distance))
    several = found.filter(pl.col("cluster") != pl.col("image_id"))["cluster"].unique()
    is_alone = ~pl.col("cluster").is_in(several.implode())
    return found.select(cluster=pl.when(is_alone).then(pl.lit("")).otherwise("cluster"))


def _contradictions(ws: Workspace, alike: "pl.DataFrame") -> "pl.DataFrame":
    """The species that contradict each other in the cluster of a photograph; null if none does."""

    named = alike.with_columns(_names(ws, alike))
    return named.select(species=duplicates.contradictions(named).replace("", None))


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


def _groups(ws: Workspace, images: "pl.DataFrame", settings: "SplitSettings") -> "pl.Series":
    """Find the group of each photograph. Photographs that are left out also link occurrences."""
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
    is_shared = pl.col("image_id").is_in(shared["image_id"].implode())
    named = pl.when(is_shared & (pl.col("cluster") == "")).then("image_id").otherwise("cluster").alias("cluster")
    rows = images.select("image_id", "gbif_id", "species_key", named)
    shared = shared.join(rows.filter(is_shared).select("image_id", "cluster"), on="image_id", validate="m:1")
    return groups.group(rows, groups.keys(as_frame(occurrences), settings.group_by), shared)


def _bound_species(images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Keep --max-images per species, doubtful labels last; then leave out species with fewer than --min-images."""
    import polars as pl

    from aitax_ray.dataset.assign import draw

    is_left = pl.col("reason") == ""
    if settings.max_images is not None:
        drawn = pl.Series("drawn", draw(settings.seed, images["image_id"]))
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


def _assign(images: "pl.DataFrame", settings: "SplitSettings", earlier: "pl.Series") -> "pl.DataFrame":
    """Give each remaining photograph its side; groups with a photograph of `earlier` stay in test.

    Groups whose labels are all doubtful are for training.
    """
    import numpy as np
    import polars as pl

    from aitax_ray.dataset.assign import TRAIN, assign, draw

    # Also by photographs that are left out: a copy of what was in test is as good as that.
    was_tested = images.filter(pl.col("image_id").is_in(earlier.implode()))["group"].unique()

    def judge(remaining: pl.DataFrame) -> pl.DataFrame:
        numbers, names = groups.number(remaining["group"])
        is_believed = np.zeros(len(names), bool)
        is_believed[numbers[(remaining["weight"] == 1).to_numpy()]] = True
        pairs = remaining.select(pl.col("species_key").rank("dense").cast(pl.Int64) - 1, number=numbers)
        pairs = pairs.filter(is_believed[numbers]).unique()
        sides = assign(
            draw(settings.seed, names),
            (pairs["species_key"].to_numpy(), pairs["number"].to_numpy()),
            settings.val,
            settings.test,
            names.is_in(was_tested.implode()).to_numpy(),
        )
        sides[~is_believed] = TRAIN
        return pl.DataFrame({"split": pl.Series(SIDES, dtype=pl.Enum(SIDES)).gather(sides[numbers])})

    return _spread(images, TO_ASSIGN, pl.col("reason") == "", judge)


def _leave_out(
    images: "pl.DataFrame", condition: "pl.Expr", reason: str, detail: "pl.Expr | None" = None
) -> "pl.DataFrame":
    """Give a reason to the remaining photographs to which a condition applies."""
    import polars as pl

    applies = (pl.col("reason") == "") & condition
    return images.with_columns(
        reason=pl.when(applies).then(pl.lit(reason)).otherwise("reason"),
        detail=pl.when(applies).then(pl.lit("") if detail is None else detail).otherwise("detail"),
    )
