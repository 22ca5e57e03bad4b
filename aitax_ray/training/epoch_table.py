"""The epochs of a run as a table with one line per epoch, for a terminal and for a log file."""

import math
from typing import Any

Row = dict[str, Any]

# The columns: key in a row, title, number format. A column is as wide as its title, and at least 7 characters.
COLUMNS = (
    ("epoch", "epoch", "d"),
    ("penalty", "penalty", ".1e"),
    ("scale", "scale", ".0f"),
    ("train_loss", "train loss", ".3f"),
    ("loss", "val loss", ".3f"),
    ("top1", "top-1", ".3f"),
    ("macro_top1", "macro top-1", ".3f"),
    ("top5", "top-5", ".3f"),
    ("lr", "learning rate", ".1e"),
    ("images_per_s", "photos/s", ".0f"),
    ("wait_share", "waiting", ".1%"),
)
UNKNOWN = "-"


class EpochTable:
    """Makes the lines of the table."""

    def __init__(self, num_epochs: int | None = None) -> None:
        """Take the number of epochs, to compute the remaining time; None when it is not known."""
        self._num_epochs = num_epochs
        self._columns: tuple[tuple[str, str, str], ...] = ()

    def lines(self, row: Row, is_best: bool, seconds: list[float]) -> list[str]:
        """Make the line of an epoch. For the first epoch, make a line with the titles before it.

        `is_best` marks the best epoch so far. `seconds` has the duration of each epoch.
        """
        lines = []
        if not self._columns:
            self._columns = tuple(column for column in COLUMNS if column[0] in row)
            lines.append("  ".join([*(_wide(title, title) for _, title, _ in self._columns), *self._time_titles(row)]))
        values = [_wide(_written(row.get(name), form), title) for name, title, form in self._columns]
        lines.append("  ".join([*values, *self._times(row, seconds)]) + (" *" if is_best else ""))
        return lines

    def _time_titles(self, row: Row) -> list[str]:
        return [_wide(title, title) for title in ("took", "left")] if "seconds" in row else []

    def _times(self, row: Row, seconds: list[float]) -> list[str]:
        if "seconds" not in row:
            return []
        left = UNKNOWN
        if self._num_epochs is not None:
            left = duration((self._num_epochs - len(seconds)) * sum(seconds) / len(seconds))
        return [_wide(duration(row["seconds"]), "took"), _wide(left, "left")]


def duration(seconds: float) -> str:
    """Write a duration: 45 s, 3:20, 2:03:20."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    minutes, rest = divmod(rounded, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _written(value: Any, form: str) -> str:
    return UNKNOWN if value is None or not math.isfinite(value) else format(value, form)


def _wide(text: str, title: str) -> str:
    return text.rjust(max(7, len(title)))
