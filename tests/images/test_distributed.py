"""The download on a cluster of two nodes, both on this machine, each with room for one worker."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil

from aitax_ray.images.distributed import host_limits
from aitax_ray.images.limits import OVERRIDES, HostLimit
from tests.images.test_download import fates, settings, stored, write_manifest
from tests.web import Web

TWO_NODES = """
import sys, ray
from ray.cluster_utils import Cluster
from tests.images.test_download import settings
from aitax_ray.images import distributed
from aitax_ray.images import distributed
from aitax_ray.images.download import download
node = {"num_cpus": 3, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
distributed.CPUS_PER_ACTOR = 1.6
distributed.BATCH_SIZE, distributed.BATCHES_PER_ACTOR = 8, 2  # so that one worker cannot take all
download(settings(sys.argv[1], num_actors=2, per_host=3, per_host_rate=15))
ray.shutdown()
cluster.shutdown()
"""


def test_each_host_has_its_limit_and_gbif_is_asked_one_at_a_time() -> None:
    given = settings("root", per_host=3, per_host_rate=2.0, host_limits=["A.org=5/7.5"], fallback="image-cache")
    limits = host_limits(given)
    assert limits.of("b.org") == HostLimit(3, 2.0)
    assert limits.of("a.org") == HostLimit(5, 7.5)
    assert limits.of("api.gbif.org").concurrent == 1
    assert {host: limits.of(host) for host in OVERRIDES} == OVERRIDES


def test_limits_hold_for_two_nodes_together(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/slow/0.15/{n}", host) for n in range(100) for host in ("127.0.0.1", "localhost")]
    write_manifest(tmp_path, urls)
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path) == Counter(urls)
    workers = {path.stem.split("-")[-2] for path in tmp_path.glob("images/*.parquet")}
    assert len(workers) == 2  # both nodes' had a part
    for host in ("127.0.0.1", "localhost"):
        assert web.hosts[host].requests == 100
        assert web.hosts[host].peak <= 3
        # On its way a request may come nearer to the one before it: one of each worker.
        assert web.peak_rate(host) <= 15 + len(workers)


def test_killed_workers_and_nodes_cost_time_and_nothing_else(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/slow/0.1/{n}") for n in range(80)]
    write_manifest(tmp_path, urls)
    with subprocess.Popen(
        [sys.executable, "-c", TWO_NODES, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        try:
            assert web.wait_until(lambda w: w.requests.total() >= 20, 180)
            below = psutil.Process(driver.pid).children(recursive=True)
            workers = [process for process in below if process.name().startswith("ray::MapWorker")]
            raylets = sorted((p for p in below if p.name() == "raylet"), key=lambda process: process.create_time())
            assert (len(workers), len(raylets)) == (2, 2)
            head = {process.pid for process in raylets[0].children(recursive=True)}
            (on_head,) = (process for process in workers if process.pid in head)
            on_head.kill()
            assert web.wait_until(lambda w: w.requests.total() >= 40, 180)
            raylets[1].kill()
            assert driver.wait(300) == 0, driver.communicate()[1]
        finally:
            driver.kill()
    assert stored(tmp_path) == Counter(urls)
    assert set(fates(tmp_path).values()) == {"ok"}
    # Fetched twice was at most what was under way, or not yet on storage, when a worker was killed.
    assert web.requests.total() <= 80 + 2 * (4 + 3)
