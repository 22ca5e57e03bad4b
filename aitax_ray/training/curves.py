"""Shows how a training run goes: log lines within and after each epoch, and the learning curves."""

import contextlib
import io
import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from aitax_ray import workspace
from aitax_ray.errors import StorageError
from aitax_ray.progress import LOG_EVERY_S
from aitax_ray.workspace import Workspace

DRAW_EVERY_S = 30.0  # drawing takes as long as a step, on the cores that train
STEP = "model/runs/step.json"  # the last step of the current epoch; deleted with the other files of the run
EXECUTION = "model/runs/execution.json"  # how the workers compute

log = logging.getLogger(__name__)


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Draw loss and accuracy over the epochs as a PNG; `history` has a row per epoch, where None leaves a gap."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, names in ((left, ("train_loss", "loss")), (right, ("train_top1", "top1", "top5", "macro_top1"))):
        for name in names:
            values = [row.get(name) for row in history]
            if any(value is not None for value in values):
                side = "train" if name.startswith("train") else "val"
                label = f"{name.removeprefix('train_').replace('_', ' ')} ({side})"
                axes.plot(
                    epochs,
                    [float("nan") if v is None else v for v in values],
                    "--" if side == "train" else "-",
                    label=label,
                    marker=".",
                )
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    left.set_ylabel("loss")
    right.set_ylabel("share of photographs")
    right.set_ylim(0, 1.02)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


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
    """Reads what the run stores, and logs and draws it. So the run may be on another machine."""

    def __init__(self, ws: Workspace) -> None:
        self._ws, self._num_logged, self._num_drawn, self._drawn_at = ws, 0, 0, -math.inf
        self._execution: str | None = None
        self._step = self._read(STEP)  # an interrupted run left it: it is not news

    def look(self, *, last: bool = False) -> None:
        """Log what is new; draw the curves every DRAW_EVERY_S, and at the last look."""
        step, history = self._read(STEP), self._read(workspace.HISTORY) or []
        if step != self._step and step["epoch"] > len(history):
            log.info("epoch %d: step %s of %s", step["epoch"], f"{step['step']:,}", f"{step['num_steps']:,}")
        self._step = step
        execution = self._read(EXECUTION)
        if execution and execution != self._execution:
            self._execution = execution
            log.info("computing with %s", execution)
        for row in history[self._num_logged :]:
            figures = ", ".join(
                f"{name} {value:.3f}"
                for name, value in row.items()
                if name not in ("epoch", "lr") and value is not None
            )
            log.info("epoch %d: %s", row["epoch"], figures)
        self._num_logged = len(history)
        if len(history) > self._num_drawn and (last or time.monotonic() >= self._drawn_at + DRAW_EVERY_S):
            self._ws.storage.write_bytes("model/curves.png", draw_curves(history))
            self._num_drawn, self._drawn_at = len(history), time.monotonic()

    def _read(self, path: str) -> Any:
        return self._ws.storage.read_json(path) if self._ws.storage.exists(path) else None


@contextlib.contextmanager
def watching(ws: Workspace) -> Iterator[None]:
    """Watch the run while the context lasts, and once more at its end, also when the run fails or is stopped."""
    watch, stop = Watch(ws), threading.Event()

    def keep_looking() -> None:
        while not stop.wait(1.0):
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
