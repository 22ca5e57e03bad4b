"""Reads the columns of the stored photographs that decide whether and how they are used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.dataset.reasons import NOT_IN_MANIFEST
from aitax_ray.dataset.rules import broken_rule
from aitax_ray.joins import check_unique
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

STORED = ["image_id", "gbif_id", "species_key", "width", "height", "jpeg_sha256", "phash", "contrast"]
LISTED = ["image_id", "gbif_id", "species_key", "license_id", "url", "title", "description"]


def read_photographs(ws: Workspace, min_side: int | None) -> "pl.DataFrame":
    """Read one row per stored photograph, sorted by image_id.

    OUTPUT: image_id, gbif_id, species_key, license_id, width, height, jpeg_sha256, phash, has_hash; and `reason`,
    NOT_IN_MANIFEST or that of the rule it breaks, else "". `min_side` is that of the rules, None for no rules. The
    species comes from the current manifest, not from the one that the download used.
    """
    import polars as pl

    stored = as_frame(ws.storage.read_table(workspace.IMAGES, STORED, schemas.IMAGES))
    stored = stored.unique("image_id", keep="first", maintain_order=True).with_columns(
        has_hash=pl.col("phash").is_not_null()
    )
    parts = [part for part in _listed(ws, stored, min_side) if part.height]
    listed = pl.concat(parts) if parts else None
    if listed is not None:
        check_unique(listed, "image_id", workspace.MEDIA)
    gone = stored if listed is None else stored.join(listed, on="image_id", how="anti")
    gone = gone.drop("contrast").with_columns(license_id=pl.lit(""), reason=pl.lit(NOT_IN_MANIFEST))
    return (gone if listed is None else pl.concat([listed, gone.select(listed.columns)])).sort("image_id")


def _listed(ws: Workspace, stored: "pl.DataFrame", min_side: int | None) -> Iterator["pl.DataFrame"]:
    """Read one file of the manifest at a time, since texts take much memory."""
    import polars as pl

    known = stored.drop("gbif_id", "species_key")
    reason = pl.lit("") if min_side is None else broken_rule(min_side)
    for file in ws.storage.files(workspace.MEDIA, ".parquet"):
        rows = as_frame(ws.storage.read_table(file.path, LISTED, schemas.MEDIA)).join(
            known, on="image_id", validate="m:1"
        )
        yield rows.with_columns(reason=reason).drop("url", "title", "description", "contrast")


def as_frame(table: Any) -> "pl.DataFrame":
    """Turn an Arrow table into a frame of polars."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
