"""jobs/: `ray job submit` of stages, as docs/cluster.md says, to a head that asks for a token."""

import json
import re
from pathlib import Path

import pytest

from tests.head import Head
from tests.images.test_download import fates, write_manifest
from tests.web import Web

pytestmark = pytest.mark.ray
NUM_PHOTOGRAPHS = 12
FLAGS = ["--allow-private-hosts", "--image-size", "64", "--num-actors", "1", "--per-host", "2"]
# Lines that Ray writes around those of the stage.
OF_RAY = re.compile(
    r"^$|Runtime env is setting up|^Running entrypoint|WebSocket closed|cli\.py|sdk\.py|packaging\.py"
    r"|^Job submission server|^Status message:|^-+$|^Job '"
)


def lines_of(log: str) -> list[str]:
    """The lines of a job's log that are not about the job itself."""
    return [line for line in log.splitlines() if not OF_RAY.search(line)]


def test_a_job_that_was_stopped_goes_on_when_it_is_submitted_again(cluster: Head, web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(NUM_PHOTOGRAPHS)]
    write_manifest(tmp_path, urls)
    web.hold_after(3)
    command = ["python", "-m", "jobs.download", "--root", tmp_path, *FLAGS]
    name = ("--submission-id", "first", "--no-wait")
    submitted = cluster.submit(*command, options=name)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert web.wait_until(lambda server: server.requests.total() > 3, timeout_s=300)
    assert cluster.job("stop", "first").returncode == 0
    stopped = cluster.job("logs", "first").stdout
    assert "aitax: stopped; the same command goes on from here" in stopped
    web.release()

    again = cluster.submit(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    log = lines_of(again.stdout)
    assert any("continuing where an earlier run stopped" in line for line in log), log
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in log), "lines that are not the stage's"
    assert list(fates(tmp_path).values()) == ["ok"] * NUM_PHOTOGRAPHS


def test_a_job_that_fails_says_why_in_one_line(cluster: Head, tmp_path: Path) -> None:
    done = cluster.submit("python", "-m", "jobs.split", "--root", tmp_path)
    assert done.returncode == 1
    log = lines_of(done.stdout)
    why = f"aitax: nothing complete from `download` under {tmp_path}: run `aitax download --root {tmp_path}` first"
    assert why in log
    assert "Traceback" not in done.stdout


def test_a_dry_run_says_what_the_cluster_lacks(cluster: Head, tmp_path: Path) -> None:
    done = cluster.aitax("train", "--root", tmp_path, "--num-workers", "40", "--no-use-gpu", "--dry-run")
    assert done.returncode == 1
    asks, has = done.stdout.splitlines()
    assert asks.endswith("41 CPUs, 0 GPUs")
    assert has.startswith("the cluster has 4 CPUs, 0 GPUs")
    assert done.stderr.splitlines()[-1].startswith("aitax: train would wait until the cluster grows")


def test_the_doctor_finds_the_cluster_well_and_says_what_a_user_without_token_lacks(
    cluster: Head, tmp_path: Path
) -> None:
    done = cluster.aitax("doctor", "--json", "--root", tmp_path)
    found = {one["area"]: one for one in json.loads(done.stdout)}
    assert {name: found[name]["level"] for name in ("cluster", "dashboard", "token", "jobs", "versions")} == {
        **{"cluster": "ok", "dashboard": "ok", "token": "ok", "jobs": "ok", "versions": "ok"}
    }, found
    refused = cluster.aitax("doctor", "--json", RAY_ADDRESS=cluster.dashboard, RAY_AUTH_MODE="disabled")
    assert refused.returncode == 1
    broken = {one["area"]: one for one in json.loads(refused.stdout)}["dashboard"]
    assert "HTTP 401" in broken["text"]
    assert "export RAY_AUTH_MODE=token" in broken["remedy"]


def test_a_token_is_all_that_a_user_needs(cluster: Head) -> None:
    """RAY_JOB_HEADERS, which older guides name, is not set here."""
    assert "RAY_JOB_HEADERS" not in cluster.environment
    assert cluster.job("list").returncode == 0
    refused = cluster.job("list", RAY_AUTH_MODE="disabled")
    assert refused.returncode != 0
