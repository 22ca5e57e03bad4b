"""All stages with ROOT on S3, each killed in the middle, with a server that fails: `python -m tests.faults.s3`.

The server is moto's, on loopback (tests/s3.py). A small world of invented species is built into engines under four
roots: on the local disk; on S3; on S3 with three times as many photographs; and on S3 where every tenth request fails,
five in a row every 60, and each command is killed with SIGKILL at half of the requests that it took before, then given
again. The results must be equal. It prints a table in Markdown and exits with 1 if something differs. `--outage` adds
a command whose storage is gone in the middle and stays away. It takes about half an hour on two cores.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from aitax_ray import workspace
from aitax_ray.demo.server import serve_world
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import DOI, build_world, unseen_photo
from aitax_ray.index.shards import read_rows
from aitax_ray.storage import Storage
from tests.s3 import BUCKET, S3, serving_s3, share

AITAX = [sys.executable, "-m", "aitax_ray.cli"]
NUM_SPECIES, FEWEST, MOST, TIMES = 4, 14, 20, 3
KINDS = ("GET", "HEAD", "LIST", "PUT", "POST", "DELETE")
TIMEOUT_S = 900


@dataclass
class Run:
    """A command that ran: requests by kind, seconds, and what it printed."""

    requests: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    out: str = ""


class FailedError(Exception):
    """A command, or a comparison."""


def commands(root: str, world: str, photo: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Give each command with its name; the last ones depend on what the earlier ones wrote."""

    def stage(name: str, *flags: str) -> tuple[str, Callable[[], list[str]]]:
        return name, lambda: [name, "--root", root, *flags]

    yield stage("manifest", "--doi", DOI, "--gbif-url", world)
    yield stage("download", "--allow-private-hosts", "--image-size", "128", "--shard-size", "16",
                "--host-limits", "127.0.0.1=16/1000")  # fmt: skip
    yield stage("split", "--min-images", "3")
    yield stage("train", "--recipe", "linear-probe", "--crop-size", "96")
    yield stage("index")
    yield stage("evaluate")
    yield stage("publish")
    yield "identify", lambda: ["identify", str(photo), "--engine", root, "--json", "--no-reject"]
    yield "takedown", lambda: ["takedown", "--root", root, "--url", withdrawn(root), "--requested-by", "its author",
                               "--purge"]  # fmt: skip
    yield "publish again", lambda: ["publish", "--root", root, "--force"]
    yield "engines list", lambda: ["engines", "list", "--root", root, "--json"]
    yield "engines rollback", lambda: ["engines", "rollback", "--root", root]


def withdrawn(root: str) -> str:
    """The photograph that is taken down: the first that training used."""
    rows = read_rows(Storage(root)).to_pylist()
    return str(min(row["url"] for row in rows))


class Runner:
    """Runs commands against the server."""

    def __init__(self, s3: S3, logs: Path) -> None:
        self.s3, self.logs = s3, logs

    def run(self, name: str, arguments: list[str], kill_at: int = 0) -> Run:
        """Run a command to its end, or until it has sent `kill_at` requests: then it is killed."""
        first, begin = len(self.s3.requests), time.monotonic()
        with (
            (self.logs / f"{len(list(self.logs.iterdir())):03d}-{name.replace(' ', '-')}.log").open("wb") as log,
            subprocess.Popen(
                [*AITAX, *arguments], stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd=self.logs
            ) as process,
        ):

            def watch(number: int) -> None:
                if kill_at and number - first >= kill_at:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

            self.s3.watch = watch
            try:
                out, _ = process.communicate(timeout=TIMEOUT_S)
            finally:
                self.s3.watch = lambda number: None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        ran = Run(self.s3.counts(first), time.monotonic() - begin, out.decode())
        if process.returncode and not (kill_at and process.returncode == -signal.SIGKILL):
            raise FailedError(f"{name}: exit status {process.returncode}\n{Path(log.name).read_text()[-3000:]}")
        return ran


def results(root: str) -> dict[str, Any]:
    """What the stages made under a root, without the moments, versions and addresses that differ from run to run."""
    storage = Storage(root)

    def rows(path: str, columns: list[str]) -> list[Any]:
        found = pl.from_arrow(storage.read_table(path, columns))
        assert isinstance(found, pl.DataFrame)
        return found.sort(columns[0]).rows()

    metrics = storage.read_json(workspace.EVALUATION)
    embeddings: Any = pl.concat(
        [pl.from_arrow(storage.read_table(file.path)) for file in storage.files(workspace.EMBEDDINGS, ".parquet")]  # type: ignore[list-item]
    )
    return {
        "media": rows(workspace.MEDIA, ["image_id", "gbif_id", "species_key"]),
        "photographs": rows(workspace.IMAGES, ["image_id", "jpeg_sha256"]),
        "ledger": rows(workspace.LEDGER, ["image_id", "status"]),
        "split": rows(workspace.SPLIT, ["image_id", "split", "class_index"]),
        "metrics": {name: metrics[name] for name in ("top1", "top5") if name in metrics},
        "embeddings": embeddings.sort("image_id")["image_id"].to_list(),
        "vectors": np.stack(embeddings.sort("image_id")["embedding"].to_list()),
        "index": sorted(row["image_id"] for row in read_rows(storage).to_pylist()),
        "engines": len(storage.entries(workspace.ENGINES)),
    }


