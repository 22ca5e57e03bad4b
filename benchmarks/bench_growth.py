"""How do time and memory of the steps that see every row grow: the ledger, the plan of a download, the split?

The claim: DuckDB's part of the memory does not grow with the photographs, `split` takes below 200 bytes per photograph
more, and ten times the photographs take at most 12 times the processor time. No peer does the same.

    python benchmarks/bench_growth.py                                 1 million photographs: some minutes
    python benchmarks/bench_growth.py --photographs 1000000 5000000 --steps ledger split
    python benchmarks/bench_growth.py --photographs 50000000 --shard-size 4096 --folder DIR      hours, 12 GB of disk

Photographs are generated rows without pixels, with the keys, hashes and hosts of real ones: 1.47 photographs per
occurrence, a long tail of species, 5 % copies. Each step runs in a process of its own. Processor time is what it used
on all cores; wall time is only comparable on a quiet machine.

    plan      `download` of a manifest of which nothing is stored: reconcile, and the list of what to fetch
    ledger    `download` when everything was tried: reconcile, plan, compact, count the fates
    split     the whole stage, with its data card
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from simulate_growth import HOSTS, PHOTOGRAPHS_PER_OCCURRENCE

from aitax_ray import schemas, workspace
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace

ROWS_IN_FILE = 1 << 19
LEDGER_ROWS = 100_000  # in one file, as `compact` leaves them
COPIES = 20  # one in so many photographs shows the same as another
FAILED = 14  # one in so many could not be fetched
RUN = "20260101T000000000000-00000000"
LICENSES = ["CC-BY-NC-4.0"] * 14 + ["CC-BY-4.0"] * 3 + ["CC0-1.0", "unknown", "all-rights-reserved"]


MEDIA = f"""SELECT *, {LICENSES!r}[1 + (n % {len(LICENSES)})::INT] AS license_id,
    'Observer ' || occurrence % 5000 AS creator, dataset(occurrence) AS dataset_key FROM photo"""
OCCURRENCES = """SELECT o::TEXT AS gbif_id, species(o)::TEXT AS species_key, random(o, 'lat') * 160 - 80
    AS decimal_latitude, random(o, 'lon') * 360 - 180 AS decimal_longitude, 'CH' AS country_code,
    (DATE '2000-01-01' + (hash(o, 'day') % 9000)::INT)::TEXT AS event_date, 'HUMAN_OBSERVATION' AS basis_of_record,
    'Observer ' || o % 5000 AS recorded_by, dataset(o) AS dataset_key
    FROM range(getvariable('start')::BIGINT, getvariable('stop')::BIGINT) AS numbers(o)"""
IMAGES = f"""SELECT *, 400 AS width, 300 AS height, 40 AS contrast, ''::BLOB AS jpeg,
    md5('a' || n) || md5('b' || n) AS jpeg_sha256 FROM photo WHERE n % {FAILED} <> 0"""
LEDGER = f"""SELECT *, '{RUN}' AS run, 200 AS http_status, 1 AS attempts, 400000 AS num_bytes, 0.2 AS seconds,
    'original' AS source, url AS final_url, 'image/jpeg' AS content_type, md5('c' || n) || md5('d' || n) AS sha256,
    TIMESTAMPTZ '2026-01-01 00:00:00Z' + INTERVAL (n // 100) SECOND AS fetched_at,
    CASE WHEN n % {FAILED} <> 0 THEN 'ok' ELSE 'failed' END AS status,
    CASE WHEN n % {FAILED} <> 0 THEN '' ELSE 'not_found' END AS reason,
    CASE WHEN n % {FAILED} <> 0 THEN '{RUN}-' || format('{{:08x}}.parquet', (n // shard_size())::BIGINT) ELSE '' END
        AS shard FROM photo"""


class Generator:
    """Rows of a number of photographs, made in parts. The keys of photographs are sorted, and as random as a sha1."""

    def __init__(self, num: int, shard_size: int) -> None:
        self.num, self.num_occurrences = num, int(num / PHOTOGRAPHS_PER_OCCURRENCE)
        self.num_species = max(4, int(num**0.6))
        self.database = duckdb.connect(config={"memory_limit": "1GB", "threads": 2})
        self.database.execute("SET enable_progress_bar = false")
        ends = np.cumsum(list(HOSTS.values())) / sum(HOSTS.values())
        hosts = pa.table({"low": [0.0, *ends[:-1]], "high": [*ends[:-1], 2.0], "host": list(HOSTS)})
        self.database.register("hosts", hosts)
        self.database.execute(
            f"""CREATE MACRO random(key, salt) AS (hash(key, salt) >> 11) / {2**53}::DOUBLE;
            CREATE MACRO species(o) AS floor({self.num_species}::DOUBLE ** random(o, 'species'))::INT;
            CREATE MACRO dataset(o) AS format('{{:08x}}-0000-0000-0000-000000000000', o % 60);
            CREATE MACRO shard_size() AS {shard_size};
            CREATE VIEW photo AS SELECT n, printf('%010x', n * {2**40 // num}) || left(md5(n::TEXT), 30) AS image_id,
                'https://' || host || '/photos/' || n || '/original.jpg' AS url, occurrence::TEXT AS gbif_id,
                species(occurrence)::TEXT AS species_key, occurrence
            FROM (SELECT range AS n, (hash(range, 'occurrence') % {self.num_occurrences})::BIGINT AS occurrence,
                  random(range, 'host') AS u FROM range(getvariable('start')::BIGINT, getvariable('stop')::BIGINT))
            JOIN hosts ON u >= low AND u < high ORDER BY n"""
        )

    def tables(self, query: str, schema: pa.Schema, total: int, at_once: int) -> Iterator[pa.Table]:
        """The rows of a query, with the columns that it lacks, blank."""
        blank = {pa.string(): "", pa.bool_(): False, pa.int64(): 0}
        for start in range(0, total, at_once):
            self.database.execute(f"SET VARIABLE start = {start}; SET VARIABLE stop = {min(total, start + at_once)}")
            found = self.database.sql(query).to_arrow_table()
            columns = [
                found[field.name].cast(field.type)
                if field.name in found.schema.names
                else pa.repeat(
                    pa.scalar([] if pa.types.is_list(field.type) else blank.get(field.type), field.type), len(found)
                )
                for field in schema
            ]
            yield pa.table(columns, schema=schema)


def generate(root: str, num: int, shard_size: int, *, is_stored: bool) -> None:
    """Write what `manifest` and, with `is_stored`, `download` leave of so many photographs."""
    storage, generator = Storage(root), Generator(num, shard_size)

    def write(folder: str, tables: Iterable[pa.Table]) -> None:
        for number, table in enumerate(tables):
            storage.write_table(f"{folder}/{RUN}-{number:06}.parquet", table)

    def list_them() -> Outcome:
        write(workspace.MEDIA, generator.tables(MEDIA, schemas.MEDIA, num, ROWS_IN_FILE))
        rows = generator.tables(OCCURRENCES, schemas.OCCURRENCES, generator.num_occurrences, ROWS_IN_FILE)
        storage.write_tables(workspace.OCCURRENCES, rows, schemas.OCCURRENCES)
        names = f"SELECT range::TEXT AS species_key, 'Aus ' || range AS name FROM range({generator.num_species + 1})"
        storage.write_tables(workspace.TAXA, generator.tables(names, schemas.TAXA, 1, 1), schemas.TAXA)
        storage.write_table(workspace.DROPPED, schemas.DROPPED.empty_table())
        return Outcome(counts={"rows_read": num, "kept": num})

    def fetch() -> Outcome:
        at_once = max(1, ROWS_IN_FILE // shard_size) * shard_size
        for part, table in enumerate(generator.tables(IMAGES, schemas.IMAGES, num, at_once)):
            numbers = np.arange(part * at_once, min(num, (part + 1) * at_once))
            numbers = numbers[numbers % FAILED != 0]
            place = schemas.IMAGES.get_field_index("phash")
            hashed = table.set_column(place, schemas.IMAGES.field(place), hashes(numbers))
            shards = numbers // shard_size
            begins = np.flatnonzero(np.diff(shards, prepend=-1))
            for begin, end in zip(begins, np.append(begins[1:], len(shards)), strict=True):
                path = f"{workspace.IMAGES}/{RUN}-{shards[begin]:08x}.parquet"
                storage.write_table(path, hashed.slice(begin, end - begin), plain=["jpeg"])
        write(workspace.LEDGER, generator.tables(LEDGER, schemas.LEDGER, num, LEDGER_ROWS))
        ok = num - -(-num // FAILED)
        return Outcome(counts={"urls": num, "ok": ok, "failed": num - ok, "bytes": 400_000 * ok})

    Workspace(root).run("manifest", StageSettings(root=root), (), list_them)
    if is_stored:
        Workspace(root).run("download", StageSettings(root=root), ("manifest",), fetch)


def hashes(numbers: NDArray[np.int64]) -> pa.Array:
    """Perceptual hashes of 256 bits. One of COPIES is that of an earlier photograph, with up to 6 other bits."""
    is_copy = numbers % COPIES == 1
    origin = np.where(is_copy, np.maximum(0, numbers - 10_007), numbers).astype(np.uint64)
    words = np.stack([_mix(origin * np.uint64(4) + np.uint64(word)) for word in range(4)], axis=1)
    for turn in range(6):
        bit = _mix(numbers.astype(np.uint64) + np.uint64(turn << 40)) % np.uint64(256)
        rows = np.flatnonzero(is_copy)
        words[rows, (bit[rows] >> np.uint64(6)).astype(np.int64)] ^= np.uint64(1) << (bit[rows] & np.uint64(63))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(numbers), [None, pa.py_buffer(words.tobytes())])


def _mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64: a number that looks random for each key."""
    z = keys + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def run_step(step: str, root: str) -> None:
    """One step, in this process."""
    if step == "split":
        from aitax_ray.dataset.settings import SplitSettings
        from aitax_ray.dataset.split import split

        split(SplitSettings(root=root, force=True))
        return
    from aitax_ray.images import compact, ledger, limits, reconcile

    storage = Storage(root)
    run = ledger.new_run(storage)
    reconcile.reconcile(storage, run, 512)
    with ledger.read_ledger(storage) as found:
        plan = found.plan(run, frozenset(), limits.Limits(limits.HostLimit(8, 10.0), limits.OVERRIDES))
    storage.delete(f"{workspace.LEDGER}/.todo")
    if step == "ledger":
        compact.compact(storage, ledger.new_run(storage), 512, 256)
        with ledger.read_ledger(storage) as found:
            found.outcome()
    elif not plan.total:
        raise SystemExit("nothing was planned")


def measure(step: str, root: str) -> dict[str, float]:
    """Wall time and processor time in s, peak memory in bytes of a step in a process of its own."""
    begin = time.monotonic()
    command = [sys.executable, __file__, "--one", step, root]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - begin}


def report(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure one size after the other, and print how processor time and memory grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--steps", nargs="*", default=["plan", "ledger", "split"], choices=["plan", "ledger", "split"])
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--folder", help="where the generated rows are kept, and found again")
    parser.add_argument("--one", nargs=2, metavar=("STEP", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run_step(*given.one)
        used = resource.getrusage(resource.RUSAGE_SELF)
        report(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}))
        return
    report("step    photographs      cpu s   wall s   peak MB  bytes per photograph")
    with tempfile.TemporaryDirectory(prefix="aitax-bench-") as scratch:
        folder = given.folder or scratch
        for step in given.steps:
            for num in given.photographs:
                root = f"{folder}/{'listed' if step == 'plan' else 'stored'}-{num}"
                if not Path(root, "manifest/report.json" if step == "plan" else "images/report.json").exists():
                    generate(root, num, given.shard_size, is_stored=step != "plan")
                found = measure(step, root)
                report(
                    f"{step:7} {num:>11,} {found['cpu_s']:>10.1f} {found['wall_s']:>8.1f} {found['peak'] / 1e6:>9,.0f}"
                    f" {found['peak'] / num:>10,.0f}"
                )


if __name__ == "__main__":
    main()
