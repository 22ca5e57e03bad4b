"""The decisions of the `split` stage, in their order: which stored photographs are used, and on which side."""

import logging
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.dataset import duplicates, groups, label_trust, reasons, tested
from aitax_ray.dataset.photographs import as_frame, read_photographs
from aitax_ray.errors import DataError
from aitax_ray.licenses import is_admitted
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.dataset.settings import SplitSettings

log = logging.getLogger(__name__)

DUPLICATE_URL = "duplicate_url"  # of the manifest's reasons
DOUBTFUL_WEIGHT = 0.5  # in training
NUM_ROWS = 200_000  # occurrences that are judged at a time


def choose(ws: Workspace, settings: "SplitSettings", given_split: "pl.DataFrame | None" = None) -> "pl.DataFrame":
    """All photographs with `reason` ("" for those that are used), `detail`, `cluster`, `group` and `split`.

    `given_split` is an existing split, as split_file.read_split_file gives it.
    """
    import polars as pl

    image_size = ws.require("download").settings.get("image_size", settings.min_side)
    images = read_photographs(ws, min(settings.min_side, image_size) if settings.rules else None)
    images = images.with_columns(detail=pl.lit("")).with_columns(_names(ws, images))
    images = _judge_labels(ws, images, settings)
    log.info("looking for copies among %s photographs", f"{images.height:,}")
    # Photographs without an organism are not compared: they are neither copies nor contradictions.
    seen = images.filter(pl.col("reason") == "")
    seen = seen.with_columns(cluster=duplicates.find_clusters(seen, settings.max_distance))
    seen = seen.with_columns(species=duplicates.contradictions(seen))
    images = images.join(
        seen.select("image_id", "cluster", "species"),
        on="image_id",
        how="left",
        validate="1:1",
        maintain_order="left",
    )
    images = images.with_columns(pl.col("cluster").fill_null(pl.col("image_id")), pl.col("species").fill_null(""))
    images = _leave_out(images, pl.col("species") != "", reasons.CONFLICT, pl.col("species"))
    admitted = [name for name in images["license_id"].unique() if is_admitted(name, settings.license)]
    images = _leave_out(images, ~pl.col("license_id").is_in(admitted), reasons.LICENSE, pl.col("license_id"))
    if settings.labels == "not-machine":
        images = _leave_out(images, pl.col("trust") == label_trust.MACHINE, reasons.MACHINE_LABEL)
    if settings.labels == "verified":
        images = _leave_out(images, pl.col("trust") != label_trust.VERIFIED, reasons.NOT_VERIFIED, pl.col("trust"))
    images = images.with_columns(split=pl.lit(None, pl.String))
    if given_split is not None:
        images = images.drop("split").join(
            given_split, on=given_split.columns[0], how="left", validate="m:1", maintain_order="left"
        )
        images = _leave_out(images, pl.col("split").is_null(), reasons.NOT_IN_SPLIT_FILE)
    remaining = images.filter(pl.col("reason") == "")
    images = images.update(remaining.select("image_id").hstack(duplicates.copies(remaining)), on="image_id")
    images = images.with_columns(_groups(ws, images, settings)).drop("phash", "jpeg_sha256", "name", "species")
    images = images.with_columns(cluster=pl.when(pl.len().over("cluster") > 1).then("cluster").otherwise(pl.lit("")))
    images = _bound_species(images, settings)
    images = _hold_out(images, settings)
    if given_split is None:
        images = _assign(images, settings, tested.read(ws, settings))
    images = _leave_out(
        images, (pl.col("weight") < 1) & (pl.col("split") != "train"), reasons.DOUBTFUL_LABEL, pl.col("trust")
    )
    trained = images.filter((pl.col("reason") == "") & (pl.col("split") == "train"))["species_key"].unique()
    return _leave_out(images, ~pl.col("species_key").is_in(trained.implode()), reasons.NO_TRAINING_IMAGES)


def _names(ws: Workspace, images: "pl.DataFrame") -> "pl.Series":
    """Find the name of each photograph's species; its key if it has no name."""
    import polars as pl

    names = as_frame(ws.storage.read_table(workspace.TAXA, ["species_key", "name"], schemas.TAXA))
    names = names.unique("species_key", keep="first", maintain_order=True)
    rows = images.select("species_key").join(names, on="species_key", how="left", validate="m:1", maintain_order="left")
    return rows.select(name=pl.coalesce(pl.col("name").replace("", None), "species_key"))["name"]


