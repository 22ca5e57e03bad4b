"""All stages with ROOT on S3: requests counted, each command killed in the middle, a server that fails, an outage.

`python -m tests.faults.s3 [--folder FOLDER] [ROOT ...]`. The server is moto's, on loopback (tests/s3.py). A small world
of invented species is built into an engine under each of these roots, by the same commands:

    local     on the local disk
    plain     on S3
    larger    on S3, with three times as many photographs
    killed    on S3 where every tenth request fails, and five in a row every 60; each command is killed with SIGKILL at
              half of the requests that it took under `plain`, then given again
    outage    on S3 that is gone from this half on; each command must say what to do; given again when S3 is back

At last a service on the engine of `plain` must follow `current`. The results must equal those of `local`. It prints a
table in Markdown and exits with 1 if something differs. With `--folder` everything is kept there after each command,
and the same call goes on after the last one. It takes an hour or more on two cores.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from aitax_ray import workspace
from aitax_ray.demo.server import serve_world
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import DOI, build_world, unseen_photo
from aitax_ray.index.shards import read_rows
from aitax_ray.storage import Storage
from aitax_ray.training.predict import as_matrix
from tests.commands import AITAX, running
from tests.head import PATIENT
from tests.s3 import BUCKET, S3, serving_s3, share

ROOTS = ("local", "plain", "larger", "killed", "outage")
NUM_SPECIES, FEWEST, MOST, TIMES = 4, 14, 20, 3
KINDS = ("GET", "HEAD", "LIST", "PUT", "POST", "DELETE")
LAST = "engines rollback"
TIMEOUT_S = 900
IDLE_S = 60


@dataclass
class Run:
    """A command that ran: requests by kind, seconds, what it printed, its exit status, and requests by fault."""

    requests: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    out: str = ""
    log: str = ""
    status: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of requests."""
        return sum(self.requests.values())


class FailedError(Exception):
    """A command that did not do what it should."""


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
    yield LAST, lambda: ["engines", "rollback", versions(root)[0], "--root", root]


def withdrawn(root: str) -> str:
    """The photograph that is taken down: the first in the index."""
    return str(min(read_rows(Storage(root))["url"].to_pylist()))


def versions(root: str) -> list[str]:
    """The published engines, the oldest first."""
    storage = Storage(root)
    found = storage.files(workspace.ENGINES, "/engine.json")
    return [file.path.split("/")[1] for file in found]


