"""The complete `train` stage on the tiny root: killed once, then trained to the end by two workers."""

import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from aitax_ray import workspace
from aitax_ray.errors import ArchitectureError, MissingArtifactError, SettingsError
from aitax_ray.training import distributed, onnx
from aitax_ray.training.history import read_history
from aitax_ray.training.predict import read_classifier
from aitax_ray.training.train import train
from aitax_ray.workspace import Workspace
from tests.small import ARCH, CROP, EPOCHS, KEYS, SIDES, train_settings, write_model, write_root

HELD_EPOCH = 2  # counted from 0


def train_and_hold(config: dict[str, Any]) -> None:
    """The worker of the run that is killed: it marks the rows of its epochs, and waits for ever in HELD_EPOCH."""
    from aitax_ray.training import distributed
    from aitax_ray.training.loop import Learner

    train_epoch = Learner.train_epoch

    def train_or_hold(learner: Any, batches: Any, epoch: int, num_steps: int) -> dict[str, float]:
        if epoch == HELD_EPOCH:
            threading.Event().wait()
        return {**train_epoch(learner, batches, epoch, num_steps), "is_of_first_run": 1.0}

    Learner.train_epoch = train_or_hold  # type: ignore[method-assign]
    Path(config["root"], "pid").write_text(str(os.getpid()))
    distributed.train_loop_per_worker(config)


DRIVER = """
import logging, sys
from tests.training.test_train import train_and_hold
from tests.small import train_settings
from aitax_ray.training import distributed
from aitax_ray.training.train import train
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
distributed.train_loop_per_worker = train_and_hold
train(train_settings(sys.argv[1], num_workers=1))
"""


def read_lines(process: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """Read the lines that a process writes, for at most `seconds`."""
    deadline = threading.Timer(seconds, process.kill)
    deadline.start()
    assert process.stdout
    yield from process.stdout
    deadline.cancel()


@dataclass(frozen=True)
class Trained:
    """A root on which training was killed, and trained to its end by the same command."""

    root: Path
    lines: list[str]  # the log of the killed run
    worker_ended: bool  # within 30 s of the kill
    history: list[dict[str, Any]]  # as the killed run left it
    was_complete: bool


@pytest.fixture(scope="module")
def trained(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train with one worker, kill the driver in HELD_EPOCH, train to the end with two workers."""
    import ray

    root = tmp_path_factory.mktemp("train") / "root"
    ws = write_root(root)
    address = ray.get_runtime_context().gcs_address  # the fixture's Ray, to save starting another one
    lines, worker_ended = [], False
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(root)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as driver:
        for line in read_lines(driver, 240):
            lines.append(line)
            if re.search(rf"curves: +{HELD_EPOCH} +\d", line):  # the epoch's line of the table
                worker = os.pidfd_open(int((root / "pid").read_text()))
                driver.kill()
                worker_ended = bool(select.select([worker], [], [], 30)[0])
                os.close(worker)
    history = read_history(ws.storage)
    was_complete = ws.report("train") is not None
    train(train_settings(root, num_workers=2))
    return Trained(root, lines, worker_ended, history, was_complete)


@pytest.fixture
def root(trained: Trained) -> Path:
    return trained.root


def test_after_a_kill_the_same_command_goes_on(trained: Trained) -> None:
    assert [row["epoch"] for row in trained.history] == list(range(1, HELD_EPOCH + 1)), trained.lines
    assert trained.worker_ended, "the worker of a killed run still runs"
    assert not trained.was_complete
    after = read_history(Workspace(str(trained.root)).storage)
    # It continues after the first or the second epoch: Ray may not have registered the last checkpoint.
    assert after[0] == trained.history[0]
    assert after[0]["is_of_first_run"]
    assert not any("is_of_first_run" in row for row in after[HELD_EPOCH:])


def test_training_leaves_weights_their_description_figures_and_curves(root: Path) -> None:
    ws = Workspace(str(root))
    report = ws.require("train")
    history = read_history(ws.storage)
    assert [row["epoch"] for row in history] == list(range(1, EPOCHS + 1))
    assert all({"train_loss", "train_top1", "lr", "loss", "top1", "top5", "macro_top1"} <= set(row) for row in history)
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
    history = read_history(ws.storage)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert ws.require("train").metrics["top1"] >= 0.8


def test_a_second_run_does_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / "model").rglob("*")}
    # A change of resources does not make the stage stale.
    again = train(train_settings(root, num_workers=1, max_failures=0))
    assert again == Workspace(str(root)).report("train")
    assert {path: path.stat().st_mtime_ns for path in (root / "model").rglob("*")} == before


@pytest.mark.parametrize("place", ["", "/", "/model", "/model/weights.safetensors"])
def test_the_model_that_a_run_would_overwrite_is_no_start(tmp_path: Path, place: str) -> None:
    write_model(write_root(tmp_path))
    with pytest.raises(SettingsError, match=r"overwrites: start from .*/engines/VERSION/classifier\.safetensors"):
        train(train_settings(tmp_path, weights=f"{tmp_path}{place}"))
    assert (tmp_path / workspace.WEIGHTS).is_file()


def test_what_cannot_be_exported_is_refused_before_it_is_trained(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ArchitectureError("cannot be exported")

    write_root(tmp_path)
    monkeypatch.setattr(onnx, "export_onnx", refuse)
    monkeypatch.setattr(distributed, "fit", lambda *_: pytest.fail("it is trained"))
    with pytest.raises(ArchitectureError, match="cannot be exported"):
        train(train_settings(tmp_path))


def test_a_missing_split_names_the_command_that_makes_it(tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    ws.clear("split")
    with pytest.raises(MissingArtifactError, match="aitax split"):
        train(train_settings(tmp_path))


def test_weights_that_cannot_be_had_cost_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path, ["train", "val"])
    write_model(ws)
    before = ws.storage.read_bytes(workspace.WEIGHTS)

    def fail(*_: object) -> None:
        raise ArchitectureError("the hub is away")

    monkeypatch.setattr("aitax_ray.training.weights.start_classifier", fail)
    with pytest.raises(ArchitectureError, match="the hub is away"):
        train(train_settings(tmp_path, force=True))
    assert ws.storage.read_bytes(workspace.WEIGHTS) == before
    assert ws.report("train") is not None
