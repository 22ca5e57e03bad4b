"""The stage as a whole, on the tiny root, with two workers."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from aitax_ray import workspace
from aitax_ray.errors import MissingArtifactError
from aitax_ray.training.predict import read_classifier
from aitax_ray.training.train import train
from aitax_ray.workspace import Workspace
from tests.small import ARCH, CROP, EPOCHS, KEYS, SIDES, train_settings, trained, write_root

HELD_EPOCH = 3  # counted from 0


@pytest.fixture(scope="module")
def root(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory)


def test_training_leaves_weights_their_description_figures_and_curves(root: Path) -> None:
    ws = Workspace(str(root))
    report = ws.require("train")
    history = ws.storage.read_json(workspace.HISTORY)
    assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
    assert {"train_loss", "train_top1", "lr", "loss", "top1", "top5", "macro_top1"} < set(history[0])
    best = report.counts["best_epoch"]
    assert report.counts == {
        "species": 3,
        **{side: 3 * SIDES.count(side) for side in ("train", "val")},
        "epochs": EPOCHS,
        "best_epoch": best,
    }
    assert history[best - 1]["top1"] == max(row["top1"] for row in history)
    assert report.metrics == {name: history[best - 1][name] for name in ("top1", "top5", "macro_top1", "loss")}
    info, classifier = read_classifier(ws)
    assert (info.arch, info.classes, info.transform.crop_size) == (ARCH, KEYS, CROP)
    assert (info.epoch, info.embedding_size) == (best, classifier.embedding_size)
    assert set(load_file(root / workspace.WEIGHTS)) == set(classifier.state_dict())
    assert (root / "model/curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (root / "model/runs").exists()


def test_the_tiny_root_can_be_learned(root: Path) -> None:
    ws = Workspace(str(root))
    history = ws.storage.read_json(workspace.HISTORY)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert ws.require("train").metrics["top1"] >= 0.8


def test_a_second_run_does_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / "model").rglob("*")}
    # How the work is done makes nothing stale.
    again = train(train_settings(root, num_workers=1, max_failures=0))
    assert again == Workspace(str(root)).report("train")
    assert {path: path.stat().st_mtime_ns for path in (root / "model").rglob("*")} == before


def held(config: dict[str, Any]) -> None:
    """What a worker does in the run that is killed: it comes to HELD_EPOCH and no further."""
    from aitax_ray.training import distributed, loop

    go_on = loop.train_epoch

    def hold(*args: Any) -> dict[str, float]:
        if args[5] == HELD_EPOCH:
            threading.Event().wait()
        return go_on(*args)

    loop.train_epoch = hold
    Path(config["root"], "pid").write_text(str(os.getpid()))
    distributed.train_loop_per_worker(config)


DRIVER = """
import logging, sys
from tests.small import train_settings
from tests.training.test_train import held
from aitax_ray.training import distributed
from aitax_ray.training.train import train
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
distributed.train_loop_per_worker = held
train(train_settings(sys.argv[1], num_workers=1))
"""


def lines_until_dead(driver: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """What a process says, at most for so long."""
    deadline = threading.Timer(seconds, driver.kill)
    deadline.start()
    assert driver.stdout
    yield from driver.stdout
    deadline.cancel()


@pytest.mark.usefixtures("ray_session")
def test_after_a_kill_the_same_command_goes_on(tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    import ray

    address = ray.get_runtime_context().gcs_address  # that of the fixture's, which saves starting another
    said, worker = [], -1
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as driver:
        for line in lines_until_dead(driver, 240):
            said.append(line)
            if f"epoch {HELD_EPOCH}:" in line:
                worker = os.pidfd_open(int((tmp_path / "pid").read_text()))
                driver.kill()
    assert worker >= 0, said
    assert select.select([worker], [], [], 30)[0], "the workers of a killed run go on"
    os.close(worker)
    before = ws.storage.read_json(workspace.HISTORY)
    assert [row["epoch"] for row in before] == [1, 2, 3]
    assert ws.report("train") is None

    # With another number of workers, so that an epoch done again would not come to the same figures.
    report = train(train_settings(tmp_path, num_workers=2))
    after = ws.storage.read_json(workspace.HISTORY)
    assert [row["epoch"] for row in after] == list(range(1, EPOCHS + 1))
    # The last checkpoint may have been on its way.
    assert after[: HELD_EPOCH - 1] == before[: HELD_EPOCH - 1]
    assert report.counts["epochs"] == EPOCHS
    assert read_classifier(ws)[0].epoch == report.counts["best_epoch"]
    assert not (tmp_path / "model/runs").exists()


def test_a_missing_split_names_the_command_that_makes_it(tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    ws.clear("split")
    with pytest.raises(MissingArtifactError, match="aitax split"):
        train(train_settings(tmp_path))