def answers(run: Run) -> list[tuple[str, float]]:
    """The species and scores of `identify --json`."""
    return [(result["name"], result["score"]) for result in json.loads(run.out)["results"]]


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Name the results that differ. Vectors and figures may differ as much as arithmetic in another order does."""
    names = []
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            same = value.shape == found[name].shape and np.allclose(value, found[name], atol=1e-3)
        elif isinstance(value, dict):
            same = all(abs(value[key] - found[name][key]) <= 0.05 for key in value)
        else:
            same = value == found[name]
        names += [] if same else [name]
    return names


def build(
    runner: Runner, root: str, world: str, photo: Path, halves: Mapping[str, int] | None = None
) -> dict[str, list[Run]]:
    """Run all commands; with `halves` each is killed at that request and then given again."""
    done: dict[str, list[Run]] = {}
    for name, arguments in commands(root, world, photo):
        words = arguments()
        done[name] = []
        if halves is not None:
            done[name].append(runner.run(name, words, kill_at=halves[name]))
        done[name].append(runner.run(name, words))
        sys.stderr.write(f"{root}: {name}: {[(round(r.seconds), dict(r.requests)) for r in done[name]]}\n")
    return done


@contextlib.contextmanager
def world(folder: Path, times: int) -> Iterator[str]:
    """Serve a generated GBIF with its photographs."""
    with serve_world(folder) as address:
        build_world(folder, num_species=NUM_SPECIES, fewest=times * FEWEST, most=times * MOST, base_url=address)
        yield address


def table(
    plain: Mapping[str, list[Run]],
    larger: Mapping[str, list[Run]],
    hit: Mapping[str, list[Run]],
    faults: Mapping[str, int],
) -> str:
    """Requests per command and kind, `plain/larger`; and those of the disturbed runs, killed and continued."""
    lines = [f"| command | {' | '.join(KINDS)} | killed at, then |", "|---" * (len(KINDS) + 2) + "|"]
    for name, runs in plain.items():
        cells = [f"{runs[-1].requests.get(kind, 0)} / {larger[name][-1].requests.get(kind, 0)}" for kind in KINDS]
        then = ", ".join(str(sum(run.requests.values())) for run in hit[name])
        lines.append(f"| {name} | {' | '.join(cells)} | {then} |")
    return "\n".join([*lines, "", f"faults: {dict(faults)}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--outage", action="store_true", help="also take the storage away in the middle of a command")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aitax-s3-") as temp, contextlib.ExitStack() as stack:
        folder = Path(temp)
        (folder / "logs").mkdir()
        s3 = stack.enter_context(serving_s3())
        os.environ |= s3.environment()
        runner = Runner(s3, folder / "logs")
        photo = folder / "unseen.jpg"
        photo.write_bytes(unseen_photo(SPECIES[0], seed=5))
        small = stack.enter_context(world(folder / "small", 1))
        large = stack.enter_context(world(folder / "large", TIMES))
        plain = build(runner, f"s3://{BUCKET}/plain", small, photo)
        s3.choose = share(10, 60)
        first = len(s3.requests)
        halves = {name: sum(runs[-1].requests.values()) // 2 for name, runs in plain.items()}
        hit = build(runner, f"s3://{BUCKET}/hit", small, photo, halves)
        s3.choose, last = (lambda number: ""), len(s3.requests)
        local = build(runner, str(folder / "local"), small, photo)
        larger = build(runner, f"s3://{BUCKET}/larger", large, photo)
        faults: dict[str, int] = {}
        for _, _, fault in s3.requests[first:last]:
            faults[fault or "none"] = faults.get(fault or "none", 0) + 1
        sys.stdout.write(table(plain, larger, hit, faults) + "\n")
        expected = results(str(folder / "local"))
        wrong = []
        for name, built in (("plain", plain), ("hit", hit)):
            wrong += [f"{name}: {part}" for part in differences(expected, results(f"s3://{BUCKET}/{name}"))]
            pairs = zip(answers(local["identify"][-1]), answers(built["identify"][-1]), strict=True)
            wrong += [f"{name}: identify"] if any(a[0] != b[0] or abs(a[1] - b[1]) > 0.02 for a, b in pairs) else []
        if given.outage:
            start = len(s3.requests)
            s3.choose = lambda number: "throttle" if number - start > 5 else ""
            try:
                runner.run("outage", ["index", "--root", f"s3://{BUCKET}/plain", "--force"])
                wrong.append("a command succeeded without its storage")
            except FailedError as error:
                sys.stdout.write(f"{error}\n")
                if "the same command goes on" not in str(error) or "Traceback" in str(error):
                    wrong.append("the error of an outage does not say what to do")
        sys.stdout.write(f"differences: {wrong or 'none'}\n")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
