"""Which of the stored photographs are used, and on which side: what the `split` stage decides, in its order."""

from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.dataset import duplicates, groups, reasons
from aitax_ray.dataset.photographs import frame, read_photographs
from aitax_ray.licenses import is_admitted
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.dataset.split import SplitSettings


def choose(ws: Workspace, settings: "SplitSettings") -> "pl.DataFrame":
    """All photographs with `reason` ("" for those that are used), `detail`, `cluster`, `group` and `split`."""
    import polars as pl

    image_size = (ws.require("download").settings or {}).get("image_size", settings.min_side)
    images = read_photographs(ws, min(settings.min_side, image_size) if settings.rules else None)
    images = images.with_columns(detail=pl.lit(""))
    admitted = [name for name in images["license_id"].unique() if is_admitted(name, settings.license)]
    images = _leave_out(images, ~pl.col("license_id").is_in(admitted), reasons.LICENSE, pl.col("license_id"))

    names = frame(ws.storage.read_table(workspace.TAXA, ["species_key", "name"], schemas.TAXA))
    names = names.unique("species_key", keep="first", maintain_order=True)
    images = images.join(names, on="species_key", how="left", maintain_order="left").with_columns(
        # What is left out already is neither a copy nor a contradiction.
        cluster=pl.when(pl.col("reason") != "").then(pl.col("image_id")),
        name=pl.coalesce(pl.col("name").replace("", None), "species_key"),
    )
    asked = images.filter(pl.col("reason") == "")
    asked = asked.with_columns(cluster=duplicates.find_clusters(asked, settings.max_distance))
    asked = asked.with_columns(**duplicates.judge(asked).to_dict())
    images = images.update(asked.select("image_id", "cluster", "reason", "detail"), on="image_id").drop(
        "phash", "jpeg_sha256", "name"
    )

    columns = ["gbif_id", "species_key", "recorded_by", "event_date", "decimal_latitude", "decimal_longitude"]
    occurrences = frame(ws.storage.read_table(workspace.OCCURRENCES, columns, schemas.OCCURRENCES))
    images = images.hstack(groups.group(images, groups.keys(occurrences, settings.group_by)))
    images = images.with_columns(
        cluster=pl.when(pl.len().over("cluster") > 1).then("cluster").otherwise(pl.lit("")),
        was_tested=pl.col("image_id").is_in(_tested_earlier(ws, settings).implode()),
    )
    images = images.with_columns(split=pl.lit(None, pl.String))
    if settings.split_file is not None:
        from aitax_ray.dataset.split_file import read_split_file

        theirs = read_split_file(settings.split_file)
        images = images.drop("split").join(theirs, on=theirs.columns[0], how="left", maintain_order="left")
        images = _leave_out(images, pl.col("split").is_null(), reasons.NOT_IN_SPLIT_FILE)
    images = _bound_species(images, settings)
    if settings.split_file is None:
        images = _assign(images, settings)
    trained = images.filter((pl.col("reason") == "") & (pl.col("split") == "train"))["species_key"].unique()
    return _leave_out(images, ~pl.col("species_key").is_in(trained.implode()), reasons.NO_TRAINING_IMAGES)


def _bound_species(images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Keep --max-images of a species, then leave out species with fewer than --min-images."""
    import polars as pl

    from aitax_ray.dataset.assign import draw

    is_left = pl.col("reason") == ""
    if settings.max_images is not None:
        drawn = pl.Series("drawn", draw(settings.seed, images["image_id"]))
        rank = pl.struct(~is_left, "drawn").rank("ordinal").over("species_key")
        images = images.with_columns(drawn).with_columns(rank=rank)
        images = _leave_out(images, pl.col("rank") > settings.max_images, reasons.ABOVE_MAX_IMAGES).drop(
            "drawn", "rank"
        )
    num = is_left.sum().over("species_key")
    return _leave_out(images, num < settings.min_images, reasons.TOO_FEW_IMAGES, num.cast(pl.String))


def _assign(images: "pl.DataFrame", settings: "SplitSettings") -> "pl.DataFrame":
    """Give each photograph that is left its side."""
    import polars as pl

    from aitax_ray.dataset.assign import SIDES, assign, draw

    numbered = pl.col("group").rank("dense").cast(pl.Int64) - 1
    left = images.filter(pl.col("reason") == "").with_columns(number=numbered)
    anchors = left["anchor"].unique()
    drawn = anchors.to_frame().with_columns(drawn=pl.Series(draw(settings.seed, anchors), dtype=pl.Float64))
    of_groups = (
        left.join(drawn, on="anchor").group_by("number").agg(pl.col("drawn").min(), pl.col("was_tested").any())
    ).sort("number")  # fmt: skip
    pairs = left.select(pl.col("species_key").rank("dense").cast(pl.Int64) - 1, "number").unique()
    sides = assign(
        of_groups["drawn"].to_numpy(),
        (pairs["species_key"].to_numpy(), pairs["number"].to_numpy()),
        settings.val,
        settings.test,
        of_groups["was_tested"].to_numpy(),
    )
    names = pl.Series(SIDES).gather(sides)
    left = left.select("image_id", split=names.gather(left["number"]))
    return images.drop("split").join(left, on="image_id", how="left", maintain_order="left")


def _tested_earlier(ws: Workspace, settings: "SplitSettings") -> "pl.Series":
    """The photographs that the last split had in test, if it drew by the same seed, share and groups."""
    import polars as pl

    none = pl.Series("image_id", [], pl.String)
    if settings.split_file is not None or not ws.storage.exists(workspace.SPLIT):
        return none
    table = ws.storage.read_table(workspace.SPLIT)
    told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    mark = {name: value for name, value in told.items() if name in drawn_by(settings)}
    if mark != drawn_by(settings):
        return none
    earlier = pl.DataFrame(table.select(["image_id", "split"]))
    return earlier.filter(pl.col("split") == "test")["image_id"]


def drawn_by(settings: "SplitSettings") -> dict[str, str]:
    """What decides which groups are drawn for test, as split.parquet keeps it in its metadata."""
    return {"seed": str(settings.seed), "test": str(settings.test), "group_by": " ".join(sorted(settings.group_by))}


def _leave_out(
    images: "pl.DataFrame", condition: "pl.Expr", reason: str, detail: "pl.Expr | None" = None
) -> "pl.DataFrame":
    """Give a reason to those of the photographs left to which a condition applies."""
    import polars as pl

    applies = (pl.col("reason") == "") & condition
    return images.with_columns(
        reason=pl.when(applies).then(pl.lit(reason)).otherwise("reason"),
        detail=pl.when(applies).then(pl.lit("") if detail is None else detail).otherwise("detail"),
    )