def _judge_labels(ws: Workspace, images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Add `trust`, how far each label can be believed, and `weight`, which is below 1 for doubtful labels.

    Reads some occurrences at a time, since texts take much memory.
    """
    import polars as pl

    keys = ["gbif_id", "species_key"]
    texts = ["dataset_key", "identification_status", "identified_by", "identification_remarks"]
    known = [pl.DataFrame(schema=dict.fromkeys([*keys, "trust"], pl.String))]
    for batch in ws.storage.read_batches(workspace.OCCURRENCES, [*keys, *texts], NUM_ROWS, schemas.OCCURRENCES):
        rows = as_frame(batch).join(images, on=keys, how="semi")
        rows = rows.with_columns(pl.col(texts).fill_null(""))  # of a manifest of an earlier version
        judged = rows.select(texts).unique()
        trusts = [label_trust.judge_label(*row) for row in judged.iter_rows()]
        judged = judged.with_columns(trust=pl.Series(trusts, dtype=pl.String))
        known.append(rows.join(judged, on=texts, validate="m:1").select(*keys, "trust"))
    images = images.join(pl.concat(known), on=keys, how="left", validate="m:1", maintain_order="left")
    images = images.with_columns(pl.col("trust").fill_null(label_trust.UNKNOWN))
    is_doubtful = pl.col("trust").is_in(label_trust.DOUBTFUL) & (settings.labels != "any")
    return images.with_columns(weight=pl.when(is_doubtful).then(DOUBTFUL_WEIGHT).otherwise(1.0).cast(pl.Float32))


def _groups(ws: Workspace, images: "pl.DataFrame", settings: "SplitSettings") -> "pl.Series":
    """Find the group of each photograph. Photographs that are left out also link occurrences."""
    import polars as pl

    columns = ["gbif_id", "species_key", "recorded_by", "event_date", "decimal_latitude", "decimal_longitude"]
    occurrences = as_frame(ws.storage.read_table(workspace.OCCURRENCES, columns, schemas.OCCURRENCES))
    # Of the rows with one URL the manifest keeps one, which is of one occurrence.
    dropped = as_frame(ws.storage.read_table(workspace.DROPPED, schema=schemas.DROPPED))
    dropped = dropped.filter(pl.col("reason") == DUPLICATE_URL).select("species_key", "gbif_id", "url")
    ids = pl.Series("image_id", [schemas.image_id(url) for url in dropped["url"]], pl.String)
    shared = dropped.hstack([ids]).join(images.select("image_id", "cluster"), on="image_id", validate="m:1")
    return groups.group(images, groups.keys(occurrences, settings.group_by), shared)


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
    import polars as pl

    from aitax_ray.dataset.assign import SIDES, assign, draw

    # Also by photographs that are left out: a copy of what was in test is as good as that.
    was_tested = images.filter(pl.col("image_id").is_in(earlier.implode()))["group"].unique()
    remaining = images.filter(pl.col("reason") == "")
    believed = remaining.filter((pl.col("weight") == 1).any().over("group"))
    doubtful = remaining.join(believed, on="image_id", how="anti").select("image_id", split=pl.lit("train"))
    remaining = believed
    names = remaining["group"].unique().sort()
    numbers = names.to_frame().with_columns(number=pl.int_range(pl.len(), dtype=pl.Int64))
    remaining = remaining.join(numbers, on="group", validate="m:1", maintain_order="left")
    pairs = remaining.select(pl.col("species_key").rank("dense").cast(pl.Int64) - 1, "number").unique()
    sides = assign(
        draw(settings.seed, names),
        (pairs["species_key"].to_numpy(), pairs["number"].to_numpy()),
        settings.val,
        settings.test,
        names.is_in(was_tested.implode()).to_numpy(),
    )
    assigned = remaining.select("image_id", split=pl.Series(SIDES).gather(sides).gather(remaining["number"]))
    assigned = pl.concat([assigned, doubtful])
    return images.drop("split").join(assigned, on="image_id", how="left", validate="1:1", maintain_order="left")


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
