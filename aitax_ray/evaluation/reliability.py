"""How far the scores can be believed: calibration before and after the temperatures, with intervals.

ECE: Naeini et al. 2015, and Guo et al. 2017, arXiv 1706.04599. Class-wise ECE: Kull et al. 2019, arXiv 1910.12656.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.bootstrap import Interval, Statistic, interval, intervals, mean_of
from aitax_ray.evaluation.figures import FREQUENCIES, frequency, hits, known

NUM_BINS = 15
TINY = 1e-9  # the log of a probability of 0 is not a number


def bins_of(score: np.ndarray) -> np.ndarray:
    """The bin of each score in [0, 1], of NUM_BINS equal ones."""
    return np.minimum((score * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def calibration_error(score: np.ndarray, hit: np.ndarray) -> Statistic:
    """The statistic that is the ECE: the mean distance of score and share of hits over the bins; None without rows."""
    place, excess = bins_of(score), score.astype(np.float64) - hit

    def error(weights: np.ndarray) -> float | None:
        total = float(weights.sum())
        return float(np.abs(np.bincount(place, weights * excess, NUM_BINS)).sum()) / total if total else None

    return error


def reflect(error: Interval) -> Interval:
    """Reflect the interval of an ECE about its value, down to 0.

    Chance alone makes an ECE larger than it is: in a bin, scores and hits differ a little even if the scores are right.
    Each replicate adds as much again. So the replicates lie above the value by about as much as the value lies above
    the truth, and the percentiles without reflection miss the truth, sometimes even the value. This is the basic
    bootstrap: Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 2.4. With few photographs
    the low end is still too high.
    """
    value, low, high = error
    if not value or low is None or high is None:
        return error
    return Interval(value, max(2 * value - high, 0.0), max(2 * value - low, value))


def reliability(score: np.ndarray, hit: np.ndarray) -> list[tuple[float, float, int]]:
    """For each bin that is not empty: the mean score, the share of hits, the number of rows."""
    place = bins_of(score)
    number = np.bincount(place, minlength=NUM_BINS)
    filled = np.flatnonzero(number)
    mean = np.bincount(place, score, NUM_BINS)[filled] / number[filled]
    share = np.bincount(place, hit, NUM_BINS)[filled] / number[filled]
    return [(float(m), float(s), int(n)) for m, s, n in zip(mean, share, number[filled], strict=True)]


class ClasswiseBins:
    """Sums for the class-wise ECE, to which batches are added: three arrays (K, NUM_BINS)."""

    def __init__(self, num_classes: int) -> None:
        self._shape = (num_classes, NUM_BINS)
        self._excess = np.zeros(num_classes * NUM_BINS)
        self._num = 0

    def add(self, probabilities: np.ndarray, target: np.ndarray) -> None:
        """Add probabilities (n, K) and right classes (n,); questions about species that are no class do not count."""
        known = target >= 0
        excess = probabilities[known].astype(np.float64)
        cells = np.arange(self._shape[0]) * NUM_BINS + bins_of(probabilities[known])
        excess[np.arange(len(excess)), target[known]] -= 1
        self._excess += np.bincount(cells.ravel(), excess.ravel(), len(self._excess))
        self._num += len(excess)

    def error(self) -> float | None:
        """The mean over the classes of the ECE of the score of each class; None without rows."""
        if not self._num:
            return None
        return float(np.abs(self._excess.reshape(self._shape)).sum(axis=1).mean() / self._num)


def measure_calibration(
    answers: Answers, classwise: ClasswiseBins | None = None, *, raw: bool = False
) -> dict[str, Any]:
    """Measure ece, brier and nll with their intervals, and classwise_ece; `raw` is before calibration.

    Questions about species that the engine does not know are left out. The Brier score is the sum over the classes of
    the squared distance of score and truth: from 0 to 2.
    """
    answers = known(answers)
    score = answers.raw_score if raw else answers.scores[:, 0]
    of_target = (answers.raw_target_score if raw else answers.target_score).astype(np.float64)
    squares = answers.raw_sum_of_squares if raw else answers.sum_of_squares
    measured: dict[str, Any] = dict(
        intervals(
            {
                "ece": calibration_error(score, hits(answers)),
                "brier": mean_of(squares - 2 * of_target + 1),
                "nll": mean_of(-np.log(np.maximum(of_target, TINY))),
            },
            answers.occurrence,
        )
    )
    measured["ece"] = reflect(measured["ece"])
    return measured | {"classwise_ece": None if classwise is None else classwise.error()}


def measure_frequency_calibration(answers: Answers, num_train: np.ndarray) -> dict[str, Any]:
    """Measure the ECE of species with many, a medium number of, and few training photographs."""
    answers, of_class, found = known(answers), frequency(num_train), {}
    for place, name in enumerate(FREQUENCIES):
        part = answers.select(of_class[answers.target] == place)
        error = calibration_error(part.scores[:, 0], hits(part))
        found[name] = reflect(interval(error, part.occurrence))
    return found


def is_rough(log_error: float | None) -> bool:
    """Whether the temperature is known so badly that the ends of its 95 % interval differ by more than a factor 2."""
    return log_error is None or bool(2 * 1.96 * log_error > np.log(2))


def say_trust(num_occurrences: int, temperatures: Sequence[float], log_errors: Sequence[float | None]) -> str:
    """Say in a sentence how far the calibration can be trusted.

    `log_errors` are the standard errors of the logs of the temperatures; None where one was not fitted.
    """
    if not num_occurrences or log_errors[0] is None:
        return (
            "There are no validation photographs, so the scores are not calibrated: do not read them as probabilities."
        )
    error = log_errors[0]
    where = f"The temperature {temperatures[0]:.2f} comes from {num_occurrences:,} validation occurrences"
    low, high = temperatures[0] * np.exp(-1.96 * error), temperatures[0] * np.exp(1.96 * error)
    known = f"{where}; it lies between {low:.2f} and {high:.2f} with 95 % confidence."
    if is_rough(error):
        return f"{known} That is a wide range: scores may be off, so take them as a rough order only."
    borrowed = [number for number, given in enumerate(log_errors[1:], 2) if given is None]
    if borrowed:
        return f"{known} Too few occurrences have {borrowed[0]} or more photographs to calibrate these on their own."
    return known
