"""Read an existing split from a file."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from aitax_ray.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

KEYS = ("image_id", "url", "gbif_id")
WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)


def read_split_file(path: Path) -> "pl.DataFrame":
    """Read a split: the columns `split` and one of image_id, url and gbif_id, as CSV, TSV or Parquet.

    OUTPUT: image_id or gbif_id, and split ("train", "val", "test"), each key once. Raises SettingsError.
    """
    import polars as pl

    from aitax_ray.schemas import image_id

    try:
        if path.suffix == ".parquet":
            rows = pl.read_parquet(path)
        else:
            separator = "\t" if path.suffix in (".tsv", ".txt", ".tab") else ","
            rows = _read_csv(path, separator)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SettingsError(f"--split-file {path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    key = next((name for name in KEYS if name in rows.columns), None)
    if key is None or "split" not in rows.columns:
        raise SettingsError(
            f"--split-file {path} has the columns {', '.join(rows.columns)}: "
            f"it needs `split` and one of {', '.join(KEYS)}"
        )
    rows = rows.select(_as_id(rows[key]), pl.col("split").cast(pl.String).str.strip_chars())
    without = rows.filter(pl.col(key).fill_null("") == "").height
    if without:
        raise SettingsError(f"--split-file {path}: {without:,} rows have no {key}")
    unknown = rows.filter(~pl.col("split").str.to_lowercase().is_in(list(WORDS)).fill_null(value=False))
    if unknown.height:
        raise SettingsError(f"--split-file {path}: {str(unknown['split'][0])!r} is none of {', '.join(WORDS)}")
    rows = rows.with_columns(split=pl.col("split").str.to_lowercase().replace_strict(WORDS)).unique()
    if key == "url":
        rows = rows.select(image_id=pl.Series([image_id(url) for url in rows["url"]], dtype=pl.String), split="split")
        key = "image_id"
    twice = rows.filter(pl.len().over(key) > 1)[key].sort()
    if len(twice):
        raise SettingsError(f"--split-file {path}: {key} {twice[0]} is on several sides")
    return rows


def _read_csv(path: Path, separator: str) -> "pl.DataFrame":
    """Read a table of texts in UTF-8, or else in Windows-1252, in which table programs write."""
    import polars as pl

    try:
        return pl.read_csv(path, infer_schema=False, separator=separator)
    except pl.exceptions.ComputeError as error:
        if "utf" not in str(error).lower():
            raise
    log.warning("%s is not in UTF-8: it is read as Windows-1252", path)
    return pl.read_csv(path, infer_schema=False, separator=separator, encoding="cp1252")


def _as_id(values: "pl.Series") -> "pl.Series":
    """Give keys as text, and whole numbers without the ".0" or the exponent of table programs.

    Programs that have no whole numbers with gaps write 1.0, 2.0, ... where one key is missing, in CSV as in Parquet.
    """
    import polars as pl

    texts = values.cast(pl.String).str.strip_chars() if not values.dtype.is_float() else values.cast(pl.String)
    looks_whole = texts.str.contains(r"^\d+\.0*$|^\d(\.\d+)?[eE]\+?\d{1,2}$")
    numbers = texts.cast(pl.Float64, strict=False)
    # Above 2**53 a float no longer tells one whole number from the next.
    is_whole = looks_whole & (numbers == numbers.floor()) & (numbers < 2**53)
    integers = numbers.set(~is_whole.fill_null(value=False), None).cast(pl.Int64, strict=False).cast(pl.String)
    return pl.DataFrame({"text": texts, "integer": integers}).select(pl.coalesce("integer", "text").alias(values.name))[
        values.name
    ]
