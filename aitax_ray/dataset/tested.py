"""The photographs that were ever in test, so that they stay there as an archive grows.

split/tested.parquet is only added to, by runs with any settings, and written before split.parquet: a run in between
with another seed or licence, or one that was killed, forgets nothing. `--force` deletes it with all else.
"""

from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.dataset.settings import SplitSettings


def drawn_by(settings: "SplitSettings") -> str:
    """Name the settings that decide which groups are drawn for test."""
    return f"seed {settings.seed}, test {settings.test}, group by {' '.join(sorted(settings.group_by)) or 'occurrence'}"


def read(ws: Workspace, settings: "SplitSettings") -> "pl.Series":
    """The photographs that were in test when it was drawn in the same way."""
    import polars as pl

    rows = _rows(ws)
    return rows.filter(pl.col("drawn_by") == drawn_by(settings))["image_id"]


def add(ws: Workspace, settings: "SplitSettings", image_ids: "pl.Series") -> None:
    """Remember what is in test now."""
    import polars as pl

    now = image_ids.rename("image_id").to_frame().with_columns(drawn_by=pl.lit(drawn_by(settings)))
    rows = pl.concat([_rows(ws), now]).unique().sort("drawn_by", "image_id")
    ws.storage.write_table(workspace.TESTED, rows.to_arrow().cast(schemas.TESTED))


def _rows(ws: Workspace) -> "pl.DataFrame":
    import polars as pl

    exists = ws.storage.exists(workspace.TESTED)
    table: Any = ws.storage.read_table(workspace.TESTED) if exists else schemas.TESTED.empty_table()
    return pl.DataFrame(table)
