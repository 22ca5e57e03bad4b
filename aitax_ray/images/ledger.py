"""What the ledger says: what has become of every URL, what is left to do and in which order, what the manifest lost.

Both tables may have hundreds of millions of rows. DuckDB joins them within its bound of memory, and keeps on disk what
does not fit.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from aitax_ray.database import literal, open_database
from aitax_ray.fates import fates_sql
from aitax_ray.images import shards
from aitax_ray.images.limits import Limits
from aitax_ray.images.shards import TODO, TODO_SCHEMA
from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.schemas import MEDIA as MEDIA_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.web import host_sql
from aitax_ray.workspace import MEDIA, Outcome

if TYPE_CHECKING:
    import duckdb

TODO_ROWS = 8192  # in one file
BATCH_ROWS = 1 << 16
RUN_TIME = "%Y%m%dT%H%M%S%f"
HOST = host_sql("url")


@dataclass(frozen=True)
class Plan:
    """What is left to do."""

    urls: dict[str, int]  # host -> how many of its URLs; "" for what has none

    @property
    def total(self) -> int:
        return sum(self.urls.values())


class Ledger:
    """The ledger, the manifest and the names of the files of photographs as tables of one database.

    Tables: `media` and `ledger` with their schemas, `shard_file(name)`, and `fate`: the last row, other than retried,
    of each URL.
    """

    def __init__(self, storage: Storage, database: "duckdb.DuckDBPyConnection") -> None:
        self.storage, self.database = storage, database
        self._register("media", [file.path for file in storage.files(MEDIA, ".parquet")], MEDIA_SCHEMA)
        self._register("ledger", shards.ledger_paths(storage), LEDGER_SCHEMA)
        names = pa.table({"name": pa.array(shards.shard_names(storage), pa.string())})
        database.register("shard_names", names)
        database.execute("CREATE TABLE shard_file AS FROM shard_names")
        database.execute(f"CREATE TABLE fate AS {fates_sql(['run', 'status', 'reason', 'num_bytes', 'shard'])}")

    def _register(self, name: str, paths: list[str], schema: pa.Schema) -> None:
        if paths:
            full = [self.storage.full(path) for path in paths]
            table = ds.dataset(full, schema=schema, format="parquet", filesystem=self.storage.fs)
        else:
            table = schema.empty_table()
        self.database.register(name, table)

    def named_shards(self) -> list[str]:
        """The files of photographs that the ledger names."""
        return self._column("SELECT DISTINCT shard FROM ledger WHERE status = 'ok' AND shard <> ''")

    def twins(self) -> dict[str, list[str]]:
        """Photographs that stand in two files: file -> those that it should not hold."""
        rows = self.database.execute(
            """WITH pruned AS (
                SELECT image_id, max(run) AS until FROM ledger WHERE status = 'pruned' GROUP BY image_id),
            stored AS (
                SELECT DISTINCT image_id, shard, name FROM ledger LEFT JOIN shard_file ON shard = name
                LEFT JOIN pruned USING (image_id)
                WHERE status = 'ok' AND shard <> '' AND run >= coalesce(until, '')),
            twin AS (SELECT image_id, min(name) AS kept FROM stored GROUP BY image_id
                     HAVING count(*) > 1 AND kept IS NOT NULL)
            SELECT shard, list(image_id) FROM stored JOIN twin USING (image_id) WHERE shard <> kept GROUP BY shard"""
        ).fetchall()
        return dict(rows)

    def mark(self, run: str, image_size: int) -> None:
        """Tell in the ledger which URLs the manifest has no more, and which it has again."""
        now = datetime.now(UTC)
        for status, which in (
            ("vanished", "status IN ('ok', 'failed') AND image_id NOT IN (SELECT image_id FROM media)"),
            ("ok", "status = 'vanished' AND shard IN (FROM shard_file) AND image_id IN (SELECT image_id FROM media)"),
        ):
            self._add_fates(which, status, run, image_size, now)

    def mark_pruned(self, run: str, image_size: int) -> None:
        """Tell in the ledger that the photographs that the manifest has no more are to be deleted."""
        self._add_fates("status = 'vanished' AND shard <> ''", "pruned", run, image_size, datetime.now(UTC))

    def pruned(self) -> dict[str, list[str]]:
        """Photographs that are to be deleted: file -> photographs."""
        rows = self.database.execute(
            "SELECT shard, list(image_id) FROM fate WHERE status = 'pruned' AND shard <> '' GROUP BY shard"
        ).fetchall()
        return dict(rows)

    def mark_deleted(self, run: str, image_size: int) -> None:
        """Tell in the ledger that they were deleted."""
        which = "status = 'pruned' AND shard <> ''"
        self._add_fates(which, "pruned", run, image_size, datetime.now(UTC), shard="")

    def plan(
        self, run: str, retry: frozenset[str] | None, limits: Limits, measured: Mapping[str, float] | None = None
    ) -> Plan:
        """Write what is left to do below TODO, in the order in which hosts can take it.

        Left to do is what has no fate in this run and was not stored by another, except what failed for a reason that
        is not in `retry` (None: for any). The n-th URL of a host is due at n / (its requests a second, as limited or
        as `measured`), and all URLs are sorted by when they are due: so any stretch of the list asks each host for
        about what it can give, and a host with few photographs does not wait behind one with many.
        """
        rates = {host: limit.per_second for host, limit in limits.overrides.items()} | dict(measured or {})
        self.database.register(
            "rates",
            pa.table({"host": pa.array(rates, pa.string()), "per_second": pa.array(rates.values(), pa.float64())}),
        )
        passing = "true" if retry is None else f"reason IN ({', '.join(map(literal, sorted(retry))) or literal('')})"
        self.database.execute(
            f"""CREATE OR REPLACE TABLE done AS SELECT image_id FROM fate LEFT JOIN shard_file ON shard = name
            WHERE status IN ('ok', 'vanished') AND name IS NOT NULL
                  OR status = 'failed' AND (run = {literal(run)} OR NOT ({passing}))"""
        )
        self.database.execute(
            f"""CREATE OR REPLACE TABLE todo AS
            SELECT image_id, url, gbif_id, species_key, host,
                   row_number() OVER (PARTITION BY host ORDER BY image_id)
                       / coalesce(per_second, {limits.default.per_second}) AS due
            FROM (SELECT image_id, url, gbif_id, species_key, {HOST} AS host FROM media
                  ANTI JOIN done USING (image_id))
            LEFT JOIN rates USING (host)"""
        )
        self.storage.delete(TODO)
        query = f"SELECT {', '.join(TODO_SCHEMA.names)} FROM todo ORDER BY due, image_id"
        for number, table in enumerate(self._tables(query, TODO_SCHEMA, TODO_ROWS)):
            self.storage.write_table(f"{TODO}/{number:06d}.parquet", table)
        hosts = self.database.execute("SELECT host, count(*) FROM todo GROUP BY host").fetchall()
        self.database.execute("DROP TABLE todo; DROP TABLE done")
        return Plan(dict(hosts))

    def outcome(self) -> Outcome:
        """Count the fates of the manifest's URLs, and what else is stored."""
        rows = self.database.execute(
            "SELECT status, reason, count(*), sum(num_bytes)::BIGINT FROM fate SEMI JOIN media USING (image_id) "
            "GROUP BY ALL ORDER BY 3 DESC, 2"
        ).fetchall()
        gone = self.database.execute("SELECT count(*) FROM fate WHERE status = 'vanished' AND shard <> ''").fetchall()
        ok = sum(number for status, _, number, _ in rows if status == "ok")
        urls = sum(number for _, _, number, _ in rows)
        return Outcome(
            counts={
                "urls": urls,
                "ok": ok,
                "failed": urls - ok,
                "bytes": sum(size for status, _, _, size in rows if status == "ok"),
                **({"vanished": gone[0][0]} if gone[0][0] else {}),
            },
            reasons={reason: number for status, reason, number, _ in rows if status != "ok"},
        )

    def _add_fates(
        self, which: str, status: str, run: str, image_size: int, now: datetime, *, shard: str | None = None
    ) -> None:
        """Add a row to the ledger for each fate that `which` holds for: what it was, with another status."""
        changed = f"'{status}' AS status, {literal(run)} AS run, {literal(now.isoformat())}::TIMESTAMPTZ AS fetched_at"
        if shard is not None:
            changed += f", {literal(shard)} AS shard"
        attempts = f"(FROM ledger WHERE image_id IN (SELECT image_id FROM fate WHERE {which}))"
        self.database.execute(
            f"CREATE OR REPLACE TABLE changed AS SELECT * REPLACE ({changed}) FROM ("
            f"{fates_sql([name for name in LEDGER_SCHEMA.names if name != 'image_id'], attempts)})"
        )
        for table in self._tables(f"SELECT {', '.join(LEDGER_SCHEMA.names)} FROM changed", LEDGER_SCHEMA, BATCH_ROWS):
            shards.write_fates(self.storage, f"{run}-{uuid.uuid4().hex}", table, image_size)
        # So that what follows sees it.
        self.database.execute(
            "UPDATE fate SET status = changed.status, run = changed.run, shard = changed.shard "
            "FROM changed WHERE fate.image_id = changed.image_id"
        )
        self.database.execute("DROP TABLE changed")

    def _tables(self, query: str, schema: pa.Schema, num_rows: int) -> Iterator[pa.Table]:
        """The rows of a query in tables of at most so many rows."""
        for batch in self.database.sql(query).to_arrow_reader(num_rows):
            yield pa.Table.from_batches([batch]).cast(schema)

    def _column(self, query: str) -> list[str]:
        return [value for (value,) in self.database.execute(query).fetchall()]


