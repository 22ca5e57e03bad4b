"""Progress of long work: a bar where a person looks at a terminal, a log line now and then everywhere else."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Say that `by` more units are done, and in a few words how it goes."""

    def __call__(self, by: int, note: str = "") -> None: ...


@contextlib.contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how far `what` is, of `total` units; 0 is for a total that is not known.

    Yields `advance(by, note)`, `by` in units, `note` a few words on how it goes.
    """
    if not sys.stderr.isatty():
        log_line = _LogLine(what, total, unit)
        try:
            yield log_line.advance
        finally:
            log_line.tell()
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
    """Logs how far the work is, now and then and when it ends, wherever it ends."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._unit = what, f" of {total:,} {unit}" if total else f" {unit}"
        self._done = self._told = 0
        self._note, self._begin = "", time.monotonic()
        self._last = self._begin

    def advance(self, by: int, note: str = "") -> None:
        self._done, self._note = self._done + by, note
        if time.monotonic() >= self._last + LOG_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Log what has not been told yet."""
        if self._done == self._told:
            return
        self._told, self._last = self._done, time.monotonic()
        rate = self._done / max(self._last - self._begin, 1e-9)
        note = f" ({self._note})" if self._note else ""
        log.info("%s: %s%s, %.1f a second%s", self._what, f"{self._done:,}", self._unit, rate, note)
