import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray.progress import LOG_EVERY_S
from aitax_ray.training import curves
from aitax_ray.training.curves import DRAW_EVERY_S, Watch, draw_curves, report_steps, watching
from aitax_ray.training.history import write_history
from aitax_ray.workspace import Workspace

FIGURES = {"train_loss": 1.2, "train_top1": 0.4, "loss": 1.1, "top1": 0.5, "top5": 0.9, "macro_top1": 0.45, "lr": 1e-3}


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def history(num: int, **changes: object) -> list[dict[str, object]]:
    return [{"epoch": epoch + 1, **FIGURES, "loss": 1.1 - 0.1 * epoch, **changes} for epoch in range(num)]


def drawn(rows: list[dict[str, object]]) -> np.ndarray:
    image = Image.open(io.BytesIO(draw_curves(rows)))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_curves_show_the_epochs() -> None:
    one, five = drawn(history(1)), drawn(history(5))
    assert one.shape == five.shape
    assert not np.array_equal(one, five)


def test_curves_can_be_drawn_without_validation_figures() -> None:
    nothing = dict.fromkeys(("loss", "top1", "top5", "macro_top1"))
    assert not np.array_equal(drawn(history(3, **nothing)), drawn(history(3)))


def test_the_best_epoch_and_the_learning_rate_are_drawn() -> None:
    rows = history(3)
    plain, other = drawn(rows), drawn([row | {"top1": 0.1 * (row["epoch"] == 1)} for row in rows])
    assert not np.array_equal(plain, other)
    assert drawn(rows).shape[1] > drawn([{k: v for k, v in row.items() if k != "lr"} for row in rows]).shape[1]


def test_curves_of_a_run_without_any_figure_can_be_drawn() -> None:
    assert drawn([{"epoch": 1}]).any()


def test_each_epoch_is_logged_once_and_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ws = Workspace(str(tmp_path))
    with caplog.at_level(logging.INFO, "aitax_ray.training.curves"), watching(ws):
        write_history(ws.storage, history(2, top1=None))
    titles, first, second = (record.message.split()[:3] for record in caplog.records)
    assert titles == ["epoch", "train", "loss"]
    assert (first, second) == (["1", "1.200", "1.100"], ["2", "1.200", "1.000"])
    assert ws.storage.read_bytes("model/curves.png") == draw_curves(history(2, top1=None))


def test_a_run_that_fails_or_is_stopped_shows_its_epochs(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))

    def stop(*epochs: int) -> None:
        with watching(ws):
            for epoch in epochs:
                write_history(ws.storage, history(epoch))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not ws.storage.exists("model/curves.png")
    with pytest.raises(KeyboardInterrupt):
        stop(1, 2, 3)
    assert ws.storage.read_bytes("model/curves.png") == draw_curves(history(3))


def test_curves_are_drawn_at_intervals_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(curves, "time", clock)
    monkeypatch.setattr(curves, "draw_curves", lambda rows, _: f"curves of {len(rows)}".encode())
    ws = Workspace(str(tmp_path))
    watch, shown = Watch(ws), []
    for epoch in range(1, 6):
        write_history(ws.storage, history(epoch))
        watch.look(last=epoch == 5)
        shown.append(int(ws.storage.read_bytes("model/curves.png")[-1:]))
        clock.now += DRAW_EVERY_S / 2
    assert shown == [1, 1, 3, 3, 5]


def test_the_way_to_compute_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aitax_ray.training.curves")
    ws = Workspace(str(tmp_path))
    watch = Watch(ws)
    watch.look()
    ws.storage.write_json(curves.EXECUTION, "float32, channels last, not compiled")
    watch.look()
    watch.look()
    ws.storage.delete("model/runs")
    watch.look()
    assert caplog.messages == ["computing with float32, channels last, not compiled"]


def test_each_stored_step_of_an_epoch_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(curves, "time", clock)
    caplog.set_level(logging.INFO, "aitax_ray.training.curves")
    ws = Workspace(str(tmp_path))
    watch, passed = Watch(ws), []
    for batch in report_steps(range(100, 1350), ws, epoch=1, num_steps=1250):
        passed.append(batch)
        watch.look()
        clock.now += LOG_EVERY_S / 512
    assert passed == list(range(100, 1350))
    assert caplog.messages == ["epoch 2: step 512 of 1,250", "epoch 2: step 1,024 of 1,250"]
    Watch(ws).look()  # as after an interruption
    write_history(ws.storage, history(2))
    watch.look()
    assert [message.split()[0] for message in caplog.messages[2:]] == ["epoch", "1", "2"]
