import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aitax_ray.errors import AitaxError
from aitax_ray.training import distributed
from aitax_ray.training.distributed import (
    CHECKPOINT,
    KEPT_SNAPSHOT,
    RUN,
    RUNS,
    SNAPSHOT,
    fit,
    fits_in_memory,
    keep_snapshot,
    mend_snapshot,
)
from aitax_ray.training.history import write_history
from aitax_ray.workspace import Workspace
from tests.small import train_settings

GOOD = {"epoch": 1, "train_loss": 0.4, "loss": 0.3}


def fit_with(root: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Call `fit` with a fake trainer instead of Ray Train's."""
    monkeypatch.setattr(distributed, "_make_trainer", lambda *_: SimpleNamespace(fit=trainer))
    return fit(Workspace(str(root)), train_settings(root), {"lr": 0.02}, {})


def write_rows(root: Path, *rows: dict[str, Any]) -> None:
    write_history(Workspace(str(root)).storage, list(rows))


class Stored:
    """A checkpoint in a folder."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self.folder = folder / str(epoch)
        self.folder.mkdir()
        torch.save({"epoch": epoch, "history": []}, self.folder / CHECKPOINT)

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        yield str(self.folder)


def test_photographs_fit_into_memory_when_they_fit_into_that_of_the_smallest_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def node(store: float, alive: bool = True) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {"object_store_memory": store}}

    nodes = [node(100e9), node(4e9), node(1e9, alive=False)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    one = 256 * 256 * 3 * 1.4
    for num_workers, share in ((1, 0.15), (6, 0.15), (20, 0.05)):
        assert fits_in_memory(int(0.99 * share * 4e9 / one), 256, num_workers)
        assert not fits_in_memory(int(1.01 * share * 4e9 / one), 256, num_workers)


def test_a_worker_that_fails_ends_the_run_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train import WorkerGroupError

    def fail() -> None:
        raise WorkerGroupError("worker 1:\nRuntimeError: out of memory", {1: RuntimeError("out of memory")})

    with pytest.raises(AitaxError, match=r"training failed \(.*out of memory\): the same command continues"):
        fit_with(tmp_path, fail, monkeypatch)


def test_a_full_disk_ends_the_run_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train import WorkerGroupError

    def fail() -> None:
        text = "OSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
        raise WorkerGroupError(text, {0: OSError(text)})

    with pytest.raises(
        AitaxError, match=r"make room in .*/model/runs, or .* of the node, and the same command continues"
    ):
        fit_with(tmp_path, fail, monkeypatch)


@pytest.mark.parametrize("broken", [b"", b'{"checkpoint_results": [{"check'])
def test_a_broken_list_of_checkpoints_is_replaced_by_its_copy(tmp_path: Path, broken: bytes) -> None:
    storage = Workspace(str(tmp_path)).storage
    mend_snapshot(storage)  # there is none before the first epoch
    good = json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_1"}]}).encode()
    storage.write_bytes(f"{RUNS}/{RUN}/checkpoint_1/{CHECKPOINT}", b"")
    storage.write_bytes(SNAPSHOT, good)
    keep_snapshot(storage)
    storage.write_bytes(SNAPSHOT, broken)
    keep_snapshot(storage)
    mend_snapshot(storage)
    assert storage.read_bytes(SNAPSHOT) == storage.read_bytes(KEPT_SNAPSHOT) == good


@pytest.mark.parametrize(
    "kept",
    [
        b'{"checkpoint_results": [{"checkpoint_dir_name": "deleted"}]}',
        b'{"checkpoint_results": [{"check',
        b'{"checkpoint_results": [{}]}',
        b"{}",
        b"null",
        bytes(100),
        b"",
    ],
)
def test_training_starts_over_when_the_copy_cannot_be_used_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: bytes
) -> None:
    storage = Workspace(str(tmp_path)).storage
    storage.write_bytes(KEPT_SNAPSHOT, kept)
    storage.write_bytes(SNAPSHOT, b"")
    mend_snapshot(storage)
    assert not storage.exists(SNAPSHOT)
    assert "training starts over" in caplog.text


@pytest.mark.parametrize("num_good", [0, 3])
def test_a_run_that_diverged_is_an_error_that_names_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_good: int
) -> None:
    write_rows(tmp_path, *[GOOD] * num_good, {"epoch": num_good + 1, "train_loss": None})
    result = SimpleNamespace(best_checkpoints=[], checkpoint=None)
    message = rf"diverged in epoch {num_good + 1}: with the learning rate 0\.02 .* try a lower one, such as --lr 0\.002"
    with pytest.raises(AitaxError, match=message):
        fit_with(tmp_path, lambda: result, monkeypatch)


def test_the_best_checkpoint_is_taken_and_the_history_is_that_of_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = [(Stored(tmp_path, n), {"selection": score}) for n, score in ((1, 0.2), (2, 0.9), (3, -0.5))]
    write_rows(tmp_path, GOOD, GOOD, GOOD)
    result = SimpleNamespace(best_checkpoints=checkpoints, checkpoint=checkpoints[2][0])
    assert fit_with(tmp_path, lambda: result, monkeypatch) == {"epoch": 2, "history": [GOOD] * 3}
    result.best_checkpoints = []
    assert fit_with(tmp_path, lambda: result, monkeypatch)["epoch"] == 3
