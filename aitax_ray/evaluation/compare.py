"""Compares two engines on the photographs that are in the test side of both, by a paired bootstrap.

Each replicate draws the same occurrences for both: what is hard is hard for both, so the difference is known better
than each figure. Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation", uses it likewise.
"""

from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.bootstrap import Statistic, draw_weights, mean_of, percentiles
from aitax_ray.evaluation.figures import macro_mean

SIGNIFICANCE = 0.025  # for each of the two figures, so that both together are wrong in 5 % of the cases at most
MIN_CHANGED = 3  # photographs whose answer changed, from which on a species is listed


@dataclass(frozen=True)
class Difference:
    """A figure of the new engine less that of the old one; None for what is not defined."""

    before: float | None
    after: float | None
    value: float | None
    low: float | None
    high: float | None
    p_worse: float | None
    """Chance to see so bad a figure when the new engine is not worse, see `_chance`. Small when it is worse."""

    p_better: float | None
    """Chance to see so good a figure when the new engine is not better."""

    @property
    def is_significantly_worse(self) -> bool:
        """Whether chance hardly explains how much worse it is."""
        return self.p_worse is not None and (self.value or 0) < 0 and self.p_worse < SIGNIFICANCE

    @property
    def is_significantly_better(self) -> bool:
        """Whether chance hardly explains how much better it is."""
        return self.p_better is not None and (self.value or 0) > 0 and self.p_better < SIGNIFICANCE


@dataclass(frozen=True)
class Comparison:
    """Two engines on N common photographs."""

    num_photographs: int
    num_occurrences: int
    top1: Difference
    macro_top1: Difference
    species: list[dict[str, object]]
    """Species whose answers changed, most photographs first: species_key, before, after, num."""

    @property
    def is_significantly_worse(self) -> bool:
        """Whether the new engine is worse in one of both figures."""
        return self.top1.is_significantly_worse or self.macro_top1.is_significantly_worse

    @property
    def is_significantly_better(self) -> bool:
        """Whether the new engine is better in one of both figures, and worse in none."""
        is_better = self.top1.is_significantly_better or self.macro_top1.is_significantly_better
        return is_better and not self.is_significantly_worse


def compare(before: np.ndarray, after: np.ndarray, species_key: np.ndarray, occurrence: np.ndarray) -> Comparison:
    """Compare the answers of two engines to the same N photographs.

    `before` and `after` (N,) say whether the old and the new engine were right, `species_key` (N,) names the right
    species, `occurrence` (N,) holds a text or a number per photograph.
    """
    keys, target = np.unique(species_key, return_inverse=True)
    target = target.reshape(-1)
    old, new = before.astype(np.float64), after.astype(np.float64)
    figures = {
        "top1": (mean_of(old), mean_of(new)),
        "macro_top1": (macro_mean(old, target), macro_mean(new, target)),
    }
    num_changed = len(np.unique(occurrence[before != after]))
    found = {name: _difference(*pair, occurrence, num_changed) for name, pair in figures.items()}
    changed = np.bincount(target, before != after, len(keys)).astype(np.int64)
    number = np.bincount(target, minlength=len(keys))
    right = [np.bincount(target, column, len(keys)) / np.maximum(number, 1) for column in (old, new)]
    order = [k for k in np.argsort(-changed, kind="stable") if changed[k] >= MIN_CHANGED]
    return Comparison(
        num_photographs=len(target),
        num_occurrences=len(np.unique(occurrence)),
        top1=found["top1"],
        macro_top1=found["macro_top1"],
        species=[
            {
                "species_key": str(keys[k]),
                "before": float(right[0][k]),
                "after": float(right[1][k]),
                "num": int(number[k]),
            }
            for k in order
        ],
    )


def _difference(before: Statistic, after: Statistic, occurrence: np.ndarray, num_changed: int) -> Difference:
    everything = np.ones(len(occurrence))
    old, new = before(everything), after(everything)
    if old is None or new is None:
        return Difference(old, new, None, None, None, None, None)
    if len(np.unique(occurrence)) < 2:
        return Difference(old, new, new - old, None, None, None, None)
    pairs = [(before(weights), after(weights)) for weights in draw_weights(occurrence)]
    differences = [b - a for a, b in pairs if a is not None and b is not None]
    p_values = [_chance(sign * np.array(differences), num_changed) for sign in (1, -1)]
    return Difference(old, new, new - old, *percentiles(differences), *p_values)


def _chance(differences: np.ndarray, num_changed: int) -> float:
    """The share of the replicates in which the difference is not negative, with the figure itself as one more.

    It is at least 2 ** -num_changed, for so many occurrences with an answer that changed. That is the chance that all
    of them get worse when each may as well get better: the sign test, which holds also where a few occurrences are too
    few for the bootstrap.
    """
    share = (1 + np.count_nonzero(differences >= 0)) / (1 + len(differences))
    return float(max(share, 0.5**num_changed))
