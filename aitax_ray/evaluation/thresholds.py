"""What thresholds on scores need: counts from each score on, limits that few scores are below, shares of answers."""

import numpy as np

from aitax_ray.evaluation.bootstrap import Interval, Statistic, widen

TINY = 1e-9  # sums of weights are not exact


def count_at_least(
    group: np.ndarray, score: np.ndarray, is_right: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count for each of N answers those of its group that have at least its score, and the right ones among them.

    All arguments are (N,). Each answer counts with its weight. Both results are float64 (N,).
    """
    if not len(score):
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((-score, group))
    group, score = group[order], score[order]
    is_new_group = np.r_[True, group[1:] != group[:-1]]
    is_new_score = is_new_group | np.r_[True, score[1:] != score[:-1]]
    first = np.flatnonzero(is_new_group)[np.cumsum(is_new_group) - 1]
    after = np.r_[np.flatnonzero(is_new_score)[1:], len(score)][np.cumsum(is_new_score) - 1]
    counts = []
    for each in (weight[order], (weight * is_right)[order]):
        total = np.r_[0, np.cumsum(each, dtype=np.float64)]
        count = np.empty(len(score))
        count[order] = total[after] - total[first]
        counts.append(count)
    return counts[0], counts[1]


def lowest_precise(score: np.ndarray, is_right: np.ndarray, precision: float, min_num: int) -> float | None:
    """Find the lowest score from which on at least this share of N answers is right.

    None if there is no such score with at least `min_num` answers.
    """
    num, num_right = count_at_least(np.zeros(len(score)), score, is_right, np.ones(len(score)))
    is_enough = (num >= min_num) & (num_right >= precision * num - TINY)
    return float(score[is_enough].min()) if is_enough.any() else None


def highest_limit(
    score: np.ndarray, missed: float, weight: np.ndarray | None = None, own_weight: np.ndarray | float = 1.0
) -> np.ndarray:
    """Find the highest limit that a new score is below with at most the probability `missed`, float64.

    The new score counts as if it were below each limit: this correction makes the promise hold for any number N of
    scores (Vovk et al. 2005, "Algorithmic Learning in a Random World"; for weights Tibshirani et al. 2019, arXiv
    1904.06019). `own_weight` is the weight of the new score, one or several. The limit is -inf where N is too small.
    """
    weight = np.ones(len(score)) if weight is None else weight
    levels, place = np.unique(score, return_inverse=True)
    each = np.bincount(place, weight, minlength=len(levels))
    below = np.cumsum(each) - each
    allowed = missed * (weight.sum() + own_weight) - own_weight
    return np.asarray(np.r_[-np.inf, levels][np.searchsorted(below, allowed + TINY, side="right")], np.float64)


def share(is_so: np.ndarray, among: np.ndarray | None = None) -> Statistic:
    """The statistic that is the share of N answers for which something is so, of all or of those among some, (N,)."""
    counted = np.ones(len(is_so)) if among is None else among.astype(np.float64)
    part = counted * is_so
    return lambda weight: ratio(float(weight @ part), float(weight @ counted))


def interval_if_enough(found: Interval, occurrence: np.ndarray, *parts: np.ndarray) -> Interval:
    """Drop the interval of a figure if one of the parts, bool (N,), that it stands on has not two occurrences.

    A figure of 0 or 1 has the interval of as many occurrences as there are in the smallest part.
    """
    least = min(len(np.unique(occurrence[part])) for part in parts)
    return widen(found, least) if least > 1 else Interval(found.value)


def ratio(part: float, total: float) -> float | None:
    """Divide, or give None if there is nothing to divide by."""
    return float(part / total) if total > 0 else None
