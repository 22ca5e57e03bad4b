"""How fast do photographs come in, beside img2dataset, and beside what decoding alone allows? How does it grow?

The claim: on two cores at least 2.5 times as many photographs a second as img2dataset 1.47 in the steady state, half
its wall time with Ray's start included, and at least 60 % of what decoding, shrinking and encoding alone reach on the
same cores. Ten times the URLs take at most 11 times as long, and the same memory. Both sides run here as a user would
start them, one after the other, on one server on loopback (`photo_server.py`) that answers after 50 ms with photographs
of 2 megapixels and 200 to 400 KB. A run in which a photograph is missing ends the benchmark.

    python benchmarks/bench_download.py                                    6,000 URLs, then 60,000: some 10 minutes
    python benchmarks/bench_download.py --requests 600 --growth 0          a look

The steady state is what the server hands over between the first and the last tenth, by its clock. img2dataset runs with
two processes of 64 threads, in shards of several sizes, of which the best counts for each figure. It is put into a
virtual environment of its own, or --peer names a Python that has it. Memory is the peak of what all processes hold
together, with what they share counted once (PSS). CPU is told in seconds, of the side, of the server, and of whatever
else ran on the machine: where that is much, the figures are worth little.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import pyarrow as pa
from photo_server import HEIGHT, WIDTH, make_photos

from aitax_ray.images.decode import Photo, normalize
from aitax_ray.schemas import MEDIA, image_id
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace

PEER = "img2dataset==1.47.0"
IMAGE_SIZE = 300
CONCURRENCY = 64
NUM_PHOTOS = 32
LATENCY_S = 0.05
OURS = [
    "--image-size", IMAGE_SIZE, "--allow-private-hosts", "--concurrency", CONCURRENCY,
    "--host-limits", f"127.0.0.1={CONCURRENCY}/100000",
]  # fmt: skip
# The same work as ours: it would encode at quality 95, and look for a new version of a package of its own.
THEIRS = [
    "--input_format", "txt", "--output_format", "webdataset", "--resize_mode", "center_crop", "--image_size",
    IMAGE_SIZE, "--encode_quality", 90, "--processes_count", 2, "--thread_count", CONCURRENCY,
]  # fmt: skip
THEIR_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1"}
MANIFEST_ROWS = 100_000  # in one file
LOOK_EVERY_S = 2.0  # looking takes from the cores that are measured
LIMIT_S = 10.0


@dataclass(frozen=True)
class Run:
    """What a download took."""

    wall_s: float
    steady: float  # photographs a second
    bytes: int
    cpu_s: float
    server_s: float  # of CPU
    others_s: float  # of CPU, that is what else ran on this machine
    connections: int


@dataclass(frozen=True)
class Server:
    """The photo server, from outside."""

    port: int

    def urls(self, num: int) -> list[str]:
        """As many different ones."""
        return [f"http://127.0.0.1:{self.port}/p/{number}.jpg" for number in range(num)]

    def ask(self, path: str) -> dict:
        """Its answer to /_reset or /_stats."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.load(answer)


