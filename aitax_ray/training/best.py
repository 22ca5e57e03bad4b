"""Decides which epoch is the best one, and when to stop."""

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from aitax_ray.training.settings import TrainSettings

Row = dict[str, Any]
SelectBy = Literal["top1", "macro_top1", "loss"]


def should_stop(history: list[Row], settings: "TrainSettings") -> bool:
    """Whether to stop before the last epoch: the time is over, or the last epochs were not better.

    All workers get the same answer, since they have the same history.
    """
    if settings.max_minutes and sum(row["seconds"] for row in history) >= 60 * settings.max_minutes:
        return True
    scores = [selection(row, settings.select_by) for row in history]
    return bool(settings.stop_after and scores and len(scores) - 1 - scores.index(max(scores)) >= settings.stop_after)


def best_epoch(history: list[Row], select_by: SelectBy = "top1") -> Row | None:
    """Find the best row, the first one of equals; None when no row has a score."""
    marked = [row for row in history if row.get("is_best")]
    if any("is_best" in row for row in history):
        return marked[-1] if marked else None
    scored = [row for row in history if row.get("train_loss") is not None and "top1" in row]
    return max(scored, key=lambda row: selection(row, select_by), default=None)


def is_better(row: Row, other: Row, select_by: SelectBy = "top1") -> bool:
    """Whether a row is better than another one on val; False without validation photographs."""
    if row["top1"] is None or other["top1"] is None:
        return False
    return selection(row, select_by) > selection(other, select_by)


def selection(row: Row, select_by: SelectBy = "top1") -> float:
    """Score an epoch by a figure on val; of equal ones the lower loss wins. Without val the last epoch is the best.

    An epoch whose validation loss is not a finite number is worse than all others.
    """
    if row["top1"] is None:
        return float(row["epoch"])
    if row["loss"] is None or not math.isfinite(row["loss"]):
        return float(row["top1"]) - 1
    by_loss = 1 / (1 + float(row["loss"]))
    return by_loss if select_by == "loss" else float(row[select_by]) + 1e-6 * by_loss
