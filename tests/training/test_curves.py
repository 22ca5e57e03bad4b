import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray import workspace
from aitax_ray.training.curves import draw_curves, watching
from aitax_ray.workspace import Workspace

FIGURES = {"train_loss": 1.2, "train_top1": 0.4, "loss": 1.1, "top1": 0.5, "top5": 0.9, "macro_top1": 0.45, "lr": 1e-3}


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


def test_curves_do_without_validation_figures() -> None:
    nothing = dict.fromkeys(("loss", "top1", "top5", "macro_top1"))
    assert not np.array_equal(drawn(history(3, **nothing)), drawn(history(3)))


def test_curves_of_a_run_without_any_figure_can_be_drawn() -> None:
    assert drawn([{"epoch": 1}]).any()


def test_each_epoch_is_logged_once_and_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ws = Workspace(str(tmp_path))
    with caplog.at_level(logging.INFO, "aitax_ray.training.curves"), watching(ws):
        ws.storage.write_json(workspace.HISTORY, history(2, top1=None))
    assert [record.message.split(":")[0] for record in caplog.records] == ["epoch 1", "epoch 2"]
    assert "loss 1.000" in caplog.records[1].message
    assert " top1" not in caplog.records[1].message
    assert " lr" not in caplog.records[1].message
    assert ws.storage.read_bytes("model/curves.png") == draw_curves(history(2, top1=None))


def test_a_run_that_fails_shows_what_it_came_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ws = Workspace(str(tmp_path))

    def fail() -> None:
        with watching(ws):
            raise RuntimeError("worker died")

    with pytest.raises(RuntimeError, match="worker died"):
        fail()
    assert not ws.storage.exists("model/curves.png")
