"""The figures of an evaluation, from one row per photograph. No array grows with the square of the species."""

import math
from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.calibration import TEMPERATURES, best_temperature, expected_calibration_error, reliability

UNCALIBRATED = len(TEMPERATURES) // 2  # where the temperature is 1


@dataclass(frozen=True)
class Predictions:
    """The predictions for N photographs."""

    target: np.ndarray  # (N,) class_index
    top: np.ndarray  # (N, up to 5) class_index of the best, best first
    nll: np.ndarray  # (N, T)
    max_probability: np.ndarray  # (N, T)

    @property
    def hit(self) -> np.ndarray:
        """Whether the best class is the right one, (N,)."""
        return np.asarray((self.top[:, 0] == self.target) & self._is_finite)

    @property
    def hit5(self) -> np.ndarray:
        """Whether the right class is among the best, (N,)."""
        return np.asarray((self.top == self.target[:, None]).any(axis=1) & self._is_finite)

    @property
    def _is_finite(self) -> np.ndarray:
        """Whether the logits were finite numbers, (N,): among others there is no best class."""
        return np.asarray(np.isfinite(self.max_probability[:, UNCALIBRATED]))


@dataclass(frozen=True)
class Evaluation:
    """The figures on the test photographs, and the temperature found on the validation photographs."""

    metrics: dict[str, float | None]  # None for what is not a finite number
    temperature: float
    reliability: list[tuple[float, float, int]]
    pairs: np.ndarray  # (P, 3): right class_index, predicted class_index, number of photographs; sorted, numbers > 0
    num_test: np.ndarray  # (K,)
    top1: np.ndarray  # (K,), NaN without test photographs
    top5: np.ndarray


def evaluate_predictions(val: Predictions, test: Predictions, num_classes: int) -> Evaluation:
    """Measure the test photographs, at the temperature that suits the validation photographs best."""
    at = best_temperature(val.nll)
    num_test = np.bincount(test.target, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        top1 = np.bincount(test.target, weights=test.hit, minlength=num_classes) / num_test
        top5 = np.bincount(test.target, weights=test.hit5, minlength=num_classes) / num_test
    max_probability = test.max_probability[:, at]
    metrics = {
        "top1": test.hit.mean(),
        "top5": test.hit5.mean(),
        "macro_top1": np.nanmean(top1),
        "macro_top5": np.nanmean(top5),
        "nll": test.nll[:, at].mean(),
        "nll_uncalibrated": test.nll[:, UNCALIBRATED].mean(),
        "ece": expected_calibration_error(max_probability, test.hit),
        "ece_uncalibrated": expected_calibration_error(test.max_probability[:, UNCALIBRATED], test.hit),
    }
    return Evaluation(
        {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()},
        float(TEMPERATURES[at]),
        reliability(max_probability, test.hit),
        count_pairs(test.target, test.top[:, 0], num_classes),
        num_test,
        top1,
        top5,
    )


def count_pairs(target: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the photographs of each pair of right and predicted class that occurs: (P, 3), see `Evaluation`."""
    codes, numbers = np.unique(target.astype(np.int64) * num_classes + predicted, return_counts=True)
    return np.stack([codes // num_classes, codes % num_classes, numbers], axis=1)


def most_often_taken_for(pairs: np.ndarray, num_classes: int) -> np.ndarray:
    """For each class the wrong class that was predicted most often, the first of equals; -1 for none. (K,)"""
    wrong = _mistakes(pairs)
    result = np.full(num_classes, -1, np.int64)
    order = np.lexsort((-wrong[:, 1], wrong[:, 2]))
    result[wrong[order, 0]] = wrong[order, 1]  # of several values for one place the last one stays
    return result


def most_confused(pairs: np.ndarray, num_classes: int, limit: int) -> np.ndarray:
    """The classes with most mistakes, as the right or as the predicted class: at most `limit`, in their order."""
    wrong = _mistakes(pairs)
    numbers = np.bincount(wrong[:, :2].ravel(), np.repeat(wrong[:, 2], 2), minlength=num_classes)
    order = np.argsort(-numbers, kind="stable")[:limit]
    return np.asarray(sorted(order[numbers[order] > 0].tolist()), np.int64)


def confusion_among(classes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The confusion matrix of a few classes, in their sorted order: rows are right, columns predicted."""
    among = pairs[np.isin(pairs[:, 0], classes) & np.isin(pairs[:, 1], classes)]
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    matrix[np.searchsorted(classes, among[:, 0]), np.searchsorted(classes, among[:, 1])] = among[:, 2]
    return matrix


def _mistakes(pairs: np.ndarray) -> np.ndarray:
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]])