@contextlib.contextmanager
def serving(photos: Path) -> Iterator[Server]:
    """The server, until the end of the block."""
    command = [sys.executable, Path(__file__).with_name("photo_server.py"), photos, "--latency-s", str(LATENCY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield Server(int(process.stdout.readline()))  # type: ignore[union-attr]
        finally:
            process.kill()


def ours(server: Server, num: int, folder: Path) -> Run:
    """The download stage from the command line, on a manifest written by hand."""
    with tempfile.TemporaryDirectory(prefix="ours-", dir=folder) as root:
        write_manifest(Path(root), server.urls(num))
        command = [sys.executable, "-m", "aitax_ray.cli", "download", "--root", root, *OURS]
        run = measure(command, server, num, folder)
        counts = json.loads((Path(root) / "images" / "report.json").read_text("utf-8"))["counts"]
        expect("ours", counts["ok"], num)
    return run


def theirs(server: Server, num: int, folder: Path, python: Path, shard_size: int) -> Run:
    """img2dataset from the command line."""
    with tempfile.TemporaryDirectory(prefix="theirs-", dir=folder) as name:
        urls, output = Path(name) / "urls.txt", Path(name) / "output"
        urls.write_text("\n".join(server.urls(num)), "utf-8")
        command = [python, python.parent / "img2dataset", urls, "--output_folder", output, *THEIRS]
        run = measure([*command, "--number_sample_per_shard", shard_size], server, num, folder, THEIR_ENVIRONMENT)
        stats = [json.loads(path.read_text("utf-8")) for path in output.glob("*_stats.json")]
        expect("img2dataset", sum(one["successes"] for one in stats), num)
    return run


def expect(who: str, stored: int, num: int) -> None:
    """End the benchmark when photographs are missing."""
    if stored != num:
        raise SystemExit(f"{who} stored {stored:,} of {num:,} photographs")


class ManifestSettings(StageSettings):
    """What the download stage reads of the manifest's settings."""

    photos: str = ""


def write_manifest(root: Path, urls: Sequence[str]) -> None:
    """Write what the manifest stage leaves: URLs of three species, an occurrence each."""
    rows = sorted((image_id(url), url) for url in urls)
    blank = {pa.string(): "", pa.bool_(): False, pa.int64(): 0, pa.int32(): 0}

    def work() -> Outcome:
        for part, start in enumerate(range(0, len(rows), MANIFEST_ROWS)):
            ids, links = zip(*rows[start : start + MANIFEST_ROWS], strict=True)
            known = {
                "image_id": ids,
                "url": links,
                "gbif_id": [f"g{start + n}" for n in range(len(ids))],
                "species_key": [f"s{n % 3}" for n in range(len(ids))],
            }
            columns = [
                pa.array(known.get(field.name, [blank.get(field.type, [])] * len(ids)), field.type) for field in MEDIA
            ]
            table = pa.table(columns, schema=MEDIA)
            Storage(str(root)).write_table(f"manifest/media/part-{part:05}.parquet", table)
        return Outcome()

    Workspace(str(root)).run("manifest", ManifestSettings(root=str(root)), (), work)


def measure(
    command: Sequence[object], server: Server, num: int, folder: Path, environment: dict[str, str] | None = None
) -> Run:
    """Run a command to its end, in a folder without settings, and ask the server what it saw of it."""
    server.ask("/_reset")
    peak, cpu_s, busy_s = 0, dict[int, float](), busy()
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env=os.environ | (environment or {}),
        )
        try:
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_EVERY_S)
                    break
                peak = max(peak, look(process.pid, cpu_s))
        finally:
            process.kill()
        wall_s, busy_s = time.perf_counter() - begin, busy() - busy_s
        if process.returncode:
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{text[-2000:]}")
    stats = server.ask("/_stats")
    expect("the server answered more or less than was asked for: it", len(stats["seconds"]), num)
    first, last = num // 10, num - num // 10 - 1
    steady = (last - first) / (stats["seconds"][last] - stats["seconds"][first])
    own_s, server_s = sum(cpu_s.values()), stats["cpu_s"]
    return Run(wall_s, steady, peak, own_s, server_s, busy_s - own_s - server_s, stats["most"])


def busy() -> float:
    """Seconds of CPU that this machine has spent on anything."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + times.irq + times.softirq


def look(pid: int, cpu_s: dict[int, float]) -> int:
    """Bytes that a process and all below it hold; also notes what CPU each has taken by now."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # they may end at any moment
        top = psutil.Process(pid)
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
                cpu_s[process.pid] = sum(process.cpu_times()[:2])
    return total


def limit(photos: Sequence[Path]) -> tuple[float, float]:
    """What processes that bring photographs to their one form, one on each core, reach with nothing else to do.

    Photographs a second of all together, and seconds of CPU for one.
    """
    spawn, num = multiprocessing.get_context("spawn"), os.cpu_count() or 1
    with spawn.Pool(num, _meet, (spawn.Barrier(num),)) as pool:
        rates, costs = zip(*pool.map(_decode, [photos] * num, chunksize=1), strict=True)
    return sum(rates), statistics.mean(costs)


