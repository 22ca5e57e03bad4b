"""The figures of an evaluation, from a row per photograph."""

from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.calibration import TEMPERATURES, best_temperature, expected_calibration_error, reliability

UNCALIBRATED = len(TEMPERATURES) // 2  # where the temperature is 1


@dataclass(frozen=True)
class Predictions:
    """What the classifier said of N photographs."""

    target: np.ndarray  # (N,) class_index
    top: np.ndarray  # (N, up to 5) class_index of the best, best first
    nll: np.ndarray  # (N, T)
    max_probability: np.ndarray  # (N, T)

    @property
    def hit(self) -> np.ndarray:
        """Whether the best is right, (N,)."""
        return np.asarray(self.top[:, 0] == self.target)

    @property
    def hit5(self) -> np.ndarray:
        """Whether the right one is among the best, (N,)."""
        return np.asarray((self.top == self.target[:, None]).any(axis=1))


@dataclass(frozen=True)
class Evaluation:
    """The figures on the test photographs, and the temperature found on the validation photographs."""

    metrics: dict[str, float]
    temperature: float
    reliability: list[tuple[float, float, int]]
    confusion: np.ndarray  # (K, K): rows are the right species, columns what it was taken for
    top1: np.ndarray  # (K,), NaN without test photographs
    top5: np.ndarray


def evaluate_predictions(val: Predictions, test: Predictions, num_classes: int) -> Evaluation:
    """Measure the test photographs, at the temperature that suits the validation photographs best."""
    at = best_temperature(val.nll)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (test.target, test.top[:, 0]), 1)
    number = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        top1 = confusion.diagonal() / number
        top5 = np.bincount(test.target, weights=test.hit5, minlength=num_classes) / number
    max_probability = test.max_probability[:, at]
    metrics = {
        "top1": float(test.hit.mean()),
        "top5": float(test.hit5.mean()),
        "macro_top1": float(np.nanmean(top1)),
        "macro_top5": float(np.nanmean(top5)),
        "nll": float(test.nll[:, at].mean()),
        "nll_uncalibrated": float(test.nll[:, UNCALIBRATED].mean()),
        "ece": expected_calibration_error(max_probability, test.hit),
        "ece_uncalibrated": expected_calibration_error(test.max_probability[:, UNCALIBRATED], test.hit),
    }
    return Evaluation(metrics, float(TEMPERATURES[at]), reliability(max_probability, test.hit), confusion, top1, top5)
