"""Credits for the photographs of the data set: split/attribution.csv, and the records of each of GBIF's datasets in it.

`describe` is also where export takes its rows from: the manifest's columns for the photographs in use.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError, StaleArtifactError, StorageError
from aitax_ray.joins import as_frame, check_unique, join_rows
from aitax_ray.licenses import deed
from aitax_ray.text import DISARMED, FORMULA
from aitax_ray.workspace import StageReport, Workspace

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "image_id", "split", "species", "scientific_name", "gbif_id", "occurrence", "creator", "rights_holder",
    "publisher", "license", "license_id", "license_url", "url", "references", "dataset_key",
)  # fmt: skip
LINEAGE = ("genus", "family", "order", "class", "phylum", "kingdom")
ROWS_PER_BATCH, ROWS_OF_SPLIT = 16_384, 1 << 18


def write_attribution(ws: Workspace) -> dict[str, int]:
    """Write split/attribution.csv and split/related_datasets.json of the photographs in split/split.parquet.

    attribution.csv: UTF-8, RFC 4180, COLUMNS, a row per photograph, sorted as the manifest is. It is for people, who
    open it in spreadsheets. These run a text as a formula that begins with = + - or @, also behind blanks, a semicolon,
    a tab or a line break: there an apostrophe is put before the sign. `aitax export` writes the texts as they are.

    related_datasets.json: {datasetKey: records}, where a record is an occurrence, however many photographs of it are
    used: "number of records present in the derived dataset" (DerivedDatasetCreationRequest.relatedDatasets of
    gbif/registry). Photographs without a datasetKey, which are one's own, do not count.

    Gives counts of photographs, datasets and records. Raises StorageError, and DataError as `describe` does.
    """
    import polars as pl

    from aitax_ray.database import open_database

    columns = ["image_id", "gbif_id", "species_key", "split"]
    # As Categorical each text is in memory once: species and sides are few.
    few = pl.col("species_key", "split").cast(pl.Categorical)
    empty = schemas.SPLIT.empty_table().select(columns)
    parts = chain([empty], ws.storage.read_batches(workspace.SPLIT, columns, ROWS_OF_SPLIT, schemas.SPLIT))
    rows = pl.concat([as_frame(part).with_columns(few) for part in parts])
    name = workspace.ATTRIBUTION.rsplit("/", 1)[-1]
    try:
        # A file of its own, not of the storage's, which takes whole files: it has hundreds of megabytes.
        # `upload` sends all of `folder`, so DuckDB has one of its own.
        with (
            tempfile.TemporaryDirectory(prefix="aitax-attribution-") as folder,
            tempfile.TemporaryDirectory(prefix="aitax-attribution-") as scratch,
            open_database(Path(scratch)) as database,
        ):
            database.execute("CREATE TABLE record (dataset_key TEXT, gbif_id TEXT)")
            with Path(folder, name).open("wb") as file:
                file.write(csv_lines(pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)), header=True))
                for batch in describe(ws, rows):
                    used = batch.select(COLUMNS).with_columns(
                        references=pl.when(pl.col("references").str.contains(r"^(?i)https?://")).then("references"),
                    )
                    file.write(csv_lines(used.with_columns(pl.col(pl.String).str.replace_all(FORMULA, DISARMED))))
                    known = used.filter(pl.col("dataset_key") != "").select("dataset_key", "gbif_id").unique()
                    database.register("known", known.to_arrow())
                    database.execute("INSERT INTO record FROM known")
            records = database.execute(
                """SELECT dataset_key, count(*) AS num FROM (SELECT DISTINCT dataset_key, gbif_id FROM record)
                GROUP BY dataset_key ORDER BY num DESC, dataset_key"""
            ).fetchall()
            ws.storage.upload(Path(folder), workspace.ATTRIBUTION.rsplit("/", 1)[0])
    except OSError as error:
        raise StorageError(
            f"no room below {tempfile.gettempdir()} ({error}): make room or set TMPDIR to another disk"
        ) from error
    ws.storage.write_json(workspace.RELATED_DATASETS, dict(records))
    return {"photographs": rows.height, "datasets": len(records), "records": sum(num for _, num in records)}


def require_split(ws: Workspace) -> StageReport:
    """Read the report of `split`. It must be complete and made from the current manifest.

    Raises MissingArtifactError, StaleArtifactError. Photographs that were fetched since change nothing in it.
    """
    report = ws.require("split")
    ws.require("manifest")
    now = ws.digest("manifest")
    if report.inputs.get("manifest", now) != now:
        raise StaleArtifactError(
            f"`split` was made from an earlier `manifest`: run `aitax split --root {ws.root}` again first"
        )
    return report


def read_split(ws: Workspace, sides: Sequence[str] = ()) -> "pl.DataFrame":
    """Read split/split.parquet (schemas.SPLIT), some sides or all."""
    import polars as pl

    rows: Any = pl.from_arrow(ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT))
    wanted: pl.DataFrame = rows.filter(pl.col("split").is_in(sides)) if sides else rows
    return wanted


def describe(ws: Workspace, rows: "pl.DataFrame") -> Iterator["pl.DataFrame"]:
    """Join `rows` (of schemas.SPLIT, sorted by image_id) with manifest/media and taxa, in the manifest's order.

    OUTPUT  the columns of `rows` and MEDIA; of TAXA the names (`name` as `species`) and LINEAGE; `occurrence`,
            the page of the record where it is one of GBIF's, and `license_url`, else ""

    Raises DataError when the manifest does not know one of them.
    """
    import polars as pl

    media = [name for name in schemas.MEDIA.names if name not in ("gbif_id", "species_key")]
    names = ["species_key", "name", "scientific_name", "vernacular_name", *LINEAGE]
    taxa: Any = pl.from_arrow(ws.storage.read_table(workspace.TAXA, names))
    taxa = taxa.rename({"name": "species"})
    of_gbif = pl.col("gbif_id").str.contains(r"^[0-9]+$") & pl.col("dataset_key").str.contains(schemas.DATASET_KEY)
    num_known, ids = 0, rows["image_id"].set_sorted()
    for file in ws.storage.files(workspace.MEDIA, ".parquet"):
        for table in ws.storage.read_batches(file.path, media, ROWS_PER_BATCH, schemas.MEDIA):
            batch: Any = pl.from_arrow(table)
            # The manifest may be many times the split, and is sorted: a batch has to do with few rows of it.
            first, last = batch["image_id"].min(), batch["image_id"].max()
            begin, end = ids.search_sorted(first, "left"), ids.search_sorted(last, "right")
            near = rows.slice(begin, end - begin).with_columns(pl.col(pl.Categorical).cast(pl.String))
            check_unique(table, "image_id", workspace.MEDIA)
            batch = join_rows(batch, near, "image_id", workspace.SPLIT)
            batch = join_rows(batch, taxa, "species_key", workspace.TAXA, how="left")
            deeds = {name: deed(name) for name in batch["license_id"].unique()}
            num_known += batch.height
            yield batch.with_columns(
                pl.col(taxa.columns[1:]).fill_null(""),
                # All of it may be published: of a file on somebody's machine only the name.
                url=pl.col("url").str.replace(r"^\s*(?i)file:.*/", ""),
                occurrence=pl.when(of_gbif).then(schemas.OCCURRENCE_PAGE + pl.col("gbif_id")).otherwise(pl.lit("")),
                license_url=pl.col("license_id").replace_strict(deeds, default="", return_dtype=pl.String),
            )
    if num_known > rows.height:
        raise DataError(f"{workspace.MEDIA} has several rows with one image_id: run `aitax manifest --force`")
    if num_known < rows.height:
        raise DataError(
            f"{rows.height - num_known:,} photographs of the split are not in the manifest: "
            f"run `aitax split --root {ws.root}` again"
        )


def csv_lines(batch: "pl.DataFrame", *, header: bool = False) -> bytes:
    """Rows as CSV of RFC 4180 in UTF-8; null and "" are both nothing between two commas."""
    import polars as pl

    text = batch.with_columns(pl.col(pl.String).replace("", None))
    return text.write_csv(include_header=header, line_terminator="\r\n").encode()
