"""Watching a training run: a log line and the learning curves after each epoch."""

import contextlib
import io
import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

from aitax_ray import workspace
from aitax_ray.errors import StorageError
from aitax_ray.workspace import Workspace

DRAW_EVERY_S = 30.0  # drawing takes as long as a step, on cores that have to learn

log = logging.getLogger(__name__)


def draw_curves(history: list[dict[str, Any]]) -> bytes:
    """Draw loss and accuracy over the epochs; `history` has a row per epoch. Returns a PNG."""
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


@contextlib.contextmanager
def watching(ws: Workspace) -> Iterator[None]:
    """Log each epoch as it ends, whichever machine it ends on, and draw the curves now and then and at the end."""
    stop, seen, num_drawn, drawn_at = threading.Event(), 0, 0, -math.inf

    def look(draw: bool) -> None:
        nonlocal seen, num_drawn, drawn_at
        history = ws.storage.read_json(workspace.HISTORY) if ws.storage.exists(workspace.HISTORY) else []
        for row in history[seen:]:
            figures = ", ".join(
                f"{name} {value:.3f}"
                for name, value in row.items()
                if name not in ("epoch", "lr") and value is not None
            )
            log.info("epoch %d: %s", row["epoch"], figures)
        seen = len(history)
        if seen > num_drawn and draw:
            ws.storage.write_bytes("model/curves.png", draw_curves(history))
            num_drawn, drawn_at = seen, time.monotonic()

    def watch() -> None:
        while not stop.wait(1.0):
            with contextlib.suppress(StorageError):  # passing trouble: there is a next look
                look(draw=time.monotonic() > drawn_at + DRAW_EVERY_S)

    thread = threading.Thread(target=watch, name="epochs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    look(draw=True)
