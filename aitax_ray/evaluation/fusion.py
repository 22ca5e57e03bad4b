"""Fusion: from the logits of one or more photographs of an individual to one calibrated probability per class.

The logits of a photograph are divided by a temperature, which depends on the number of photographs: the mean of several
probabilities is less sure of itself than each of them. Guo et al. 2017, "On Calibration of Modern Neural Networks",
arXiv 1706.04599. The rule and the temperatures are chosen on validation photographs and travel with the engine.
"""

from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

Rule = Literal["mean_of_probabilities", "mean_of_logits", "product"]
RULES: tuple[Rule, ...] = get_args(Rule)


class Fusion(BaseModel):
    """How the photographs of an individual are joined."""

    model_config = ConfigDict(frozen=True)

    rule: Rule = "mean_of_probabilities"
    temperatures: tuple[float, ...] = (1.0, 1.0, 1.0)
    """For one photograph, two, and so on; the last one is for all larger numbers."""

    def temperature(self, num_photographs: np.ndarray) -> np.ndarray:
        """The temperature for each of these numbers of photographs, float32."""
        place = np.minimum(num_photographs, len(self.temperatures)) - 1
        return np.asarray(np.array(self.temperatures, np.float32)[place])

    def scaled(self, factor: float) -> "Fusion":
        """The same fusion with each temperature multiplied by a factor."""
        return self.model_copy(update={"temperatures": tuple(factor * each for each in self.temperatures)})

    def probabilities(self, logits: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """Compute the probabilities (Q, K) of Q questions from the logits (N, K) of their photographs, float32.

        The photographs of a question stand together; `starts` (Q,) is the place of the first one of each question.
        Without it all photographs are of one question. Where a logit is not a finite number, all are 0.
        """
        starts = np.zeros(1, np.int64) if starts is None else starts
        sizes = _sizes(starts, len(logits))
        scaled = self._scaled(logits, sizes)
        if self.rule == "mean_of_probabilities":
            fused = np.add.reduceat(_softmax(scaled), starts, axis=0) / sizes[:, None]
        else:
            total = np.add.reduceat(scaled, starts, axis=0)
            fused = _softmax(total if self.rule == "product" else total / sizes[:, None])
        return np.where(np.isnan(fused), 0.0, fused).astype(np.float32)

    def energy(self, logits: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Compute the log of the sum of the exponentials of the scaled logits, the mean over the photographs: (Q,).

        Liu et al. 2020, "Energy-based Out-of-distribution Detection", arXiv 2010.03759, there with the sign changed.
        """
        sizes = _sizes(starts, len(logits))
        largest = logits.max(axis=1)
        scale = np.repeat(self.temperature(sizes), sizes)
        with np.errstate(invalid="ignore"):
            each = largest / scale + np.log(np.exp(self._scaled(logits, sizes)).sum(axis=1))
        mean = np.add.reduceat(each, starts) / sizes
        return np.where(np.isnan(mean), -np.inf, mean).astype(np.float32)

    def _scaled(self, logits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The logits at their temperature, the largest of each photograph being 0."""
        with np.errstate(invalid="ignore"):
            centred = logits - logits.max(axis=1, keepdims=True)
        return np.asarray(centred / np.repeat(self.temperature(sizes), sizes)[:, None])


def _sizes(starts: np.ndarray, num_photographs: int) -> np.ndarray:
    return np.asarray(np.concatenate([starts[1:], [num_photographs]]) - starts)


def _softmax(scaled: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
