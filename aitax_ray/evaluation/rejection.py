"""Rejection: which answers to keep back because the species is probably none that the engine knows.

Held-out species are species that were left out of training on purpose. Their photographs show which score tells them
apart best. Without them the largest probability is taken, and nothing is said about unknown species.
"""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.bootstrap import Statistic, intervals
from aitax_ray.evaluation.thresholds import TINY, highest_limit, interval_if_enough, ratio, share

Score = Literal["max_probability", "energy", "similarity", "combination"]
Weights = tuple[float, float, float]
SINGLE: dict[Score, Weights] = {
    "max_probability": (1.0, 0.0, 0.0),
    "energy": (0.0, 1.0, 0.0),
    "similarity": (0.0, 0.0, 1.0),
}
MIN_UNKNOWN = 10  # occurrences of held-out species from which on a score is chosen
MIN_SPECIES = 5  # held-out species from which on a combination of scores is fitted
NUM_FOLDS = 5
NUM_POINTS = 100  # of the curve


class Rejection(BaseModel):
    """The score of an answer, and the lowest one with which the answer is kept."""

    model_config = ConfigDict(frozen=True)

    score: Score = "max_probability"
    weights: Weights = SINGLE["max_probability"]
    """Of the largest probability, the energy and the similarity: the score is their weighted sum."""
    threshold: float | None = None
    """None: nothing is rejected, because there are too few validation answers."""
    probability_threshold: float | None = None
    """Lowest largest probability, for photographs whose similarity was not searched."""
    false_reject_rate: float = 0.05
    """The share of the answers for known species that may be rejected."""

    def value(self, max_probability: np.ndarray, energy: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        """Compute the score of N answers from these three (N,), float64.

        It is -inf where the logits were not finite, NaN where it needs a similarity that was not searched.
        """
        parts = (max_probability, energy, similarity)
        with np.errstate(invalid="ignore"):
            value = sum(
                (weight * part.astype(np.float64) for weight, part in zip(self.weights, parts, strict=True) if weight),
                start=np.zeros(len(max_probability)),
            )
        return np.asarray(np.where(max_probability > 0, value, -np.inf))

    def keeps(self, max_probability: np.ndarray, energy: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        """Whether N answers are kept, bool (N,)."""
        value = self.value(max_probability, energy, similarity)
        lowest = -np.inf if self.threshold is None else self.threshold
        lowest_alone = -np.inf if self.probability_threshold is None else self.probability_threshold
        is_kept = np.where(np.isnan(value), max_probability.astype(np.float64) >= lowest_alone, value >= lowest)
        return np.asarray(is_kept & (max_probability > 0))


def fit_rejection(
    known: Answers,
    unknown: Answers | None = None,
    species: np.ndarray | None = None,
    false_reject_rate: float = 0.05,
) -> Rejection:
    """Choose the score by its AUROC, and the threshold by the share of known species that may be rejected.

    `known` are validation answers. `unknown` are answers for held-out species, `species` (U,) numbers these; others
    measure the result. The share is a promise for new photographs like these, see `highest_limit`.
    """
    score, weights = _choose(known, unknown, species)
    rejection = Rejection(score=score, weights=weights, false_reject_rate=false_reject_rate)
    return set_thresholds(rejection, known, np.zeros(len(known), bool))


def set_thresholds(rejection: Rejection, known: Answers, is_kept: np.ndarray) -> Rejection:
    """Choose the thresholds by the share of known species that may be rejected; `is_kept` (N,) are kept in any case."""

    def find(one: Rejection) -> float | None:
        value = _value(one, known)
        limit = float(highest_limit(np.where(is_kept, value.max(initial=-np.inf), value), rejection.false_reject_rate))
        return limit if np.isfinite(limit) else None

    limits = {"threshold": find(rejection), "probability_threshold": find(Rejection())}
    return rejection.model_copy(update=limits)


def _choose(known: Answers, unknown: Answers | None, species: np.ndarray | None) -> tuple[Score, Weights]:
    """Choose the score with the largest AUROC; of scores that are equal to 3 digits the simplest one.

    The combination is measured on species that it was not fitted on, and needs MIN_SPECIES of them: fitted on one or
    two it learns what is odd about these, and may be worse than chance on the next.
    """
    default: tuple[Score, Weights] = ("max_probability", SINGLE["max_probability"])
    if unknown is None:
        return default
    # Answers without finite logits are rejected by any score.
    species = None if species is None else species[unknown.scores[:, 0] > 0]
    known, unknown = (side.select(side.scores[:, 0] > 0) for side in (known, unknown))
    if min(len(np.unique(side.occurrence)) for side in (known, unknown)) < MIN_UNKNOWN:
        return default
    features, is_known = _features(known, unknown), _is_known(known, unknown)
    usable = np.isfinite(features).all(axis=0)
    values = {name: features[:, place] for place, name in enumerate(SINGLE) if usable[place]}
    found = None
    if species is not None and len(np.unique(species)) >= MIN_SPECIES:
        groups = np.r_[known.occurrence, known.occurrence.max() + 1 + species]
        found = _combine(np.where(usable, features, 0), is_known, groups)
    if found is not None:
        values["combination"] = found[0]
    everything = np.ones(len(is_known))
    areas = {name: _auroc(value, is_known)(everything) or 0.0 for name, value in values.items()}
    best = max(areas, key=lambda name: round(areas[name], 3))
    return (best, SINGLE[best]) if best in SINGLE or found is None else (best, found[1])


def _combine(features: np.ndarray, is_known: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, Weights] | None:
    """Fit a logistic regression: the score of each answer by a fit without its group, and the weights of all.

    A feature with a negative weight is left out: each of them is high for known species. None if fewer than two are
    left, which would be no combination.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    used = np.flatnonzero(features.std(axis=0) > 0)
    weights = np.zeros(features.shape[1])
    while len(used) > 1:
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit(features[:, used], is_known)
        each = model[-1].coef_[0] / model[0].scale_
        if (each > 0).all():
            folds = StratifiedGroupKFold(NUM_FOLDS)
            values = cross_val_predict(
                model, features[:, used], is_known, groups=groups, cv=folds, method="decision_function"
            )
            weights[used] = each
            first, second, third = weights.tolist()
            return np.asarray(values), (first, second, third)
        used = used[each > 0]
    return None


def measure_rejection(rejection: Rejection, test: Answers, unknown: Answers | None = None) -> dict[str, Any]:
    """Measure the rejection on test answers, and on answers for held-out species that it was not chosen by."""
    unknown = test.select(np.arange(0)) if unknown is None else unknown
    is_known, occurrence = _is_known(test, unknown), _occurrence(test, unknown)
    each = [Rejection(score=name, weights=weights) for name, weights in SINGLE.items()]
    values = {one.score: np.r_[_value(one, test), _value(one, unknown)] for one in (*each, rejection)}
    is_rejected = ~np.r_[rejection.keeps(*_parts(test)), rejection.keeps(*_parts(unknown))]
    risk = _Risk(_value(rejection, test), test.top[:, 0] != test.target)
    statistics = {
        "false_reject_rate": share(is_rejected, is_known),
        "unknown_rejected": share(is_rejected, ~is_known),
        "chosen_auroc": _auroc(values[rejection.score], is_known),
        "risk_coverage_area": lambda weight: risk.area(weight[is_known]),
    }
    sides = dict.fromkeys(statistics, (is_known,)) | {
        "unknown_rejected": (~is_known,),
        "chosen_auroc": (is_known, ~is_known),
    }
    found = intervals(statistics, occurrence)
    everything = np.ones(len(is_known))
    return {
        "score": rejection.score,
        "threshold": rejection.threshold,
        "num_unknown": len(unknown),
        "auroc": {name: _auroc(column, is_known)(everything) for name, column in values.items()},
        "risk_coverage": risk.points(),
        **{name: interval_if_enough(found[name], occurrence, *side) for name, side in sides.items()},
    }


def _auroc(value: np.ndarray, is_known: np.ndarray) -> Statistic:
    """The statistic that is the share of pairs of a known and an unknown species in which the known one is higher.

    None if there are no such pairs, or if a value is NaN. The values are sorted once: scikit-learn's `roc_auc_score`
    would sort them for each replicate.
    """
    _, level = np.unique(value, return_inverse=True)
    is_searched = not np.isnan(value).any()

    def area(weight: np.ndarray) -> float | None:
        known, unknown = (np.bincount(level, weight * side) for side in (is_known, ~is_known))
        lower = np.cumsum(unknown) - unknown / 2
        return ratio((known * lower).sum(), known.sum() * unknown.sum()) if is_searched else None

    return area


class _Risk:
    """The share of answers that each threshold keeps, and the share of these that is wrong.

    Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", arXiv 1805.08206. Answers
    with equal values are kept together. Nothing is defined if a value is NaN.
    """

    def __init__(self, value: np.ndarray, is_wrong: np.ndarray) -> None:
        levels, self._level = np.unique(-value, return_inverse=True)
        self._num_levels = 0 if np.isnan(value).any() else len(levels)
        self._is_wrong = is_wrong

    def area(self, weight: np.ndarray) -> float | None:
        """The mean of the shares of wrong answers over all shares of kept answers."""
        num, _, risk = self._curve(weight)
        return ratio((num * risk).sum(), num.sum())

    def points(self) -> list[tuple[float, float]]:
        """The curve at NUM_POINTS places or fewer: share kept, share wrong. The last one keeps all answers."""
        if not self._num_levels:
            return []
        _, kept, risk = self._curve(np.ones(len(self._level)))
        places = np.unique(np.linspace(0, self._num_levels - 1, NUM_POINTS).round().astype(int))
        return list(zip((kept[places] / kept[-1]).tolist(), risk[places].tolist(), strict=True))

    def _curve(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not self._num_levels:
            return (np.zeros(0),) * 3
        num, num_wrong = (np.bincount(self._level, each) for each in (weight, weight * self._is_wrong))
        kept = np.cumsum(num)
        return num, kept, np.cumsum(num_wrong) / np.maximum(kept, TINY)


def _parts(answers: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return answers.scores[:, 0], answers.energy, answers.similarity


def _value(rejection: Rejection, answers: Answers) -> np.ndarray:
    return rejection.value(*_parts(answers))


def _features(known: Answers, unknown: Answers) -> np.ndarray:
    columns = zip(_parts(known), _parts(unknown), strict=True)
    return np.asarray(np.stack([np.concatenate(pair) for pair in columns], axis=1))


def _is_known(known: Answers, unknown: Answers) -> np.ndarray:
    return np.asarray(np.arange(len(known) + len(unknown)) < len(known))


def _occurrence(known: Answers, unknown: Answers) -> np.ndarray:
    """The occurrences of both: those of unknown species get other numbers than those of known ones."""
    first = known.occurrence.max(initial=-1) + 1
    return np.concatenate([known.occurrence, unknown.occurrence + first])
