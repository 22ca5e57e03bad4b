"""How long does the `split` stage take, and how much memory, and how does it grow?

The claim: of 500,000 stored photographs, with their hashes, it makes a data set and its data card in under three
minutes and 2 GB, and of ten times as many in about ten times the time. There is no peer that does the same; what a data
scientist would write, a random split by photograph with pandas, stands beside it for scale, with the share of its
validation photographs that have another one of their occurrence, or a copy, in training: ours have none.

    python benchmarks/bench_split.py                           50,000, then 500,000: a minute
    python benchmarks/bench_split.py --photographs 5000000     some seven minutes and 6 GB

Photographs are generated rows without pixels: 3.3 photographs an occurrence, species with a long tail, 5 % copies, some
of them under another species.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace

ROWS_IN_FILE = 100_000
COPIES, OTHER_SPECIES = 0.05, 0.1  # share of copies, and of these under another species
OBSERVERS, DATASETS = 5000, 60
LICENSES = ["CC-BY-NC-4.0"] * 14 + ["CC-BY-4.0"] * 3 + ["CC0-1.0", "unknown", "all-rights-reserved"]
LOOK_EVERY_S = 0.5


def generate(root: str, num: int, seed: int = 0) -> None:
    """Write what `manifest` and `download` leave of so many photographs."""
    chance = np.random.default_rng(seed)
    num_occurrences, num_species = max(2, num // 3), max(4, num // 100)
    species = np.minimum(chance.zipf(1.3, num_occurrences) - 1, num_species - 1)
    occurrence = chance.integers(0, num_occurrences, num)
    hashes = chance.integers(0, 256, (num, 32), np.uint8)
    copies = chance.permutation(num)[: int(COPIES * num)]
    originals = chance.integers(0, num, len(copies))
    hashes[copies] = hashes[originals]
    for _ in range(6):  # bits in which a copy differs
        bits = chance.integers(0, 256, len(copies))
        hashes[copies, bits >> 3] ^= (1 << (bits & 7)).astype(np.uint8)
    same = chance.random(len(copies)) >= OTHER_SPECIES
    occurrence[copies[same]] = occurrence[originals[same]]
    storage = Storage(root)

    def media(start: int, rows: np.ndarray) -> pa.Table:
        known = {
            "image_id": [f"{number:040x}" for number in rows],
            "url": [f"https://host{number % 40}.example/photos/{number}.jpg" for number in rows],
            "gbif_id": [str(number) for number in occurrence[rows]],
            "species_key": [f"S{number}" for number in species[occurrence[rows]]],
            "license_id": [LICENSES[number % len(LICENSES)] for number in rows],
            "creator": [f"Observer {number % OBSERVERS}" for number in occurrence[rows]],
            "dataset_key": [f"{number % DATASETS:08x}-0000-0000-0000-000000000000" for number in rows],
        }
        return table(schemas.MEDIA, known, len(rows))

    def images(start: int, rows: np.ndarray) -> pa.Table:
        listed = media(start, rows)
        known = {name: listed[name] for name in ("image_id", "url", "gbif_id", "species_key")}
        known |= {
            "width": np.full(len(rows), 400), "height": np.full(len(rows), 300),
            "contrast": np.full(len(rows), 40.0), "phash": [row.tobytes() for row in hashes[rows]],
            "jpeg_sha256": [f"{number:064x}" for number in rows], "jpeg": [b""] * len(rows),
        }  # fmt: skip
        return table(schemas.IMAGES, known, len(rows))

    def write(folder: str, make) -> None:
        for start in range(0, num, ROWS_IN_FILE):
            rows = np.arange(start, min(num, start + ROWS_IN_FILE))
            storage.write_table(f"{folder}/part-{start // ROWS_IN_FILE:05}.parquet", make(start, rows))

    def list_them() -> Outcome:
        write(workspace.MEDIA, media)
        used = np.unique(occurrence)
        known = {
            "gbif_id": [str(number) for number in used],
            "species_key": [f"S{number}" for number in species[used]],
            "decimal_latitude": chance.normal(45, 10, len(used)).clip(-89, 89),
            "decimal_longitude": chance.normal(10, 30, len(used)),
            "event_date": [f"{2000 + n % 25}-{1 + n % 12:02}-{1 + n % 28:02}" for n in used],
            "country_code": [("CH", "DE", "FR", "US")[n % 4] for n in used],
            "basis_of_record": ["HUMAN_OBSERVATION"] * len(used),
            "recorded_by": [f"Observer {n % OBSERVERS}" for n in used],
        }
        storage.write_table(workspace.OCCURRENCES, table(schemas.OCCURRENCES, known, len(used)))
        keys = [f"S{number}" for number in np.unique(species)]
        taxa = table(schemas.TAXA, {"species_key": keys, "name": [f"Aus {key}" for key in keys]}, len(keys))
        storage.write_table(workspace.TAXA, taxa)
        storage.write_table(workspace.DROPPED, schemas.DROPPED.empty_table())
        return Outcome(counts={"media_rows": num, "kept": num})

    def fetch() -> Outcome:
        write(workspace.IMAGES, images)
        storage.write_table(f"{workspace.LEDGER}/0.parquet", schemas.LEDGER.empty_table())
        return Outcome(counts={"urls": num, "ok": num})

    Workspace(root).run("manifest", StageSettings(root=root), (), list_them)
    Workspace(root).run("download", StageSettings(root=root), ("manifest",), fetch)


def table(schema: pa.Schema, known: dict[str, object], num: int) -> pa.Table:
    """Columns that are known, the others blank."""
    blank = {pa.string(): "", pa.bool_(): False, pa.int64(): 0, pa.int32(): 0}
    columns = [
        pa.array(known[field.name], field.type)
        if field.name in known
        else pa.array([[] if pa.types.is_list(field.type) else blank.get(field.type)] * num, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def measure(root: str) -> tuple[float, float]:
    """Wall time in s and peak memory in MB of the stage from the command line."""
    command = [sys.executable, "-m", "aitax_ray.cli", "split", "--root", root, "--force"]
    begin, peak = time.monotonic(), 0.0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        over = threading.Event()

        def look() -> None:
            nonlocal peak
            while not over.wait(LOOK_EVERY_S):
                try:
                    lines = Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
                except OSError:
                    return
                peak = max([peak, *(float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))])

        thread = threading.Thread(target=look)
        thread.start()
        status = process.wait()
        over.set()
        thread.join()
    if status:
        raise SystemExit(f"`aitax split` ended with {status}")
    return time.monotonic() - begin, peak


def naive(root: str) -> tuple[float, float]:
    """Time of a random split by photograph, and the share of validation photographs that training knows."""
    storage, begin = Storage(root), time.monotonic()
    frame = storage.read_table(workspace.MEDIA, ["image_id", "gbif_id", "species_key"]).to_pandas()
    is_val = np.random.default_rng(0).random(len(frame)) < 0.1
    elapsed = time.monotonic() - begin
    trained = set(frame["gbif_id"][~is_val])
    return elapsed, float(frame["gbif_id"][is_val].isin(trained).mean())


def report(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure one size after the other, and print how time and memory grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="*", default=[50_000, 500_000])
    given = parser.parse_args()
    report(f"{os.cpu_count()} cores\nphotographs     wall s  memory MB  photographs/s  excluded")
    before = None
    for num in given.photographs:
        with tempfile.TemporaryDirectory(prefix="aitax-bench-") as root:
            generate(root, num)
            wall_s, memory = measure(root)
            told = json.loads((Path(root) / "split" / "report.json").read_text("utf-8"))
            report(f"{num:>11,} {wall_s:>10.1f} {memory:>10,.0f} {num / wall_s:>14,.0f}  {told['reasons']}")
            elapsed, leaking = naive(root)
            report(f"  a random split by photograph: {elapsed:.1f} s, {leaking:.0%} of validation known to training")
        if before:
            report(f"  {num / before[0]:.0f} times the photographs: {wall_s / before[1]:.1f} times the time")
        before = (num, wall_s)


if __name__ == "__main__":
    main()
