"""Training on a cluster of two nodes, both on this machine, of which a worker and then a node is killed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aitax_ray.training.history import read_history
from aitax_ray.workspace import Workspace
from tests.small import KEYS, write_root

NUM_EPOCHS = 8
# Trains in the root that each line of stdin names, and answers "done". The head node has room for both workers and for
# decoding, because the test removes the other node.
TWO_NODES = """
import json, os, sys
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
import ray
from ray.cluster_utils import Cluster
from aitax_ray.training.train import train
from tests.small import train_settings
node = {"object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 4, "include_dashboard": False})
cluster.add_node(**node, num_cpus=2)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
for line in sys.stdin:
    train(train_settings(line.strip(), num_workers=2, cpus_per_worker=1, epochs=EPOCHS))
    print("done", flush=True)
ray.shutdown()
cluster.shutdown()
""".replace("EPOCHS", str(NUM_EPOCHS))


@pytest.fixture(scope="module")
def driver() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def begin(driver: "subprocess.Popen[str]", root: Path) -> None:
    assert driver.stdin is not None
    driver.stdin.write(f"{root}\n")
    driver.stdin.flush()


def finish(driver: "subprocess.Popen[str]", seconds: float = 240) -> None:
    assert driver.stdout is not None
    deadline = threading.Timer(seconds, driver.kill)
    deadline.start()
    assert any(line == "done\n" for line in driver.stdout), "the training did not end"  # Ray writes lines of its own
    deadline.cancel()


def history(root: Path) -> list[dict[str, Any]]:
    ws = Workspace(str(root))
    return read_history(ws.storage)


def wait_for_epoch(root: Path, number: int, driver: "subprocess.Popen[str]") -> None:
    looks = threading.Event()
    for _ in range(1200):
        if len(history(root)) >= number or driver.poll() is not None:
            break
        looks.wait(0.1)
    assert len(history(root)) >= number


def processes(driver: "subprocess.Popen[str]", name: str) -> list[psutil.Process]:
    below = psutil.Process(driver.pid).children(recursive=True)
    return sorted((p for p in below if name in p.name()), key=lambda process: process.create_time())


@pytest.mark.ray
def test_a_killed_worker_and_a_killed_node_change_no_figure(driver: "subprocess.Popen[str]", tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for root in (undisturbed, disturbed):
        write_root(root)
    begin(driver, undisturbed)
    finish(driver)
    begin(driver, disturbed)
    wait_for_epoch(disturbed, 2, driver)
    killed = processes(driver, "RayTrainWorker")
    assert len(killed) == 2
    killed[0].kill()
    wait_for_epoch(disturbed, 4, driver)
    assert not {process.pid for process in killed} & {process.pid for process in processes(driver, "RayTrainWorker")}
    head, other = processes(driver, "raylet")
    assert head.is_running()
    other.kill()
    finish(driver)
    expected, found = history(undisturbed), history(disturbed)
    assert [row["epoch"] for row in found] == list(range(1, NUM_EPOCHS + 1))
    figures = ("train_loss", "train_top1", "loss", "top1", "macro_top1", "lr")
    for one, other_row in zip(expected, found, strict=True):
        assert [other_row[name] for name in figures] == pytest.approx([one[name] for name in figures], rel=1e-3)
    ws = Workspace(str(disturbed))
    assert ws.require("train").counts["species"] == len(KEYS)
    assert not (disturbed / "model/runs").exists()
