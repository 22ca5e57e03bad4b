"""The columns of the stored photographs that decide whether and how they are used, in a file beside the tables.

The file has a row per photograph, sorted by image_id. A photograph is known by its row: keys stay on disk, and are read
where they are needed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.dataset.label_trust import UNKNOWN, judge_label
from aitax_ray.dataset.reasons import NOT_IN_MANIFEST
from aitax_ray.dataset.rules import broken_rule
from aitax_ray.errors import StorageError
from aitax_ray.joins import as_frame, check_unique
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

STORED = ["image_id", "gbif_id", "species_key", "width", "height", "jpeg_sha256", "phash", "contrast"]
LISTED = ["image_id", "gbif_id", "species_key", "license_id", "url", "title", "description"]
LABELS = ["dataset_key", "identification_status", "identified_by", "identification_remarks"]
ROWS = 1 << 17  # in memory with their texts
NUMBERED = ("species_key", "license_id", "trust", "reason")  # texts with few values
HASH_BYTES = schemas.IMAGES.field("phash").type.byte_width
FILE = "photographs.parquet"
COLUMNS = pa.schema(
    [
        *(schemas.MEDIA.field(name) for name in ("image_id", "gbif_id", "species_key", "license_id")),
        *(schemas.IMAGES.field(name) for name in ("width", "height", "jpeg_sha256", "phash")),
        ("has_hash", pa.bool_()),
        ("trust", schemas.text),
        ("reason", schemas.text),
    ]
)


class Photographs:
    """The photographs of a file that `write_photographs` wrote."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(str(folder))

    def batches(self, columns: list[str], num_rows: int | None = None) -> "Iterator[pl.DataFrame]":
        """Read some columns, some rows at a time. Texts with few values are numbers (NUMBERED)."""
        for table in self.storage.read_batches(FILE, columns, num_rows or ROWS):
            yield _numbered(as_frame(table))

    def read(self, columns: list[str], chosen: "pl.Series | None" = None) -> "pl.DataFrame":
        """Read some columns of all photographs, or of those for which `chosen` is true."""
        import polars as pl

        parts, start = [_numbered(as_frame(COLUMNS.empty_table().select(columns)))], 0
        for table in self.storage.read_batches(FILE, columns, ROWS):
            # Arrow copies what is chosen. Polars would keep the texts of all.
            some = table if chosen is None else table.filter(chosen.slice(start, table.num_rows).to_arrow())
            start += table.num_rows
            parts.append(_numbered(as_frame(some)))
        return pl.concat(parts)

    def hashes(self, chosen: "pl.Series") -> "tuple[NDArray[np.uint8], NDArray[np.bool_]]":
        """Read the hashes of the chosen photographs for which one is known, and tell for which of them it is."""
        import numpy as np

        content = np.empty((int(chosen.sum()), HASH_BYTES), np.uint8)
        num, start, is_hashed = 0, 0, [np.empty(0, bool)]
        for table in self.storage.read_batches(FILE, ["phash"], ROWS):
            some = table["phash"].combine_chunks().filter(chosen.slice(start, table.num_rows).to_arrow())
            start += table.num_rows
            is_hashed.append(some.is_valid().to_numpy(zero_copy_only=False))
            known = some.drop_null()
            values = np.frombuffer(known.buffers()[1] or b"", np.uint8).reshape(-1, HASH_BYTES)
            content[num : num + len(known)] = values[known.offset : known.offset + len(known)]
            num += len(known)
        return content[:num], np.concatenate(is_hashed)

    def find(self, image_ids: "pl.Series") -> "pl.Series":
        """Tell for each photograph whether its image_id is one of these."""
        import polars as pl

        ids, found = image_ids.unique().sort(), [pl.Series(dtype=pl.Boolean)]
        for batch in self.batches(["image_id"]):
            own = batch["image_id"]
            begin, end = ids.search_sorted(own[0], "left"), ids.search_sorted(own[-1], "right")
            found.append(own.is_in(ids.slice(begin, end - begin).implode()))
        return pl.concat(found)


def _numbered(rows: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return rows.with_columns(pl.col([name for name in rows.columns if name in NUMBERED]).cast(pl.Categorical))


def write_photographs(ws: Workspace, min_side: int | None, folder: Path) -> Photographs:
    """Write a file with one row per stored photograph, sorted by image_id (COLUMNS).

    `trust` says how far the label can be believed; `reason` is NOT_IN_MANIFEST or that of the rule it breaks, else "".
    `min_side` is that of the rules, None for no rules. The species comes from the current manifest, not from the one
    that the download used. `jpeg_sha256` is shortened: it is only compared. Raises DataError when the manifest lists
    one of them twice, and StorageError when there is no room. DuckDB joins and sorts the tables on disk.
    """
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
        photographs = Photographs(folder)
        try:
            photographs.storage.write_tables(FILE, _judge(rows, min_side), COLUMNS)
        except StorageError as error:
            # `folder` is a temporary one that is deleted by the time that the message is read.
            raise StorageError(
                f"no room below {folder.parent} ({error.__cause__}): make room or set TMPDIR to another disk"
            ) from error
    return photographs


def _judge(rows: "duckdb.DuckDBPyRelation", min_side: int | None) -> "Iterator[pa.Table]":
    """Apply the rules to some rows at a time, and drop the texts."""
    import polars as pl

    reason = pl.lit("") if min_side is None else broken_rule(min_side)
    sha256 = pl.col("jpeg_sha256")
    last = ""
    for batch in rows.to_arrow_reader(ROWS):
        part = as_frame(pa.Table.from_batches([batch]))
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
        if part.height:
            yield part.select(COLUMNS.names).to_arrow()


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
