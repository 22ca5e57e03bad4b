"""Schedules of the learning rate: a cosine after a warm-up, or a lower rate when the validation loss does not fall."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from aitax_ray.training.settings import TrainSettings


@dataclass(frozen=True)
class Cosine:
    """The learning rate rises linearly for a share of the run, then falls along a cosine to `lr` / 1000."""

    lr: float
    epochs: int
    warmup: float = 0.05

    def at(self, epochs_done: float) -> float:
        """The learning rate after `epochs_done` epochs, such as 2.5 in the middle of the third one."""
        share = min(1.0, epochs_done / self.epochs)
        if share < self.warmup:
            return self.lr * max(0.01, share / self.warmup)
        falling = (share - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.lr * (0.001 + 0.999 * (1 + math.cos(math.pi * falling)) / 2)

    def end_epoch(self, loss: float) -> None:
        """Do nothing: this schedule is fixed."""

    def state_dict(self) -> dict[str, Any]:
        """Return {}: this schedule has no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Plateau:
    """torch's ReduceLROnPlateau: the learning rate is lowered when the loss is no better for some epochs."""

    def __init__(self, settings: "TrainSettings", lr: float) -> None:
        # ReduceLROnPlateau changes the rate of an optimizer. This one exists only to hold the rate.
        self._rate = torch.optim.SGD([torch.zeros(1)], lr)
        names = ("factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._rate, **{name: getattr(settings, name) for name in names}
        )

    def at(self, epochs_done: float) -> float:
        """The current learning rate."""
        return float(self._rate.param_groups[0]["lr"])

    def end_epoch(self, loss: float) -> None:
        """Lower the rate if the loss has not improved for long enough. A loss of NaN is not an improvement."""
        self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """The learning rate, the best loss and the epochs since then."""
        return {"lr": self.at(0), "plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state."""
        self._rate.param_groups[0]["lr"] = state["lr"]
        self._plateau.load_state_dict(state["plateau"])


Schedule = Cosine | Plateau


def make_schedule(settings: "TrainSettings", lr: float) -> Schedule:
    """Make the schedule of these settings, with the peak learning rate `lr`."""
    if settings.schedule == "plateau":
        return Plateau(settings, lr)
    return Cosine(lr, settings.epochs, settings.warmup)
