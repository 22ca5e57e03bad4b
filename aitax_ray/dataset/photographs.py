"""Reads the columns of the stored photographs that decide whether and how they are used."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.dataset.label_trust import UNKNOWN, judge_label
from aitax_ray.dataset.reasons import NOT_IN_MANIFEST
from aitax_ray.dataset.rules import broken_rule
from aitax_ray.joins import as_frame, check_unique
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import polars as pl

STORED = ["image_id", "gbif_id", "species_key", "width", "height", "jpeg_sha256", "phash", "contrast"]
LISTED = ["image_id", "gbif_id", "species_key", "license_id", "url", "title", "description"]
LABELS = ["dataset_key", "identification_status", "identified_by", "identification_remarks"]
ROWS = 1 << 17  # in memory with their texts
NUMBERED = ("species_key", "license_id", "trust", "reason")


def read_photographs(ws: Workspace, min_side: int | None) -> "pl.DataFrame":
    """Read one row per stored photograph, sorted by image_id.

    OUTPUT: image_id, gbif_id, species_key, license_id, width, height, jpeg_sha256, phash, has_hash; `trust`, how far
    the label can be believed; and `reason`, NOT_IN_MANIFEST or that of the rule it breaks, else "". `min_side` is that
    of the rules, None for no rules. The species comes from the current manifest, not from the one that the download
    used. `jpeg_sha256` is shortened: it is only compared. Raises DataError when the manifest lists one of them twice.

    DuckDB joins and sorts the tables on disk. Only what stands above is held in memory, some 155 bytes per photograph:
    texts that have few values are numbers there (NUMBERED).
    """
    import polars as pl

    from aitax_ray.database import MEMORY_FOR_JOINS, open_database

    with (
        tempfile.TemporaryDirectory(prefix="aitax-split-") as scratch,
        open_database(Path(scratch), MEMORY_FOR_JOINS) as database,
    ):
        for path, schema in ((workspace.IMAGES, schemas.IMAGES), (workspace.MEDIA, schemas.MEDIA)):
            database.register(path.rsplit("/", 1)[-1], ws.storage.dataset(path, schema))
        _check_listed_once(database)
        _judge_labels(ws, database)
        # One join after the other: each may take all of DuckDB's memory.
        listed = ", ".join(f"media.{name}" for name in LISTED[3:])
        database.execute(
            f"""CREATE TABLE known AS SELECT images.* REPLACE (coalesce(media.gbif_id, images.gbif_id) AS gbif_id,
                    coalesce(media.species_key, images.species_key) AS species_key),
                {listed}, media.image_id IS NOT NULL AS is_listed
            FROM (SELECT {", ".join(STORED)} FROM images) AS images
            LEFT JOIN media ON images.image_id = media.image_id;  -- checked to be one row
            CREATE TABLE photograph AS SELECT known.*, trust FROM known LEFT JOIN judged USING (gbif_id, species_key);
            DROP TABLE known; DROP TABLE judged"""
        )
        rows = database.sql("FROM photograph ORDER BY image_id, jpeg_sha256, trust")
        return pl.concat(_without_texts(rows, min_side), rechunk=False)


def _without_texts(rows: "duckdb.DuckDBPyRelation", min_side: int | None) -> "list[pl.DataFrame]":
    """Apply the rules to some rows at a time, and drop the texts that take much memory."""
    import polars as pl
    import pyarrow as pa

    reason = pl.lit("") if min_side is None else broken_rule(min_side)
    sha256 = pl.col("jpeg_sha256")
    parts, last = [], ""
    reader = rows.to_arrow_reader(ROWS)
    for table in (reader.schema.empty_table(), *map(pa.Table.from_batches, ([batch] for batch in reader))):
        part = as_frame(table)
        # Two files may hold a photograph.
        part = part.filter(pl.col("image_id") != pl.col("image_id").shift(1, fill_value=last))
        last = part["image_id"][-1] if part.height else last
        part = part.with_columns(pl.col("url", "title", "description").fill_null("")).with_columns(
            pl.col("license_id").fill_null(""),
            pl.col("trust").fill_null(UNKNOWN),
            # 72 bits: of 200 million photographs two have the same by chance in one of 200,000 data sets.
            jpeg_sha256=pl.coalesce(sha256.str.decode("hex", strict=False).bin.encode("base64").str.head(12), sha256),
            has_hash=pl.col("phash").is_not_null(),
            reason=pl.when("is_listed").then(reason).otherwise(pl.lit(NOT_IN_MANIFEST)),
        )
        # A copy: DuckDB frees the texts of a batch when none of its columns is used any more, and Polars those that
        # short ones were cut from.
        part = as_frame(part.drop("url", "title", "description", "contrast", "is_listed").to_arrow())
        parts.append(part.with_columns(pl.col(NUMBERED).cast(pl.Categorical)))
    return parts


def _check_listed_once(database: "duckdb.DuckDBPyConnection") -> None:
    import polars as pl

    twice = "SELECT image_id, count(*) FROM media SEMI JOIN images USING (image_id) GROUP BY ALL HAVING count(*) > 1"
    for image_id, number in database.execute(f"{twice} LIMIT 1").fetchall():
        check_unique(pl.DataFrame({"image_id": [image_id] * number}), "image_id", workspace.MEDIA)


def _judge_labels(ws: Workspace, database: "duckdb.DuckDBPyConnection") -> None:
    """Make the table `judged`: gbif_id, species_key and trust of each occurrence. Each text is judged once."""
    import polars as pl

    occurrences = ws.storage.dataset(workspace.OCCURRENCES, schemas.OCCURRENCES)
    database.register("occurrences", occurrences)
    texts = ", ".join(f"coalesce({name}, '') AS {name}" for name in LABELS)  # null in a manifest of an earlier version
    database.execute(
        f"""CREATE TABLE label AS SELECT DISTINCT {texts} FROM occurrences;
        CREATE TABLE trusted ({", ".join(f"{name} TEXT" for name in [*LABELS, "trust"])})"""
    )
    for batch in database.cursor().sql("FROM label").to_arrow_reader(ROWS):
        rows = pl.DataFrame(batch)
        trusts = [judge_label(*row) for row in rows.select(LABELS).iter_rows()]
        database.register("judged_texts", rows.with_columns(trust=pl.Series(trusts, dtype=pl.String)).to_arrow())
        database.execute(f"INSERT INTO trusted BY NAME SELECT * FROM judged_texts WHERE trust <> '{UNKNOWN}'")
    database.execute(
        f"""CREATE TABLE judged AS SELECT gbif_id, species_key, trust
        FROM (SELECT gbif_id, species_key, {texts} FROM occurrences) JOIN trusted USING ({", ".join(LABELS)});
        DROP TABLE label; DROP TABLE trusted"""
    )
