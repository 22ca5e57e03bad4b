"""Shows the progress of a training run: a table of epochs, log lines within an epoch, learning curves, trackers."""

import contextlib
import io
import json
import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from aitax_ray.errors import StorageError
from aitax_ray.progress import LOG_EVERY_S
from aitax_ray.training.best import Row, SelectBy, best_epoch
from aitax_ray.training.epoch_table import EpochTable
from aitax_ray.training.history import read_history
from aitax_ray.training.trackers import CURVES, Trackers
from aitax_ray.workspace import Workspace

DRAW_EVERY_S = 30.0  # not more often, because drawing takes about as long as a training step and uses the same cores
LOOK_EVERY_S, LOOK_AT_STORE_EVERY_S = 1.0, 10.0  # object stores charge for each request
STEP = "model/runs/step.json"  # the last step of the current epoch; deleted with the other files of the run
EXECUTION = "model/runs/execution.json"  # how the workers compute

log = logging.getLogger(__name__)


def draw_curves(history: list[Row], select_by: SelectBy = "top1") -> bytes:
    """Draw loss, accuracy and learning rate as a PNG. A vertical line marks the best epoch.

    `history` has a row per epoch. The curve of a figure has a gap where the figure is None.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    panels = [("loss", ("train_loss", "loss")), ("share of photographs", ("train_top1", "top1", "top5", "macro_top1"))]
    if any(row.get("lr") is not None for row in history):
        panels.append(("learning rate", ("lr",)))
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    best = best_epoch(history, select_by)
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in names:
            _draw(axes, history, name)
        if best is not None:
            axes.axvline(best["epoch"], color="grey", linestyle=":", label=f"best: {best['epoch']}")
        axes.set_xlabel("epoch" if "penalty" not in history[0] else "penalty, from strong to weak")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        if title.startswith("share"):
            axes.set_ylim(0, 1.02)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw(axes: Any, history: list[Row], name: str) -> None:
    values = [row.get(name) for row in history]
    if not any(value is not None for value in values):
        return
    side = "train" if name.startswith("train") else "val"
    label = "learning rate" if name == "lr" else f"{name.removeprefix('train_').replace('_', ' ')} ({side})"
    numbers = [math.nan if value is None else value for value in values]
    axes.plot([row["epoch"] for row in history], numbers, "--" if side == "train" else "-", label=label, marker=".")


def report_steps(batches: Iterable[Any], ws: Workspace, epoch: int, num_steps: int) -> Iterator[Any]:
    """Yield the batches, and store the number of the step every LOG_EVERY_S; `epoch` counts from 0.

    The driver reads it and logs it: Ray does not show what workers log.
    """
    stored_at = time.monotonic()
    for step, batch in enumerate(batches):
        if time.monotonic() >= stored_at + LOG_EVERY_S:
            stored_at = time.monotonic()
            with contextlib.suppress(StorageError):  # the next attempt may succeed
                ws.storage.write_json(STEP, {"epoch": epoch + 1, "step": step, "num_steps": num_steps})
        yield batch


class Watch:
    """Reads the files that a run stores, and shows their content. So the run may be on another machine."""

    def __init__(
        self,
        ws: Workspace,
        num_epochs: int | None = None,
        select_by: SelectBy = "top1",
        trackers: Trackers | None = None,
    ) -> None:
        self._ws, self._select_by, self._trackers = ws, select_by, trackers
        self._table = EpochTable(num_epochs)
        self._num_shown, self._num_drawn, self._drawn_at = 0, 0, -math.inf
        self._execution: str | None = None
        self._step = self._read(STEP)  # the file of an interrupted run, which must not be logged again

    def look(self, *, last: bool = False) -> None:
        """Show what is new; draw the curves every DRAW_EVERY_S, and at the last look."""
        step, history = self._read(STEP), read_history(self._ws.storage)
        if step and step != self._step and step["epoch"] > len(history):
            log.info("epoch %d: step %s of %s", step["epoch"], f"{step['step']:,}", f"{step['num_steps']:,}")
        self._step = step
        execution = self._read(EXECUTION)
        if execution and execution != self._execution:
            self._execution = execution
            log.info("computing with %s", execution)
        for number in range(self._num_shown, len(history)):
            row, so_far = history[number], history[: number + 1]
            seconds = [float(epoch.get("seconds", 0)) for epoch in so_far]
            for line in self._table.lines(row, best_epoch(so_far, self._select_by) is row, seconds):
                log.info("%s", line)
            if self._trackers:
                self._trackers.log(row)
        self._num_shown = len(history)
        if len(history) > self._num_drawn and (last or time.monotonic() >= self._drawn_at + DRAW_EVERY_S):
            self._ws.storage.write_bytes(CURVES, draw_curves(history, self._select_by))
            self._num_drawn, self._drawn_at = len(history), time.monotonic()

    def _read(self, path: str) -> Any:
        content = self._ws.storage.read_if_there(path)
        return None if content is None else json.loads(content)


@contextlib.contextmanager
def watching(
    ws: Workspace, num_epochs: int | None = None, select_by: SelectBy = "top1", trackers: Trackers | None = None
) -> Iterator[None]:
    """Watch the run while the context lasts, and once more at its end, also when the run fails or is stopped."""
    watch, stop = Watch(ws, num_epochs, select_by, trackers), threading.Event()

    def keep_looking() -> None:
        while not stop.wait(LOOK_EVERY_S if ws.storage.is_local else LOOK_AT_STORE_EVERY_S):
            with contextlib.suppress(StorageError):  # the next look may succeed
                watch.look()

    thread = threading.Thread(target=keep_looking, name="epochs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        watch.look(last=True)
