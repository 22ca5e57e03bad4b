"""Candidate sets with a promise: the right species is among the candidates in, say, 9 of 10 cases (split conformal).

A class is in the set if its probability reaches a limit, which is found on validation photographs. There is one limit
for all classes, or one per class, so that rare species are not left out more often than common ones.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.bootstrap import intervals, mean_of
from aitax_ray.evaluation.figures import FREQUENCIES, frequency, macro_mean
from aitax_ray.evaluation.thresholds import highest_limit


class Candidates(BaseModel):
    """How the set of candidates is chosen."""

    model_config = ConfigDict(frozen=True)

    promise: float = 0.9
    """The share of sets that hold the right species."""
    limit: tuple[float, ...] = (0.0,)
    """Lowest probability of a candidate: one for all classes, or one per class. 0: the set holds all classes."""

    def limits(self, num_classes: int) -> np.ndarray:
        """The limit of each class, float32 (K,)."""
        return np.ascontiguousarray(np.broadcast_to(np.array(self.limit, np.float32), num_classes))

    def count(self, probabilities: np.ndarray) -> np.ndarray:
        """Count the candidates from the probabilities (Q, K): int64 (Q,). The best class is always one."""
        limits, best = self.limits(probabilities.shape[1]), probabilities.argmax(axis=1)
        is_best_below = probabilities[np.arange(len(best)), best] < limits[best]
        return np.asarray((probabilities >= limits).sum(axis=1) + is_best_below)

    def covers(self, answers: Answers, num_classes: int) -> np.ndarray:
        """Whether the set of each answer holds the right species, bool (N,). It never does if that is no class."""
        best = answers.top[:, 0]
        is_candidate = answers.target_score >= self.limits(num_classes)[answers.target]
        return np.asarray((best >= 0) & (answers.target >= 0) & (is_candidate | (best == answers.target)))


def fit_plain(target_score: np.ndarray, promise: float = 0.9) -> Candidates:
    """Find one limit for all classes, from the probabilities (N,) of the right species on validation photographs.

    Sadinle et al. 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", arXiv 1609.00451. The
    promise is for the mean over photographs like these.
    """
    limit = highest_limit(target_score[~np.isnan(target_score)].astype(np.float64), 1 - promise)
    return Candidates(promise=promise, limit=(max(float(limit), 0.0),))


def fit_balanced(
    target: np.ndarray, target_score: np.ndarray, num_train: np.ndarray, promise: float = 0.9
) -> Candidates:
    """Find a limit per class, from the right species (N,) and its probability (N,) on validation photographs.

    The probability is divided by the share of the class among the training photographs (`num_train` is (K,)): Ding et
    al. 2025, "Conformal Prediction for Long-Tailed Classification", arXiv 2507.06867. Each class has the same weight,
    so the promise is for the mean over species: Podkopaev and Ramdas 2021, arXiv 2103.03323, for a world in which all
    species are equally frequent. A class without a validation photograph counts as if it had one.
    """
    target, target_score = (column[~np.isnan(target_score)] for column in (target, target_score))
    prior = (num_train + 1) / (num_train + 1).sum()
    weight = 1 / np.maximum(np.bincount(target, minlength=len(prior)), 1)
    level = highest_limit(target_score / prior[target], 1 - promise, weight[target], weight)
    return Candidates(promise=promise, limit=tuple(np.maximum(level * prior, 0).tolist()))


def measure_candidates(
    candidates: Candidates, test: Answers, sizes: np.ndarray, num_train: np.ndarray
) -> dict[str, Any]:
    """Measure how many sets hold the right species, over photographs and over species, and how large they are.

    `sizes` (N,) comes from `Candidates.count`. Answers for a species that is no class are left out. `frequency` has the
    same figures for species with many, a medium number of, and few training photographs (`num_train` is (K,)).
    """
    is_known = test.target >= 0
    test, sizes = test.select(is_known), sizes[is_known]
    is_covered = candidates.covers(test, len(num_train))
    group = frequency(num_train)[test.target]
    rows = [
        {"name": name, "num_photographs": int((group == place).sum())}
        | _measure(is_covered[group == place], sizes[group == place], test.select(group == place))
        for place, name in enumerate(FREQUENCIES)
    ]
    return _measure(is_covered, sizes, test) | {"frequency": rows}


def _measure(is_covered: np.ndarray, sizes: np.ndarray, test: Answers) -> dict[str, Any]:
    statistics = {"coverage": mean_of(is_covered), "macro_coverage": macro_mean(is_covered, test.target)}
    mean, median = (float(sizes.mean()), float(np.median(sizes))) if len(sizes) else (None, None)
    return intervals(statistics, test.occurrence) | {"mean_size": mean, "median_size": median}
