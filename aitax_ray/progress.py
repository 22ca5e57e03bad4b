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
    """Show how far `what` is. Yields `advance(by, note)`, `by` in units, `note` a few words on how it goes."""
    if not sys.stderr.isatty():
        yield _logging_advance(what, total, unit)
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
        task = bars.add_task(what, total=total, note="")

        def advance(by: int, note: str = "") -> None:
            bars.update(task, advance=by, note=note)

        yield advance


def _logging_advance(what: str, total: int, unit: str) -> Advance:
    done, begin = 0, time.monotonic()
    last = begin

    def advance(by: int, note: str = "") -> None:
        nonlocal done, last
        done += by
        now = time.monotonic()
        if now - last >= LOG_EVERY_S or done == total:
            last = now
            rate = done / max(now - begin, 1e-9)
            log.info(
                "%s: %s of %s %s, %.1f a second%s",
                what,
                f"{done:,}",
                f"{total:,}",
                unit,
                rate,
                f" ({note})" if note else "",
            )

    return advance