class Runner:
    """Runs commands against the server."""

    def __init__(self, s3: S3, logs: Path) -> None:
        self.s3, self.logs = s3, logs

    def run(self, name: str, arguments: list[str], kill_at: int = 0) -> Run:
        """Run a command to its end, or until it has sent `kill_at` requests: then it is killed."""
        first, begin = len(self.s3.requests), time.monotonic()
        path = self.logs / f"{len(list(self.logs.glob('*.log'))):03d}-{name.replace(' ', '-')}.log"
        with (
            path.open("wb") as log,
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
        requests = self.s3.requests[first:]
        path.with_suffix(".requests").write_text("".join(" ".join(request).strip() + "\n" for request in requests))
        return Run(
            dict(Counter(kind for kind, _, _ in requests)),
            time.monotonic() - begin,
            out.decode(),
            path.read_text()[-5000:],
            process.returncode,
            dict(Counter(fault for _, _, fault in requests if fault)),
        )

    def run_well(self, name: str, arguments: list[str]) -> Run:
        """Run a command that must succeed."""
        ran = self.run(name, arguments)
        if ran.status:
            raise FailedError(f"{name}: exit status {ran.status}\n{ran.log}")
        return ran

    def run_killed(self, name: str, arguments: list[str], half: int) -> list[Run]:
        """Kill a command after `half` requests, then give it again, while requests fail."""
        self.s3.choose = share(10, 60)
        try:
            ran = self.run(name, arguments, kill_at=half)
            if ran.status not in (0, -signal.SIGKILL):
                raise FailedError(f"{name}: exit status {ran.status} before it was killed\n{ran.log}")
            return [ran, self.run_well(name, arguments)]
        finally:
            self.s3.choose = lambda number: ""

    def run_outage(self, name: str, arguments: list[str], half: int) -> list[Run]:
        """Take the storage away after `half` requests. The command says what to do; then it is given again."""
        first = len(self.s3.requests)
        self.s3.choose = lambda number: "throttle" if number - first >= half else ""
        try:
            ran = self.run(name, arguments)
        finally:
            self.s3.choose = lambda number: ""
        last = ran.log.strip().split("\n")[-1]
        if ran.status != 1 or "s3://" not in last or "the same command goes on" not in last or "Traceback" in ran.log:
            raise FailedError(f"{name}: exit status {ran.status} in an outage, and the end of its log is\n{ran.log}")
        sys.stdout.write(f"{name}, in an outage: {last}\n")
        return [ran, self.run_well(name, arguments)]


class Work:
    """The commands that have run, by root; with the world and the objects on S3, so that a later call goes on."""

    def __init__(self, folder: Path, runner: Runner, worlds: Sequence[str], done: dict[str, Any]) -> None:
        self.folder, self.runner, self.worlds = folder, runner, worlds
        self.done: dict[str, dict[str, list[Run]]] = {
            root: {name: [Run(**run) for run in runs] for name, runs in runs_of.items()}
            for root, runs_of in done.items()
        }
        for root in self.done.keys() - {"local"}:
            Storage(f"s3://{BUCKET}").upload(folder / "s3" / root, root)

    def address(self, root: str) -> str:
        """The root as commands are given it."""
        return str(self.folder / root) if root == "local" else f"s3://{BUCKET}/{root}"

    def build(self, root: str, photo: Path) -> None:
        """Run the commands that have not run."""
        done = self.done.setdefault(root, {})
        for name, arguments in commands(self.address(root), self.worlds[root == "larger"], photo):
            if name in done:
                continue
            words = arguments()
            match root:
                case "killed" | "outage":
                    half = self.done["plain"][name][-1].total // 2
                    disturbed = self.runner.run_killed if root == "killed" else self.runner.run_outage
                    runs = disturbed(name, words, half)
                case _:
                    runs = [self.runner.run_well(name, words)]
            done[name] = runs
            self.save(root)
            sys.stdout.write(f"{root}: {name}: {[(round(r.seconds), dict(r.requests)) for r in runs]}\n")

    def save(self, root: str) -> None:
        """Keep what there is for a later call."""
        if root != "local":
            target = self.folder / "s3" / root
            new = target.with_name(".new")
            shutil.rmtree(new, ignore_errors=True)
            Storage(f"s3://{BUCKET}").fetch(root, new)
            shutil.rmtree(target, ignore_errors=True)
            new.rename(target)
        kept = {root: {name: [asdict(r) for r in runs] for name, runs in c.items()} for root, c in self.done.items()}
        (self.folder / "done.json").write_text(json.dumps(kept))


def results(root: str) -> dict[str, Any]:
    """What the stages made under a root, without the moments, versions and addresses that differ from run to run."""
    storage = Storage(root)

    def rows(path: str, columns: list[str]) -> list[Any]:
        found = pl.from_arrow(storage.read_table(path, columns))
        assert isinstance(found, pl.DataFrame)
        return found.sort(columns[0]).rows()

    metrics = storage.read_json(workspace.EVALUATION)
    embeddings = storage.read_table(workspace.EMBEDDINGS).sort_by("image_id")
    return {
        "media": rows(workspace.MEDIA, ["image_id", "gbif_id", "species_key"]),
        "photographs": rows(workspace.IMAGES, ["image_id", "jpeg_sha256"]),
        "ledger": rows(workspace.LEDGER, ["image_id", "status"]),
        "split": rows(workspace.SPLIT, ["image_id", "split", "class_index"]),
        "metrics": {name: metrics[name] for name in ("top1", "top5") if name in metrics},
        "embeddings": embeddings["image_id"].to_pylist(),
        "vectors": as_matrix(embeddings["embedding"]),
        "index": sorted(read_rows(storage)["image_id"].to_pylist()),
        "engines": len(versions(root)),
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


def follows(work: Work, photo: Path) -> str:
    """Serve the engine of `plain` and make another version current; says what was seen. Raises FailedError."""
    root = work.address("plain")
    first, last = versions(root)[0], versions(root)[-1]
    with running("serve", "--engine", root, "--port", "0", cwd=work.folder) as service:
        with httpx.Client(base_url=service.wait_for(r"serving (http://\S+) ", TIMEOUT_S)[1], timeout=300) as client:
            start = len(work.runner.s3.requests)
            time.sleep(IDLE_S)
            idle = dict(work.runner.s3.counts(start))
            before = client.get("/status").json()["engine"]
            after = last if before == first else first
            work.runner.run_well("rollback", ["engines", "rollback", after, "--root", root])
            seen: list[tuple[int, str]] = []
            begin = time.monotonic()
            while not seen or (seen[-1] != (200, after) and time.monotonic() < begin + TIMEOUT_S):
                answer = client.post("/identify", files={"image": photo.read_bytes()})
                seen.append((answer.status_code, answer.json().get("engine")))
        service.interrupt()
    if {status for status, _ in seen} != {200} or {engine for _, engine in seen} != {before, after}:
        raise FailedError(f"service: {Counter(seen)}")
    return f"service: {idle} in {IDLE_S} s; {len(seen)} answers until it changed to the other engine"


@contextlib.contextmanager
def serving_world(folder: Path, times: int) -> Iterator[str]:
    """Serve a generated GBIF with its photographs, at the same address as in an earlier call."""
    port = folder / "port"
    with serve_world(folder, int(port.read_text()) if port.exists() else 0) as address:
        if not port.exists():
            build_world(folder, num_species=NUM_SPECIES, fewest=times * FEWEST, most=times * MOST, base_url=address)
            port.write_text(address.rpartition(":")[2])
        yield address


def table(done: Mapping[str, Mapping[str, list[Run]]]) -> str:
    """Requests per command and kind, `plain / larger`; and those of the disturbed commands, first and again."""
    lines = [f"| command | {' | '.join(KINDS)} | killed, then | outage, then |", "|---" * (len(KINDS) + 3) + "|"]
    for name in done.get("plain", ()):
        plain, larger, *disturbed = (done.get(root, {}).get(name) or [Run()] for root in ROOTS[1:])
        cells = [f"{plain[-1].requests.get(kind, 0)} / {larger[-1].requests.get(kind, 0)}" for kind in KINDS]
        cells += [", ".join(str(run.total) for run in runs) for runs in disturbed]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    faults: Counter[str] = Counter()
    for run in (run for runs in done.get("killed", {}).values() for run in runs):
        faults.update(run.faults)
    return "\n".join([*lines, "", f"faults under `killed`: {dict(faults)}"])


def compare(work: Work) -> list[str]:
    """Name what differs from `local`, once that is complete."""
    wrong: list[str] = []
    if LAST not in work.done.get("local", {}):
        return wrong
    expected, said = results(work.address("local")), answers(work.done["local"]["identify"][-1])
    for root in {root for root, done in work.done.items() if LAST in done} - {"local", "larger"}:
        wrong += [f"{root}: {part}" for part in differences(expected, results(work.address(root)))]
        found = answers(work.done[root]["identify"][-1])
        if any(a[0] != b[0] or abs(a[1] - b[1]) > 0.02 for a, b in zip(said, found, strict=True)):
            wrong.append(f"{root}: identify")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("roots", nargs="*", choices=[*ROOTS, "service"], help="default: all")
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on from what is here")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with contextlib.ExitStack() as stack:
        temp = stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-s3-"))
        folder = (given.folder or Path(temp)).absolute()
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        s3 = stack.enter_context(serving_s3())
        os.environ |= s3.environment() | PATIENT
        photo = folder / "unseen.jpg"
        photo.write_bytes(unseen_photo(SPECIES[0], seed=5))
        worlds = [stack.enter_context(serving_world(folder / name, n)) for name, n in (("small", 1), ("large", TIMES))]
        kept = folder / "done.json"
        work = Work(folder, Runner(s3, folder / "logs"), worlds, json.loads(kept.read_text()) if kept.exists() else {})
        for root in given.roots or [*ROOTS, "service"]:
            if root == "service":
                sys.stdout.write(follows(work, photo) + "\n")
            else:
                work.build(root, photo)
        wrong = compare(work)
        sys.stdout.write(f"{table(work.done)}\ndifferences: {wrong or 'none'}\n")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
