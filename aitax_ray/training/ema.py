"""The moving average of a network's weights, which is often better than the weights of the last step."""

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """Follows a network: after each step, mean = decay * mean + (1 - decay) * network. Buffers are averaged too."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._decay, self._step = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the weights after a step to the average.

        In the first steps the decay is lower, (1 + step) / (10 + step), so that the start weights soon count little.
        """
        decay = min(self._decay, (1 + self._step) / (10 + self._step))
        self._step += 1
        means, values = [], []
        for mean, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(means, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The mean, and the number of steps."""
        return {"network": self.network.state_dict(), "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state."""
        self.network.load_state_dict(state["network"])
        self._step = state["step"]
