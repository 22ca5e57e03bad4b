"""The download on a cluster of two nodes, both on this machine, with a worker on each."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aitax_ray.errors import ClusterError
from aitax_ray.images.distributed import batch_settings, check_photos_folder, host_limits, nodes_that_lack
from aitax_ray.images.limits import OVERRIDES, HostLimit
from tests.images.test_download import fates, settings, stored, write_manifest
from tests.web import Web

# Reads the settings of a download from each line of stdin, and answers "done" when it is complete.
TWO_NODES = """
import json, sys, ray
from ray.cluster_utils import Cluster
from tests.images.test_download import settings
from aitax_ray.images import distributed
from aitax_ray.images.download import download
node = {"object_store_memory": 100 * 2**20}
# The head has room for both workers and what feeds them, since a test takes the other node away: a worker that found no
# place would keep its batches for ever.
cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 5, "include_dashboard": False})
cluster.add_node(**node, num_cpus=3)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
distributed.CPUS_PER_ACTOR = 1.6
distributed.BATCH_SIZE, distributed.BATCHES_PER_ACTOR = 8, 2  # so that one worker cannot take all
for line in sys.stdin:
    download(settings(**json.loads(line)))
    print("done", flush=True)
ray.shutdown()
cluster.shutdown()
"""


class TwoNodes:
    """A program that runs downloads on a cluster of two nodes."""

    def __init__(self, driver: "subprocess.Popen[str]", errors: Path) -> None:
        self.driver, self.errors = driver, errors

    def begin(self, root: Path, **changes: Any) -> None:
        """Begin a download."""
        assert self.driver.stdin is not None
        self.driver.stdin.write(json.dumps({"root": str(root), "num_actors": 2, "per_host": 3, **changes}) + "\n")
        self.driver.stdin.flush()

    def finish(self) -> None:
        """Wait until it is complete."""
        assert self.driver.stdout is not None
        # Ray writes lines of its own to stdout.
        assert any(line == "done\n" for line in self.driver.stdout), self.errors.read_text()


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """One cluster for all tests that need two nodes. The last of them kills a node."""
    errors = tmp_path_factory.mktemp("two_nodes") / "stderr"
    with (
        errors.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-c", TWO_NODES],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as driver,
    ):
        try:
            yield TwoNodes(driver, errors)
        finally:
            driver.kill()


def test_each_host_has_its_limit_and_gbif_is_asked_one_at_a_time() -> None:
    given = settings("root", per_host=3, per_host_rate=2.0, host_limits=["A.org=5/7.5"], fallback="image-cache")
    limits = host_limits(given)
    assert limits.of("b.org") == HostLimit(3, 2.0)
    assert limits.of("a.org") == HostLimit(5, 7.5)
    assert limits.of("api.gbif.org").concurrent == 1
    assert {host: limits.of(host) for host in OVERRIDES} == OVERRIDES


def test_workers_of_a_node_share_its_requests() -> None:
    given = settings("root", concurrency=64)
    assert [batch_settings(given, "r", workers, None).concurrency for workers in (1, 4, 5, 100)] == [64, 16, 12, 1]


@pytest.mark.parametrize(
    ("missing", "lacking"),
    [
        ({"a": 0}, []),
        ({"a": 0, "b": 0}, []),
        ({"a": 0, "b": None}, ["b lacks the folder"]),
        ({"a": None}, ["a lacks the folder"]),
        ({"a": 0, "b": 16, "c": 2}, ["b lacks 16 of 16 photographs in it", "c lacks 2 of 16 photographs in it"]),
        ({"a": 3, "b": 3}, []),  # no node has them: these are really gone
    ],
)
def test_nodes_without_the_photographs_are_named(missing: dict[str, int | None], lacking: list[str]) -> None:
    assert nodes_that_lack(missing, 16) == lacking


@pytest.mark.usefixtures("ray_session")
def test_a_folder_that_a_node_lacks_is_refused_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    with pytest.raises(ClusterError, match=rf"{folder} is not on every node: .* lacks the folder\. Put it on storage"):
        check_photos_folder(str(folder), [(folder / "a.jpg").as_uri()])
    folder.mkdir()
    check_photos_folder(str(folder), [(folder / "a.jpg").as_uri()])


@pytest.mark.ray
def test_limits_hold_for_two_nodes_together(web: Web, tmp_path: Path, two_nodes: TwoNodes) -> None:
    urls = [web.url(f"/slow/0.15/{n}", host) for n in range(60) for host in ("127.0.0.1", "localhost")]
    write_manifest(tmp_path, urls)
    two_nodes.begin(tmp_path, per_host_rate=15, shard_size=16)
    two_nodes.finish()
    assert stored(tmp_path) == Counter(urls)
    workers = {path.stem.split("-")[-2] for path in tmp_path.glob("images/*.parquet") if path.stem[-7] == "-"}
    assert len(workers) == 2  # both nodes' had a part
    for host in ("127.0.0.1", "localhost"):
        assert web.hosts[host].requests == 60
        assert web.hosts[host].peak <= 3
        # On its way a request may come nearer to the one before it: one of each worker.
        assert web.peak_rate(host) <= 15 + len(workers)


@pytest.mark.ray
def test_killed_workers_and_nodes_cost_time_and_nothing_else(web: Web, tmp_path: Path, two_nodes: TwoNodes) -> None:
    urls = [web.url(f"/slow/0.1/{n}") for n in range(80)]
    write_manifest(tmp_path, urls)
    two_nodes.begin(tmp_path, per_host_rate=15)
    assert web.wait_until(lambda w: w.requests.total() >= 20, 180), two_nodes.errors.read_text()
    below = psutil.Process(two_nodes.driver.pid).children(recursive=True)
    workers = [process for process in below if process.name().startswith("ray::MapWorker")]
    raylets = sorted((p for p in below if p.name() == "raylet"), key=lambda process: process.create_time())
    assert (len(workers), len(raylets)) == (2, 2)
    head = {process.pid for process in raylets[0].children(recursive=True)}
    (on_head,) = (process for process in workers if process.pid in head)
    on_head.kill()
    assert web.wait_until(lambda w: w.requests.total() >= 40, 180)
    raylets[1].kill()
    two_nodes.finish()
    assert stored(tmp_path) == Counter(urls)
    assert set(fates(tmp_path).values()) == {"ok"}
    # Fetched twice was at most what was under way, or not yet on storage, when a worker was killed.
    assert web.requests.total() <= 80 + 2 * (4 + 3)
