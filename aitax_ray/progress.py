"""Progress of long work: a bar on a terminal, a log line now and then everywhere else."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Report that `by` more units are done; `note` says in a few words how it goes."""

    def __call__(self, by: int, note: str = "") -> None: ...


@contextlib.contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how many of `total` units of `what` are done; a total of 0 means that it is not known.

    Yields the function that reports progress.
    """
    if not sys.stderr.isatty():
        log_line = _LogLine(what, total, unit)
        try:
            yield log_line.advance
        finally:
            log_line.write()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    note = TextColumn("[dim]{task.fields[note]}")
    with Progress(*columns, TimeRemainingColumn(), note, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total or None, note="")

        def advance(by: int, note: str = "") -> None:
            bars.update(task, advance=by, note=note)

        yield advance


class _LogLine:
    """Logs how far the work is: now and then, and when it ends or fails."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._unit = what, f" of {total:,} {unit}" if total else f" {unit}"
        self._done = self._logged = 0
        self._note, self._begin = "", time.monotonic()
        self._last = self._begin

    def advance(self, by: int, note: str = "") -> None:
        self._done, self._note = self._done + by, note
        if time.monotonic() >= self._last + LOG_EVERY_S:
            self.write()

    def write(self) -> None:
        """Log what has been done since the last line; nothing when that is nothing."""
        if self._done == self._logged:
            return
        self._logged, self._last = self._done, time.monotonic()
        rate = self._done / max(self._last - self._begin, 1e-9)
        note = f" ({self._note})" if self._note else ""
        log.info("%s: %s%s, %.1f a second%s", self._what, f"{self._done:,}", self._unit, rate, note)
