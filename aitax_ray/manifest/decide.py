"""Decide which candidates become photographs: each media row is kept, or dropped with a reason, once.

The rows are divided into buckets by image_id, which is a hash of the URL. So all rows of a URL are in one bucket, the
buckets have about the same size, and each fits into memory, however large the archive is.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from aitax_ray.criteria import Criteria
from aitax_ray.database import nullable, parquet, write
from aitax_ray.licenses import Policy, is_admitted, normalise
from aitax_ray.progress import progress
from aitax_ray.schemas import DROPPED, MEDIA
from aitax_ray.takedowns import WITHDRAWN

log = logging.getLogger(__name__)

URL_UNDER_SEVERAL_SPECIES = "url_under_several_species"
LICENSE_NOT_ADMITTED = "license_not_admitted"
DUPLICATE_URL = "duplicate_url"
OVER_NUMBER = "over_number"

ROWS_PER_BUCKET = 500_000
MAX_BUCKETS = 64
ROWS_PER_BATCH = 65_536


@dataclass(frozen=True)
class Rules:
    """Which of the candidates to keep."""

    policy: Policy = "any"
    number: int | None = None  # photographs per species
    seed: int = 0
    withdrawn: Criteria | None = None
    """The photographs that their authors asked to withdraw."""


def decide_rows(database: duckdb.DuckDBPyConnection, rules: Rules, num_rows: int, folder: Path) -> Counter[str]:
    """Divide `candidate` into photographs and dropped rows; count the rows by reason, "" for those that are kept.

    INPUT   `candidate`, as media.list_candidates makes it, of `num_rows` rows
    OUTPUT  `folder`/media/*.parquet (schemas.MEDIA, sorted by image_id over all files), `dropped` (schemas.DROPPED)
            and `kept` (occurrence_row, species_key, num_images)

    A URL that has several species is dropped with all its rows. Of a URL's rows in one species the first by (gbif_id,
    row) is kept, among those whose licence the policy admits. Of more than `number` photographs of a species those with
    the least hash of (seed, image_id) are kept, so that a larger archive changes no draw. Of a photograph that is
    withdrawn all rows are dropped, and not even its URL stays. Raises RuntimeError when a row is lost.
    """
    buckets = _write_buckets(database, min(MAX_BUCKETS, -(-num_rows // ROWS_PER_BUCKET)) or 1, folder / "buckets")
    _name_licenses(database, rules.policy)
    database.execute("DROP VIEW candidate")
    database.execute("DROP TABLE IF EXISTS linked")  # frees memory
    _list_withdrawn(database, rules.withdrawn, buckets)
    _limit_species(database, rules, buckets)
    # Files, not tables of the database, which would take memory.
    for name in ("media", "dropped", "kept"):
        (folder / name).mkdir()
    counts: Counter[str] = Counter()
    with progress("sorting out", num_rows, "media rows") as advance:
        for part, bucket in enumerate(buckets):
            # With few columns: the other columns are read once, when they are written.
            database.execute(f"CREATE OR REPLACE TABLE decided AS {_decision_sql(bucket, rules)}")
            database.execute(
                "CREATE OR REPLACE VIEW decided_rows AS "
                "SELECT b.* EXCLUDE (reason), TRY(d.license_id) AS license_id, d.reason "
                f"FROM {parquet(bucket)} AS b JOIN decided AS d USING (row)"
            )
            found = dict(database.execute("SELECT reason, count(*) FROM decided GROUP BY reason").fetchall())
            counts.update(found)
            media, dropped = (", ".join(f'"{name}"' for name in schema.names) for schema in (MEDIA, DROPPED))
            dropped = dropped.replace('"url"', f"CASE WHEN reason = '{WITHDRAWN}' THEN '' ELSE url END AS url")
            for name, query in {
                "media": f"SELECT {media} FROM decided_rows WHERE reason = '' ORDER BY image_id",
                "dropped": nullable(f"SELECT {dropped} FROM decided_rows WHERE reason <> ''"),
                "kept": "SELECT occurrence_row, species_key, count(*) AS num_images FROM decided_rows "
                "WHERE reason = '' GROUP BY ALL",
            }.items():
                write(database, query, folder / name / f"part-{part:05}.parquet")
            advance(sum(found.values()), f"{counts['']:,} kept")
    database.execute("DROP VIEW decided_rows")
    database.execute("DROP TABLE decided")
    for name in ("dropped", "kept"):
        database.execute(f"CREATE VIEW {name} AS FROM {parquet(folder / name / '*.parquet')}")
    if counts.total() != num_rows:
        raise RuntimeError(f"of {num_rows} media rows {counts.total()} were kept or dropped")
    return counts


def _write_buckets(database: duckdb.DuckDBPyConnection, num_buckets: int, folder: Path) -> list[Path]:
    """Write the candidates into a folder of Parquet files for each range of image_id; the folders in their order.

    Not with the partitioned writing of DuckDB 2.0, which takes three to four times as long in as much memory.
    """
    folders = [folder / f"{bucket:02}" for bucket in range(num_buckets)]
    for path in folders:
        path.mkdir(parents=True)
    bucket = f"((('0x' || left(image_id, 4))::INTEGER * {num_buckets}) >> 16)::UTINYINT"
    batches = database.sql(f"SELECT *, {bucket} AS bucket FROM candidate").to_arrow_reader(ROWS_PER_BATCH)
    for number, batch in enumerate(batches):
        for (index,), rows in pl.DataFrame(batch).partition_by("bucket", as_dict=True, include_key=False).items():
            rows.write_parquet(folders[index] / f"{number:06}.parquet", compression="uncompressed", statistics=False)
    return [path / "*.parquet" for path in folders if any(path.iterdir())]


def _name_licenses(database: duckdb.DuckDBPyConnection, policy: Policy) -> None:
    """Make `rights`: each text of a licence with the name of the licence, and whether the policy admits it."""
    texts = [text for (text,) in database.execute("SELECT DISTINCT license FROM candidate").fetchall()]
    names = [normalise(text) for text in texts]
    rows = {"license": texts, "license_id": names, "admitted": [is_admitted(name, policy) for name in names]}
    types = {"license": pl.String, "license_id": pl.String, "admitted": pl.Boolean}
    database.register("rights_frame", pl.DataFrame(rows, schema=types))
    database.execute("CREATE TABLE rights AS FROM rights_frame")


def _list_withdrawn(database: duckdb.DuckDBPyConnection, criteria: Criteria | None, buckets: list[Path]) -> None:
    """Make `withdrawn`: the image_id of each photograph that one of its rows says is withdrawn."""
    found: set[str] = set()
    columns = 'image_id, url, gbif_id, creator, rights_holder, "references"'
    for bucket in buckets:
        if not criteria:
            break
        rows = database.sql(f"SELECT {columns} FROM {parquet(bucket)} WHERE url <> ''")
        for batch in rows.to_arrow_reader(ROWS_PER_BATCH):
            frame = pl.DataFrame(batch)
            found.update(frame.filter(criteria.find(frame))["image_id"])
    database.register("withdrawn_frame", pl.DataFrame({"image_id": sorted(found)}, {"image_id": pl.String}))
    database.execute("CREATE TABLE withdrawn AS FROM withdrawn_frame")


def _limit_species(database: duckdb.DuckDBPyConnection, rules: Rules, buckets: list[Path]) -> None:
    """Make `allowance`: for each species with more than `number` photographs the greatest hash that is kept."""
    database.execute("CREATE TABLE allowance (species_key TEXT, draw TEXT)")
    if rules.number is None:
        return
    database.execute("CREATE TABLE drawn (species_key TEXT, draw TEXT)")
    for bucket in buckets:
        decisions = _decision_sql(bucket, rules)
        database.execute(
            f"INSERT INTO drawn SELECT species_key, {_draw_sql(rules)} FROM ({decisions}) WHERE reason = ''"
        )
    database.execute(
        "INSERT INTO allowance FROM drawn QUALIFY "
        f"row_number() OVER (PARTITION BY species_key ORDER BY draw) = {rules.number}"
    )


def _draw_sql(rules: Rules) -> str:
    return f"sha1('{rules.seed}/' || image_id)"


def _decision_sql(bucket: Path, rules: Rules) -> str:
    """Return the query for row, image_id, species_key, license_id and the final reason of a bucket's rows."""
    return f"""
        WITH licensed AS (FROM {parquet(bucket)} JOIN rights USING (license)),
        repeated AS (SELECT image_id FROM licensed WHERE reason = '' GROUP BY image_id HAVING count(*) > 1),
        by_url AS (
            SELECT row, min(species_key) OVER url <> max(species_key) OVER url AS several,
                row_number() OVER (PARTITION BY image_id ORDER BY NOT admitted, gbif_id, row) AS place
            FROM licensed SEMI JOIN repeated USING (image_id) WHERE reason = '' WINDOW url AS (PARTITION BY image_id))
        SELECT row, image_id, species_key, license_id,
            CASE WHEN image_id IN (FROM withdrawn) THEN '{WITHDRAWN}'
                 WHEN reason <> '' THEN reason
                 WHEN several THEN '{URL_UNDER_SEVERAL_SPECIES}'
                 WHEN NOT admitted THEN '{LICENSE_NOT_ADMITTED}'
                 WHEN place > 1 THEN '{DUPLICATE_URL}'
                 WHEN draw IS NOT NULL AND {_draw_sql(rules)} > draw THEN '{OVER_NUMBER}'
                 ELSE '' END AS reason
        FROM licensed LEFT JOIN by_url USING (row) LEFT JOIN allowance USING (species_key)"""
