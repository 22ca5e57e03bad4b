"""Read the ledger: the fate of every URL, which URLs to fetch and in which order, which the manifest no longer lists.

Ledger and manifest may have hundreds of millions of rows. DuckDB joins them within a fixed amount of memory, and writes
to disk what does not fit.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from aitax_ray import takedowns
from aitax_ray.database import MEMORY_FOR_JOINS, literal, open_database
from aitax_ray.errors import DataError
from aitax_ray.fates import fates_sql
from aitax_ray.images import shards
from aitax_ray.images.answers import NOT_FOUND
from aitax_ray.images.limits import Limits
from aitax_ray.images.shards import TODO, TODO_SCHEMA
from aitax_ray.schemas import IMAGES as IMAGES_SCHEMA
from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.schemas import MEDIA as MEDIA_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.web import host_sql
from aitax_ray.workspace import IMAGES, MEDIA, Outcome

if TYPE_CHECKING:
    import duckdb

TODO_ROWS = 8192  # in one file
BATCH_ROWS = 1 << 16
RUN_TIME = "%Y%m%dT%H%M%S%f"
HOST = host_sql("url")


@dataclass(frozen=True)
class Plan:
    """How many URLs are left to do."""

    urls: dict[str, int]  # host -> number of its URLs; "" for URLs without a host

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
        self.read_ids_in_shards([])

    def _register(self, name: str, paths: list[str], schema: pa.Schema) -> None:
        if paths:
            full = [self.storage.full(path) for path in paths]
            table = ds.dataset(full, schema=schema, format="parquet", filesystem=self.storage.fs)
        else:
            table = schema.empty_table()
        self.database.register(name, table)

    def check_manifest(self) -> None:
        """Raise DataError when the manifest lists a photograph more than once: each join here expects one row."""
        twice = self._column("SELECT image_id FROM media GROUP BY image_id HAVING count(*) > 1 LIMIT 1")
        if twice:
            raise DataError(f"{MEDIA} lists the photograph {twice[0]} more than once: run `aitax manifest --force`")

    def read_ids_in_shards(self, names: Collection[str]) -> None:
        """Read which photographs some files really hold.

        Makes the tables `read_file(shard)` of these files, `held(image_id, url, shard)` with one row for each of their
        photographs, and `home(image_id, shard)`: the file that holds a photograph according to the ledger and, where it
        was read, to the file itself. A photograph has at most one home.
        """
        self.database.execute("DROP TABLE IF EXISTS home; DROP TABLE IF EXISTS held; DROP TABLE IF EXISTS read_file")
        self.database.register("read_names", pa.table({"shard": pa.array(sorted(names), pa.string())}))
        self.database.execute("CREATE TABLE read_file AS FROM read_names")
        columns = ["image_id", "url", "__filename"]
        paths = [self.storage.full(f"{IMAGES}/{name}") for name in sorted(names)]
        if paths:
            files = ds.dataset(paths, schema=IMAGES_SCHEMA, format="parquet", filesystem=self.storage.fs)
            self.database.register("rows_held", files.scanner(columns=columns, batch_size=BATCH_ROWS).to_reader())
        else:
            self.database.register("rows_held", pa.table({name: pa.array([], pa.string()) for name in columns}))
        self.database.execute(
            "CREATE TABLE held AS SELECT DISTINCT image_id, parse_filename(__filename) AS shard, url FROM rows_held"
        )
        self.database.execute(
            """CREATE TABLE home AS SELECT image_id, shard FROM fate SEMI JOIN shard_file ON shard = name
            WHERE status IN ('ok', 'vanished', 'pruned')
                  AND (shard NOT IN (FROM read_file) OR (image_id, shard) IN (SELECT (image_id, shard) FROM held))"""
        )

    def copies(self) -> dict[str, list[str]]:
        """Photographs that another file holds too: file -> those that it should not hold."""
        rows = self.database.execute(
            """SELECT shard, list(image_id) FROM (
                SELECT image_id, held.shard, home.shard AS kept,
                       row_number() OVER (PARTITION BY image_id ORDER BY held.shard) AS number
                FROM held LEFT JOIN home USING (image_id))  -- one home for each photograph
            WHERE shard <> kept OR kept IS NULL AND number > 1 GROUP BY shard ORDER BY shard"""
        ).fetchall()
        return dict(rows)

    def incomplete_shards(self) -> list[str]:
        """The files that were read and lack a photograph that the ledger says they hold."""
        return self._column(
            """SELECT DISTINCT shard FROM fate SEMI JOIN read_file USING (shard) SEMI JOIN shard_file ON shard = name
            ANTI JOIN held USING (image_id, shard) WHERE status IN ('ok', 'vanished') ORDER BY shard"""
        )

    def count_missing(self) -> tuple[int, int]:
        """Count the photographs of the manifest whose file is not there, and these files."""
        rows = self.database.execute(
            """SELECT count(*), count(DISTINCT shard) FROM fate SEMI JOIN media USING (image_id)
            ANTI JOIN shard_file ON shard = name WHERE status = 'ok'"""
        ).fetchall()
        return rows[0][0], rows[0][1]

    def add_unknown(self, run: str, image_size: int) -> int:
        """Enter photographs that a file holds and the ledger does not place anywhere; returns how many.

        A row takes what the ledger knows of an earlier attempt that stored the photograph. Otherwise the columns that
        describe the request are empty.
        """
        self.database.execute("CREATE OR REPLACE TABLE unknown AS FROM held ANTI JOIN home USING (image_id)")
        (number,) = self._column("SELECT count(*) FROM unknown")
        if not number:
            return 0
        new = {
            "image_id": "image_id", "url": "url", "run": literal(run), "status": "'ok'", "reason": "''",
            "fetched_at": f"{literal(datetime.now(UTC).isoformat())}::TIMESTAMPTZ", "shard": "unknown.shard",
        }  # fmt: skip
        rest = [name for name in LEDGER_SCHEMA.names if name not in new]
        empty = {name: "''" if pa.types.is_string(LEDGER_SCHEMA.field(name).type) else "0" for name in rest}
        new |= {name: f"coalesce(known.{name}, {empty[name]})" for name in rest}
        earlier = "(FROM ledger WHERE status = 'ok' AND image_id IN (SELECT image_id FROM unknown))"
        self._write_fates(
            f"SELECT {', '.join(f'{new[name]} AS {name}' for name in LEDGER_SCHEMA.names)} FROM unknown "
            f"LEFT JOIN ({fates_sql(rest, earlier)}) AS known USING (image_id)",  # one row for each photograph
            run,
            image_size,
        )
        return int(number)

    def mark_listed_and_unlisted(self, run: str, image_size: int) -> None:
        """Add rows to the ledger for URLs that the manifest no longer lists, and for those that it lists again."""
        now = datetime.now(UTC)
        for status, which in (
            ("vanished", "status IN ('ok', 'failed') AND image_id NOT IN (SELECT image_id FROM media)"),
            ("ok", "status = 'vanished' AND shard IN (FROM shard_file) AND image_id IN (SELECT image_id FROM media)"),
        ):
            self._add_fates(which, status, run, image_size, now)

    def mark_to_delete(self, run: str, image_size: int) -> None:
        """Add rows to the ledger: the photographs that the manifest no longer lists are to be deleted."""
        self._add_fates("status = 'vanished' AND shard <> ''", "pruned", run, image_size, datetime.now(UTC))

    def shard_sizes(self) -> dict[str, int]:
        """The files of photographs, and how many photographs each holds."""
        rows = self.database.execute(
            """SELECT shard, count(*) FROM fate SEMI JOIN shard_file ON shard = name
            WHERE status IN ('ok', 'vanished') GROUP BY shard"""
        ).fetchall()
        return dict(rows)

    def mark_moved(self, targets: Mapping[str, str], run: str, image_size: int) -> None:
        """Add rows to the ledger: the photographs of some files are in other files now (old file -> new file)."""
        columns = {"shard": pa.array(targets, pa.string()), "target": pa.array(targets.values(), pa.string())}
        self.database.register("moved", pa.table(columns))
        names = [name for name in LEDGER_SCHEMA.names if name not in ("image_id", "shard")]
        self._write_fates(
            f"SELECT last.* REPLACE (moved.target AS shard, {literal(run)} AS run) "
            f"FROM ({fates_sql([*names, 'shard'])}) AS last JOIN moved USING (shard)",  # one target for each file
            run,
            image_size,
        )

    def to_delete(self) -> dict[str, list[str]]:
        """Photographs that are to be deleted: file -> photographs."""
        rows = self.database.execute(
            "SELECT shard, list(image_id) FROM fate WHERE status = 'pruned' AND shard <> '' GROUP BY shard"
        ).fetchall()
        return dict(rows)

    def mark_deleted(self, run: str, image_size: int) -> None:
        """Add rows to the ledger: these photographs were deleted."""
        which = "status = 'pruned' AND shard <> ''"
        self._add_fates(which, "pruned", run, image_size, datetime.now(UTC), shard="")

    def plan(
        self, run: str, retry: frozenset[str] | None, limits: Limits, measured: Mapping[str, float] | None = None
    ) -> Plan:
        """Write the URLs that are left to do below TODO, in the order in which hosts can serve them.

        A URL is left to do when it is not stored, unless this run tried it, or it failed for a reason that is not in
        `retry` (None: any reason is tried again). What its author asked to withdraw is not fetched. The n-th URL of a
        host is due at n / (its requests per second, as limited or as `measured`). All URLs are sorted by when they are
        due. So each part of the list asks each host for about as much as it can serve, and a host with few photographs
        does not wait for one with many.
        """
        rates = {host: limit.per_second for host, limit in limits.overrides.items()} | dict(measured or {})
        self.database.register(
            "rates",
            pa.table({"host": pa.array(rates, pa.string()), "per_second": pa.array(rates.values(), pa.float64())}),
        )
        passing = "true" if retry is None else f"reason IN ({', '.join(map(literal, sorted(retry))) or literal('')})"
        # A worker that lacked the folder of photographs wrote `not_found`; to look again costs nothing.
        local = "(SELECT image_id FROM media WHERE lower(ltrim(url)) LIKE 'file:%')"
        passing += f" OR reason = {literal(NOT_FOUND)} AND image_id IN {local}"
        self.database.execute(
            f"""CREATE OR REPLACE TABLE done AS SELECT image_id FROM fate LEFT JOIN shard_file ON shard = name
            WHERE status IN ('ok', 'vanished') AND name IS NOT NULL
                  OR status = 'failed' AND (run = {literal(run)} OR NOT ({passing}))"""
        )
        withdrawn = takedowns.withdrawn_ids(takedowns.read_active_requests(self.storage))
        self.database.register("withdrawn", pa.table({"image_id": pa.array(withdrawn, pa.string())}))
        self.database.execute(
            f"""CREATE OR REPLACE TABLE todo AS
            SELECT image_id, url, gbif_id, species_key, host,
                   row_number() OVER (PARTITION BY host ORDER BY image_id)
                       / coalesce(per_second, {limits.default.per_second}) AS due
            FROM (SELECT image_id, url, gbif_id, species_key, {HOST} AS host FROM media
                  ANTI JOIN done USING (image_id) ANTI JOIN withdrawn USING (image_id))
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
            f"""SELECT CASE WHEN status = 'ok' AND name IS NULL THEN 'failed' ELSE status END AS seen,
                   CASE WHEN status = 'ok' AND name IS NULL THEN {literal(shards.FILE_MISSING)} ELSE reason END AS why,
                   count(*), sum(num_bytes)::BIGINT
            FROM fate SEMI JOIN media USING (image_id) LEFT JOIN shard_file ON shard = name
            GROUP BY ALL ORDER BY 3 DESC, 2"""
        ).fetchall()
        gone = self.database.execute(
            "SELECT count(*) FROM fate JOIN shard_file ON shard = name WHERE status = 'vanished'"
        ).fetchall()
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
        self.database.execute(f"CREATE OR REPLACE TABLE affected AS SELECT image_id FROM fate WHERE {which}")
        if not self._column("SELECT count(*) FROM affected")[0]:
            return
        attempts = "(FROM ledger WHERE image_id IN (FROM affected))"
        last = fates_sql([name for name in LEDGER_SCHEMA.names if name != "image_id"], attempts)
        self._write_fates(f"SELECT * REPLACE ({changed}) FROM ({last})", run, image_size)

    def _write_fates(self, query: str, run: str, image_size: int) -> None:
        """Add the rows of a query to the ledger, and follow them in `fate`."""
        self.database.execute(f"CREATE OR REPLACE TABLE changed AS {query}")
        for table in self._tables(f"SELECT {', '.join(LEDGER_SCHEMA.names)} FROM changed", LEDGER_SCHEMA, BATCH_ROWS):
            shards.write_fates(self.storage, f"{run}-{uuid.uuid4().hex}", table, image_size)
        self.database.execute(
            """DELETE FROM fate WHERE image_id IN (SELECT image_id FROM changed);
            INSERT INTO fate BY NAME SELECT image_id, run, status, reason, num_bytes, shard FROM changed;
            DROP TABLE changed"""
        )

    def _tables(self, query: str, schema: pa.Schema, num_rows: int) -> Iterator[pa.Table]:
        """The rows of a query in tables of at most so many rows."""
        for batch in self.database.sql(query).to_arrow_reader(num_rows):
            yield pa.Table.from_batches([batch]).cast(schema)

    def _column(self, query: str) -> list[Any]:
        return [value for (value,) in self.database.execute(query).fetchall()]


@contextlib.contextmanager
def read_ledger(storage: Storage) -> Iterator[Ledger]:
    """The ledger as it is now."""
    with (
        tempfile.TemporaryDirectory(prefix="aitax-") as scratch,
        open_database(Path(scratch), MEMORY_FOR_JOINS) as database,
    ):
        yield Ledger(storage, database)


def new_run(storage: Storage) -> str:
    """A name for a run of the stage; names sort by time, whatever the clocks of the drivers say."""
    now = datetime.now(UTC)
    for path in shards.ledger_paths(storage):  # files of the ledger are named after their run
        with contextlib.suppress(ValueError):
            then = datetime.strptime(PurePosixPath(path).stem.partition("-")[0], RUN_TIME).replace(tzinfo=UTC)
            now = max(now, then + timedelta(microseconds=1))
    return f"{now:{RUN_TIME}}-{uuid.uuid4().hex[:8]}"
