"""Acceptance: for each species the score from which on an answer can be accepted without a look at the photograph."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import intervals
from aitax_ray.evaluation.thresholds import TINY, count_at_least, interval_if_enough, lowest_precise, share

MAX_BORROWED = 10  # occurrences of other species that count for a species
MIN_OCCURRENCES = 10  # own and borrowed ones together
PRIOR = 0.5  # Jeffreys' prior of a share


class Acceptance(BaseModel):
    """The lowest score of an accepted answer, for each class."""

    model_config = ConfigDict(frozen=True)

    precision: float = 0.95
    """The share of the accepted answers that should be right."""
    thresholds: tuple[float | None, ...] = ()
    """One per class; None: no answer of this class is accepted. Classes at the end may have none."""

    def limits(self, top: np.ndarray) -> np.ndarray:
        """The threshold of the best class (N,) of N answers, -1 for none: float64 (N,); inf where there is none."""
        known = [self.thresholds[place] if 0 <= place < len(self.thresholds) else None for place in top.tolist()]
        return np.array([np.inf if limit is None else limit for limit in known], np.float64)

    def accepts(self, top: np.ndarray, score: np.ndarray, part: float = 1.0) -> np.ndarray:
        """Whether answers are accepted, bool (N,), from the best class (N,), -1 for none, and its score (N,).

        The score may be below 1 by this part of what the threshold is below 1.
        """
        limits = self.limits(top)
        has_limit = np.isfinite(limits)
        limits = np.where(has_limit, 1 - part * (1 - np.where(has_limit, limits, 1.0)), np.inf)
        return np.asarray(score >= limits.astype(np.float32))


@dataclass(frozen=True)
class Acceptances:
    """The acceptance, and for each of the K classes what it stands on. All arrays are (K,)."""

    acceptance: Acceptance
    num_own: np.ndarray
    """float64: occurrences with an accepted answer of this class; of those with an answer of it if none is accepted."""
    num_borrowed: np.ndarray
    """float64: occurrences of other species that count as own ones, at most MAX_BORROWED."""
    precision: np.ndarray
    """float64: expected share of the accepted answers that are right; NaN without a threshold."""
    low: np.ndarray
    """float64: lower end of its 95 % interval."""
    high: np.ndarray
    reason: list[str]
    """Why there is no threshold; "" if there is one."""


def fit_acceptance(val: Answers, taxonomy: Taxonomy, precision: float = 0.95, num_added: int = 0) -> Acceptances:
    """Find the lowest score of each class from which on enough of its answers are right, from validation answers.

    The number of right answers from a score on is beta-binomial (Gelman et al. 2013, "Bayesian Data Analysis", chapter
    5). The answers of the other species of the genus with at least this score are its prior, and behind them those of
    all other species. The prior counts as at most MAX_BORROWED occurrences. The mean of the share that is right must
    reach `precision`. Thresholds are tried at the scores of the class's own answers. The photographs of an occurrence
    count as one together, because they are not independent. The last `num_added` classes get no threshold: they were
    added after the training, so that the answers of trained species say little about them.
    """
    from scipy.stats import beta

    val = val.select(val.top[:, 0] >= 0)
    best, score = val.top[:, 0].astype(np.int64), val.scores[:, 0]
    num_classes, is_right = len(taxonomy.keys), best == val.target
    weight = 1 / np.bincount(val.occurrence)[val.occurrence]
    genus = np.where(taxonomy.genus >= 0, taxonomy.genus, len(taxonomy.genera) + np.arange(num_classes))
    own, of_genus, of_all = (
        np.stack(count_at_least(group, score, is_right, weight)) for group in (best, genus[best], np.zeros(len(best)))
    )
    borrowed = np.zeros_like(own)
    for others in (of_genus - own, of_all - of_genus):
        room = np.minimum(others[0], MAX_BORROWED - borrowed[0])
        borrowed += others * np.where(others[0] > TINY, room / np.maximum(others[0], TINY), 0)
    num, num_right = own + borrowed
    expected = (num_right + PRIOR) / (num + 2 * PRIOR)
    if_all_were_right = (num + PRIOR) / (num + 2 * PRIOR)
    is_enough = (num >= MIN_OCCURRENCES - TINY) & (if_all_were_right >= precision)
    is_candidate = is_enough & (expected >= precision)

    # Of the rows of a class the last one that is written stays: accepted ones, of these the one with the lowest score.
    order = np.lexsort((-score, is_candidate))
    row = np.full(num_classes, -1)
    row[best[order]] = order
    has_enough = np.zeros(num_classes, bool)
    has_enough[best[is_enough]] = True
    found = row >= 0
    found[found] = is_candidate[row[found]]
    is_added = np.arange(num_classes) >= num_classes - num_added
    found &= ~is_added

    def of_class(values: np.ndarray, where: np.ndarray, without: float) -> np.ndarray:
        result = np.full(num_classes, without)
        result[where] = values[row[where]]
        return result

    a, b = num_right + PRIOR, num - num_right + PRIOR
    limits = of_class(score, found, np.nan).tolist()
    return Acceptances(
        Acceptance(precision=precision, thresholds=tuple(limit if limit == limit else None for limit in limits)),
        of_class(own[0], row >= 0, 0.0),
        of_class(borrowed[0], row >= 0, 0.0),
        of_class(expected, found, np.nan),
        of_class(beta.ppf(0.025, a, b), found, np.nan),
        of_class(beta.ppf(0.975, a, b), found, np.nan),
        [_reason(*each) for each in zip(found.tolist(), has_enough.tolist(), is_added.tolist(), strict=True)],
    )


def fit_part(acceptance: Acceptance, several: Answers, is_accepted: np.ndarray) -> float:
    """Find the largest `part`, at most 1, with which enough of the accepted answers to several photographs are right.

    `is_accepted` (N,) are accepted in any case. With fewer than MIN_OCCURRENCES there is nothing to find: 1.
    """
    limits = acceptance.limits(several.top[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.nan_to_num((1 - several.scores[:, 0]) / (1 - limits), nan=0.0)
    needed = np.where(is_accepted, 0.0, np.where(np.isfinite(limits), needed, np.inf))
    within = needed <= 1
    if within.sum() < MIN_OCCURRENCES:
        return 1.0
    is_right = several.top[:, 0] == several.target
    found = lowest_precise(-needed[within], is_right[within], acceptance.precision, MIN_OCCURRENCES)
    return -found if found is not None else 0.0


def _reason(has_threshold: bool, has_enough: bool, is_added: bool) -> str:
    if has_threshold:
        return ""
    if is_added:
        return "added without training"
    return "no score is precise enough" if has_enough else "too few photographs"


def measure_acceptance(acceptance: Acceptance, test: Answers) -> dict[str, Any]:
    """Measure the share of the answers that are accepted, and how many of these are right."""
    is_accepted = acceptance.accepts(test.top[:, 0], test.scores[:, 0])
    statistics = {"precision": share(test.top[:, 0] == test.target, is_accepted), "share": share(is_accepted)}
    found = intervals(statistics, test.occurrence)
    return {
        "precision_wanted": acceptance.precision,
        "species_with_threshold": sum(limit is not None for limit in acceptance.thresholds),
        "precision": interval_if_enough(found["precision"], test.occurrence, is_accepted),
        "share": found["share"],
    }
