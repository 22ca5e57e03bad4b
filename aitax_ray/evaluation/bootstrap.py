"""Intervals for figures: the bootstrap over occurrences.

Photographs of one occurrence show one individual and are not independent. So whole occurrences are drawn again, with
replacement: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 8.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

NUM_REPLICATES = 1000
LEVEL = 0.95

Statistic = Callable[[np.ndarray], float | None]
"""Computes a figure from weights, float64 (N,): how often each row counts. None where it is not defined."""


class Interval(NamedTuple):
    """A figure with the interval that holds it with 95 % confidence; None for what is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


def draw_weights(occurrence: np.ndarray, num: int | None = None, seed: int = 0) -> Iterator[np.ndarray]:
    """Draw `num` replicates (NUM_REPLICATES): how often each of N rows counts, float64 (N,), one replicate at a time.

    `occurrence` (N,) holds a number per row. Rows of one occurrence count equally often.
    """
    _, rows = np.unique(occurrence, return_inverse=True)
    num_occurrences = int(rows.max(initial=-1)) + 1
    chance = np.random.default_rng(seed)
    num = NUM_REPLICATES if num is None else num
    for _ in range(num if num_occurrences else 0):
        drawn = chance.integers(0, num_occurrences, num_occurrences)
        yield np.bincount(drawn, minlength=num_occurrences)[rows].astype(np.float64)


def intervals(
    statistics: Mapping[str, Statistic], occurrence: np.ndarray, *, num: int | None = None, seed: int = 0
) -> dict[str, Interval]:
    """Compute figures of N rows, and the interval of each by the percentiles of its replicates.

    With fewer than two occurrences there is no interval. Replicates in which a figure is not defined do not count. When
    all is right, or nothing, each replicate is the same: then the other end is the exact one of the binomial
    distribution (Clopper and Pearson 1934) for so many occurrences, or for as many as the statistic says by
    `num_effective(occurrence)`: a mean over species is known no better than by its rarest ones.
    """
    everything, num_occurrences = np.ones(len(occurrence)), len(np.unique(occurrence))
    values = {name: _finite(statistic(everything)) for name, statistic in statistics.items()}
    replicates: dict[str, list[float]] = {name: [] for name, value in values.items() if value is not None}
    if replicates and num_occurrences > 1:
        for weights in draw_weights(occurrence, num, seed):
            for name, drawn in replicates.items():
                replicate = _finite(statistics[name](weights))
                if replicate is not None:
                    drawn.append(replicate)
    found = {name: Interval(value, *percentiles(replicates.get(name, []))) for name, value in values.items()}
    for name, figure in found.items():
        if figure.low is not None and figure.value in (0, 1):
            count = getattr(statistics[name], "num_effective", None)
            found[name] = widen(figure, num_occurrences if count is None else count(occurrence))
    return found


def interval(statistic: Statistic, occurrence: np.ndarray, *, num: int | None = None, seed: int = 0) -> Interval:
    """Compute one figure and its interval, see `intervals`."""
    return intervals({"": statistic}, occurrence, num=num, seed=seed)[""]


def percentiles(replicates: list[float]) -> tuple[float | None, float | None]:
    """The two ends between which the share LEVEL of the replicates lies."""
    if not replicates:
        return None, None
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def widen(found: Interval, num_occurrences: float) -> Interval:
    """Give a figure that is 0 or 1 in each replicate the exact interval of the binomial distribution."""
    if found.low is None or found.value not in (0, 1):
        return found
    least = float(((1 - LEVEL) / 2) ** (1 / num_occurrences))
    return Interval(1.0, least, 1.0) if found.value == 1 else Interval(0.0, 0.0, 1 - least)


def mean_of(values: np.ndarray) -> Statistic:
    """The statistic that is the mean of a column; None without rows."""

    def mean(weights: np.ndarray) -> float | None:
        total = float(weights.sum())
        return float(weights @ values) / total if total else None

    return mean


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
