"""Joins that state their cardinality: a key that is missing or there twice is an error, never other numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from aitax_ray.errors import DataError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def check_unique(table: "pa.Table | pl.DataFrame", key: str, path: str) -> None:
    """Raise DataError unless each key stands in one row; `path` names the table in the message."""
    import polars as pl

    keys: Any = table[key] if isinstance(table, pl.DataFrame) else pl.from_arrow(table[key])
    repeated = keys.filter(keys.is_duplicated())
    if len(repeated):
        raise DataError(
            f"{path} has {(keys == repeated[0]).sum()} rows with the {key} {repeated[0]!r} where it may have one: "
            f"{_remedy(path)}"
        )


def as_frame(table: "pa.Table") -> "pl.DataFrame":
    """Turn a table into a frame. Polars' own function may also give a series, as far as types tell."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def look_up(keys: Sequence[str], table: "pa.Table", key: str, path: str) -> "pl.DataFrame":
    """Find the row of each key, in the order of the keys. Raises DataError unless each has exactly one row."""
    import polars as pl

    check_unique(table, key, path)
    rows: Any = pl.from_arrow(table)
    found: pl.DataFrame = pl.DataFrame({key: keys}, {key: pl.String}).join(
        rows.with_columns(is_found=pl.lit(True)), on=key, how="left", validate="m:1", maintain_order="left"
    )
    missing = found.filter(pl.col("is_found").is_null())
    if missing.height:
        raise DataError(
            f"{path} has no row for {missing.height:,} of {len(keys):,} keys, such as the {key} {missing[key][0]!r}: "
            f"{_remedy(path)}"
        )
    return found.drop("is_found")


def join_rows(
    left: "pl.DataFrame", right: "pl.DataFrame", on: str, path: str, *, how: Literal["inner", "left"] = "inner"
) -> "pl.DataFrame":
    """Join each row of `left` with the one row of `right` that has its key, in the order of `left`.

    Raises DataError when `right`, the rows of the table `path`, has a key twice.
    """
    import polars as pl

    try:
        return left.join(right, on=on, how=how, validate="m:1", maintain_order="left")
    except pl.exceptions.ComputeError as error:
        if not right[on].is_duplicated().any():
            raise
        raise DataError(
            f"{path} has several rows with the {on} {right.filter(right[on].is_duplicated())[on][0]!r} where it may "
            f"have one: {_remedy(path)}"
        ) from error


def _remedy(path: str) -> str:
    return f"run `aitax {path.split('/')[0]} --force`"
