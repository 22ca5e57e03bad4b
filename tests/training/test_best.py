import math
from typing import Any

import pytest

from aitax_ray.training.best import is_better, selection, should_stop
from tests.small import train_settings


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_an_epoch_without_a_validation_loss_comes_after_all_others(loss: float | None) -> None:
    row = {"epoch": 4, "top1": 1.0, "loss": loss}
    assert selection(row) < selection({"epoch": 1, "top1": 0.01, "loss": 900.0})
    assert selection(row) > selection({**row, "top1": 0.5})


def test_the_better_validation_loss_decides_between_equal_epochs() -> None:
    assert selection({"epoch": 1, "top1": 0.5, "loss": 0.2}) > selection({"epoch": 2, "top1": 0.5, "loss": 0.3})
    assert selection({"epoch": 1, "top1": 0.5, "loss": 0.2}) < selection({"epoch": 2, "top1": 0.6, "loss": 9.0})


def test_the_figure_to_select_by_decides() -> None:
    rows = [
        {"epoch": 1, "top1": 0.9, "macro_top1": 0.5, "loss": 0.8},
        {"epoch": 2, "top1": 0.8, "macro_top1": 0.6, "loss": 0.9},
        {"epoch": 3, "top1": 0.7, "macro_top1": 0.4, "loss": 0.7},
    ]
    best = {by: max(rows, key=lambda row, by=by: selection(row, by))["epoch"] for by in ("top1", "macro_top1", "loss")}  # type: ignore[misc]
    assert best == {"top1": 1, "macro_top1": 2, "loss": 3}
    broken = {"epoch": 4, "top1": 1.0, "macro_top1": 1.0, "loss": None}
    assert selection(broken, "loss") < min(selection(row, "loss") for row in rows)


def history(*top1: float | None) -> list[dict[str, Any]]:
    return [{"epoch": n, "top1": v, "loss": None if v is None else 1.0, "seconds": 30.0} for n, v in enumerate(top1, 1)]


def test_a_run_stops_after_some_epochs_without_a_better_one() -> None:
    settings = train_settings("r", stop_after=2)
    assert not should_stop([], settings)
    assert not should_stop(history(0.5, 0.4), settings)
    assert should_stop(history(0.5, 0.4, 0.5), settings)
    assert not should_stop(history(0.5, 0.4, 0.6), settings)
    assert not should_stop(history(0.5, 0.4, 0.5, 0.4), train_settings("r", stop_after=0))
    assert not should_stop(history(None, None, None, None), settings)


def test_a_run_stops_when_its_time_is_over() -> None:
    settings = train_settings("r", max_minutes=1)
    assert not should_stop(history(0.5), settings)
    assert should_stop(history(0.5, 0.6), settings)


@pytest.mark.parametrize(
    ("row", "other", "better"),
    [
        ({"top1": 0.9, "loss": 0.5}, {"top1": 0.8, "loss": 0.1}, True),
        ({"top1": 0.8, "loss": 0.5}, {"top1": 0.8, "loss": 0.5}, False),
        ({"top1": None, "loss": None, "epoch": 3}, {"top1": 0.1, "loss": 9.0}, False),
        ({"top1": 0.9, "loss": 0.1}, {"top1": None, "loss": None, "epoch": 1}, False),
    ],
)
def test_a_row_is_better_only_where_both_were_validated(
    row: dict[str, Any], other: dict[str, Any], better: bool
) -> None:
    assert is_better(row, other) is better
