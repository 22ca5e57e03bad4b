import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.training import trackers
from aitax_ray.training.trackers import CURVES, IDS, TENSORBOARD, tracking
from aitax_ray.workspace import Workspace

ROWS = [
    {"epoch": n + 1, "train_loss": 1.0 - 0.1 * n, "loss": None if n == 1 else 0.9, "is_best": n == 2} for n in range(3)
]
SETTINGS = {"arch": "resnet18", "epochs": 3}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace(str(tmp_path / "anura"))
    ws.storage.write_bytes(CURVES, b"PNG")
    return ws


def read_tensorboard(folder: Path) -> list[tuple[str, int, float]]:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    points = []
    for file in folder.iterdir():
        content, at = file.read_bytes(), 0
        while at < len(content):  # length, its checksum, the record, its checksum
            length = int.from_bytes(content[at : at + 8], "little")
            record = content[at + 12 : at + 12 + length]
            assert masked_crc32c(record) == int.from_bytes(content[at + 12 + length : at + 16 + length], "little")
            event = Event.FromString(record)
            points += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return points


def test_tensorboard_has_the_figures_of_each_epoch(ws: Workspace) -> None:
    for _ in range(2):  # a run that continues logs all earlier epochs first
        with tracking(ws, (), SETTINGS) as opened:
            for row in ROWS:
                opened.log(row)
    points = read_tensorboard(Path(ws.root, TENSORBOARD))
    assert sorted((tag, step) for tag, step, _ in points) == [
        ("train/loss", 1), ("train/loss", 2), ("train/loss", 3), ("val/loss", 1), ("val/loss", 3)
    ]  # fmt: skip
    assert {(tag, step): value for tag, step, value in points}["train/loss", 2] == pytest.approx(0.9)


def log_one_and_stop(ws: Workspace) -> None:
    with tracking(ws, ("mlflow",), SETTINGS) as opened:
        opened.log(ROWS[0])
        raise KeyboardInterrupt


def test_mlflow_has_settings_figures_and_curves_in_one_run(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with pytest.raises(KeyboardInterrupt):
        log_one_and_stop(ws)
    with tracking(ws, ("mlflow",), SETTINGS) as opened:
        for row in ROWS:  # a run that goes on begins with all earlier epochs
            opened.log(row)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("aitax_ray")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("anura", "FINISHED")
    assert run.data.params == {"arch": "resnet18", "epochs": "3"}
    points = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.9), (3, 0.8)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["curves.png"]


def test_weights_and_biases_continue_a_run(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses a fake of the package, which is not installed for the tests."""
    calls: list[Any] = []

    def init(**given: Any) -> Any:
        calls.append(("init", given["id"], given["project"], given["resume"], given["config"]))
        return SimpleNamespace(
            id="abc",
            log=lambda figures, step: calls.append(("log", step, figures)),
            save=lambda path, **_: calls.append(("save", Path(path).name)),
            finish=lambda exit_code: calls.append(("finish", exit_code)),
        )

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    for row in ROWS[:2]:
        with tracking(ws, ("wandb",), SETTINGS) as opened:
            opened.log(row)
    assert [call for call in calls if call[0] == "init"] == [
        ("init", None, "aitax_ray", "allow", SETTINGS),
        ("init", "abc", "aitax_ray", "allow", SETTINGS),
    ]
    assert [call for call in calls if call[0] == "log"] == [
        ("log", 1, {"train_loss": 1.0, "loss": 0.9}),
        ("log", 2, {"train_loss": 0.9}),
    ]
    assert calls[-2:] == [("save", "curves.png"), ("finish", 0)]
    assert ws.storage.read_json(IDS) == {"wandb": "abc"}


class Broken:
    run_id = "1"

    def __init__(self, *_: object) -> None:
        self.calls = 0

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        raise ConnectionError("the server is away")

    def end(self, is_complete: bool, files: Sequence[Path]) -> None:
        raise AssertionError("it was left out")


def test_a_tracker_that_fails_is_left_out_and_ends_nothing(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(trackers.EXTERNAL, "mlflow", Broken)
    with tracking(ws, ("mlflow",), SETTINGS) as opened:
        for row in ROWS:
            opened.log(row)
    assert caplog.messages == ["training continues without mlflow, which failed: the server is away"]
    assert len(read_tensorboard(Path(ws.root, TENSORBOARD))) == 5


def test_a_tracker_that_cannot_begin_is_left_out(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> Broken:
        raise ConnectionError("no route")

    monkeypatch.setitem(trackers.EXTERNAL, "wandb", refuse)
    with tracking(ws, ("wandb",), SETTINGS) as opened:
        opened.log(ROWS[0])
    assert caplog.messages == ["training starts without wandb, which failed: no route"]


def test_a_package_that_is_not_installed_is_named(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = r"--track wandb needs a package: pip install 'aitax-ray\[wandb\]'"
    with pytest.raises(SettingsError, match=message), tracking(ws, ("wandb",), SETTINGS):
        pytest.fail("nothing can be tracked")