def _meet(barrier: Barrier) -> None:
    barrier.wait()


def _decode(photos: Sequence[Path]) -> tuple[float, float]:
    bodies, done = [path.read_bytes() for path in photos], 0
    begin, begin_s = time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - begin) < LIMIT_S:
        assert isinstance(normalize(bodies[done % len(bodies)], IMAGE_SIZE), Photo)
        done += 1
    return done / seconds, (time.process_time() - begin_s) / done


def peer_python(folder: Path) -> Path:
    """A Python that has img2dataset."""
    venv.create(folder / "peer", with_pip=True)
    python = folder / "peer" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return python


def row(name: str, run: Run) -> str:
    """A line of the table."""
    return (
        f"{name:<28} {run.steady:>8.1f} {run.wall_s:>8.1f} {run.bytes / 1e6:>10,.0f} {run.cpu_s:>8.1f} "
        f"{run.server_s:>8.1f} {run.others_s:>8.1f} {run.connections:>11}"
    )


def median(runs: Sequence[Run]) -> Run:
    """Of each figure, that is."""
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in Run.__annotations__))


def main() -> None:
    """Measure, print a line for each run, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--growth", type=int, default=60_000, help="URLs of a larger run of ours, 0 for none")
    parser.add_argument("--shards", type=int, nargs="*", default=[500, 1_000], help="sizes that img2dataset tries")
    parser.add_argument("--repeats", type=int, default=1, help="of all sides in turn; the medians count")
    parser.add_argument("--peer", type=Path, help="a Python that has img2dataset")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitax-bench-") as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        photos = make_photos(folder / "photos", NUM_PHOTOS)
        sizes = [path.stat().st_size / 1e3 for path in photos]
        report(
            f"{given.requests:,} photographs of {WIDTH}x{HEIGHT} px and {min(sizes):.0f} to {max(sizes):.0f} KB, "
            f"{LATENCY_S * 1e3:.0f} ms latency, {os.cpu_count()} cores"
        )
        python = (given.peer or peer_python(folder)) if given.shards else Path()
        limits, mine = list[float](), list[Run]()
        peers: dict[int, list[Run]] = {size: [] for size in given.shards}
        with serving(folder / "photos") as server:
            report(f"{'':<28} images/s   wall s  memory MB    CPU s   server   others connections")
            for _ in range(given.repeats):
                for size, runs in peers.items():
                    runs.append(theirs(server, given.requests, folder, python, size))
                    report(row(f"img2dataset, shards of {size:,}", runs[-1]))
                before, _ = limit(photos)  # and after: the machine may be slower while others work on it
                mine.append(ours(server, given.requests, folder))
                report(row("ours", mine[-1]))
                after, cost_s = limit(photos)
                limits.append((before + after) / 2)
                report(f"{'decoding alone':<28} {limits[-1]:>8.1f} {'':>8} {'':>10} {cost_s * given.requests:>8.1f}")
            us, them = median(mine), [median(runs) for runs in peers.values()]
            if them:
                report(
                    f"ours to img2dataset's best: {us.steady / max(run.steady for run in them):.2f} times the images/s "
                    f"in the steady state, {min(run.wall_s for run in them) / us.wall_s:.2f} times as fast in wall time"
                )
            report(f"ours to the limit: {us.steady / statistics.median(limits):.0%}")
            if given.growth:
                grown = ours(server, given.growth, folder)
                report(row(f"ours, {given.growth:,}", grown))
                report(
                    f"{given.growth / given.requests:g} times the URLs: {grown.wall_s / us.wall_s:.1f} times as long, "
                    f"{grown.bytes / us.bytes:.2f} times the memory"
                )


def report(line: str) -> None:
    """Print at once: a run takes a minute."""
    print(line, flush=True)  # noqa: T201  a benchmark reports


if __name__ == "__main__":
    main()