@contextlib.contextmanager
def read_ledger(storage: Storage) -> Iterator[Ledger]:
    """The ledger as it is now."""
    with tempfile.TemporaryDirectory(prefix="aitax-") as scratch, open_database(Path(scratch)) as database:
        yield Ledger(storage, database)


def new_run(storage: Storage) -> str:
    """A name for a run of the stage; names sort by time, whatever the clocks of the drivers say."""
    now = datetime.now(UTC)
    for path in shards.ledger_paths(storage):  # files of the ledger are named after their run
        with contextlib.suppress(ValueError):
            then = datetime.strptime(PurePosixPath(path).stem.partition("-")[0], RUN_TIME).replace(tzinfo=UTC)
            now = max(now, then + timedelta(microseconds=1))
    return f"{now:{RUN_TIME}}-{uuid.uuid4().hex[:8]}"


def settle(storage: Storage, run: str, image_size: int, *, prune: bool = False) -> None:
    """Bring images, ledger and manifest into agreement, whatever an earlier run left and however the manifest changed.

    Deletes files that nothing names, and photographs that are there twice; marks those that the manifest has no more,
    and deletes them if `prune`.
    """
    with read_ledger(storage) as ledger:
        shards.drop_leftovers(storage, ledger.named_shards())
        twins = ledger.twins()
    for shard, image_ids in twins.items():
        shards.drop_twins(storage, shard, image_ids)
    with read_ledger(storage) as ledger:  # anew: Arrow does not see that a file that it has read was rewritten
        ledger.mark(run, image_size)
        if prune:
            ledger.mark_pruned(run, image_size)
        for shard, image_ids in ledger.pruned().items():
            shards.drop_photographs(storage, shard, image_ids)
        ledger.mark_deleted(run, image_size)
