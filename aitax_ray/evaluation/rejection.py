"""Rejection: which answers to keep back because the species is probably none that the engine knows.

Held-out species are species that were left out of training on purpose. Their photographs show which score tells them
apart best. Without them the largest probability is taken, and nothing is said about unknown species.
"""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.bootstrap import Interval, interval
from aitax_ray.evaluation.thresholds import TINY, highest_limit, ratio, share

Score = Literal["max_probability", "energy", "similarity", "combination"]
Weights = tuple[float, float, float]
SINGLE: dict[Score, Weights] = {
    "max_probability": (1.0, 0.0, 0.0),
    "energy": (0.0, 1.0, 0.0),
    "similarity": (0.0, 0.0, 1.0),
}
MIN_UNKNOWN = 10  # occurrences of held-out species from which on a score is chosen
NUM_FOLDS = 5
NUM_POINTS = 100  # of the curve
NOTHING = Interval(None)


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


def fit_rejection(known: Answers, unknown: Answers | None = None, false_reject_rate: float = 0.05) -> Rejection:
    """Choose the score by its AUROC, and the threshold by the share of known species that may be rejected.

    `known` are validation answers. `unknown` are answers for held-out species; others measure the result. The share
    is a promise for new photographs like these, see `highest_limit`.
    """
    score, weights = _choose(known, unknown)
    rejection = Rejection(score=score, weights=weights, false_reject_rate=false_reject_rate)
    limits = [float(highest_limit(_value(each, known), false_reject_rate)) for each in (rejection, Rejection())]
    threshold, of_probability = (limit if np.isfinite(limit) else None for limit in limits)
    return rejection.model_copy(update={"threshold": threshold, "probability_threshold": of_probability})


def _choose(known: Answers, unknown: Answers | None) -> tuple[Score, Weights]:
    """Choose the score with the largest AUROC; of scores that are equal to 3 digits the simplest one.

    The combination is measured on answers that it was not fitted on.
    """
    default: tuple[Score, Weights] = ("max_probability", SINGLE["max_probability"])
    if unknown is None:
        return default
    # Answers without finite logits are rejected by any score.
    known, unknown = (side.select(side.scores[:, 0] > 0) for side in (known, unknown))
    if min(len(np.unique(side.occurrence)) for side in (known, unknown)) < MIN_UNKNOWN:
        return default
    features, is_known = _features(known, unknown), _is_known(known, unknown)
    usable = np.isfinite(features).all(axis=0)
    combined, weights = _combine(features[:, usable], is_known, _occurrence(known, unknown))
    single = {name: features[:, place] for place, name in enumerate(SINGLE) if usable[place]}
    values = single | {"combination": combined}
    areas = {name: _auroc(value, is_known).value or 0.0 for name, value in values.items()}
    best = max(areas, key=lambda name: round(areas[name], 3))
    if best in SINGLE:
        return best, SINGLE[best]
    of_all = np.zeros(3)
    of_all[usable] = weights
    first, second, third = of_all.tolist()
    return "combination", (first, second, third)


def _combine(features: np.ndarray, is_known: np.ndarray, occurrence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic regression: the score of each answer by a fit without its occurrence, and the weights of all."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedGroupKFold(NUM_FOLDS)
    values = cross_val_predict(model, features, is_known, groups=occurrence, cv=folds, method="decision_function")
    model.fit(features, is_known)
    return np.asarray(values), np.asarray(model[-1].coef_[0] / model[0].scale_)


def measure_rejection(rejection: Rejection, test: Answers, unknown: Answers | None = None) -> dict[str, Any]:
    """Measure the rejection on test answers, and on answers for held-out species that it was not chosen by."""
    value = _value(rejection, test)
    is_kept = rejection.keeps(*_parts(test))
    curve, area = _risk_and_coverage(value, test.top[:, 0] != test.target, test.occurrence)
    measured = {
        "score": rejection.score,
        "threshold": rejection.threshold,
        "false_reject_rate": share(~is_kept, test.occurrence),
        "risk_coverage": curve,
        "risk_coverage_area": area,
        "num_unknown": 0,
        "unknown_rejected": NOTHING,
        "chosen_auroc": NOTHING,
        "auroc": dict.fromkeys([*SINGLE, rejection.score]),
    }
    if unknown is None or not len(unknown):
        return measured
    is_known, occurrence = _is_known(test, unknown), _occurrence(test, unknown)
    each = [Rejection(score=name, weights=weights) for name, weights in SINGLE.items()]
    values = {one.score: np.r_[_value(one, test), _value(one, unknown)] for one in (*each, rejection)}
    return measured | {
        "num_unknown": len(unknown),
        "unknown_rejected": share(~rejection.keeps(*_parts(unknown)), unknown.occurrence),
        "chosen_auroc": _auroc(values[rejection.score], is_known, occurrence),
        "auroc": {name: _auroc(column, is_known).value for name, column in values.items()},
    }


def _auroc(value: np.ndarray, is_known: np.ndarray, occurrence: np.ndarray | None = None) -> Interval:
    """The share of pairs of a known and an unknown species in which the known one has the higher value.

    None if there are no such pairs, or if a value is NaN. With `occurrence` it has an interval: for this the values are
    sorted once, while scikit-learn's `roc_auc_score` would sort them for each replicate.
    """
    if np.isnan(value).any():
        return NOTHING
    _, level = np.unique(value, return_inverse=True)

    def area(weight: np.ndarray) -> float | None:
        known, unknown = (np.bincount(level, weight * side) for side in (is_known, ~is_known))
        lower = np.cumsum(unknown) - unknown / 2
        return ratio((known * lower).sum(), known.sum() * unknown.sum())

    return Interval(area(np.ones(len(value)))) if occurrence is None else interval(area, occurrence)


def _risk_and_coverage(
    value: np.ndarray, is_wrong: np.ndarray, occurrence: np.ndarray
) -> tuple[list[tuple[float, float]], Interval]:
    """The share of answers that each threshold keeps and the share of these that is wrong, and the area below.

    Geifman et al. 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", arXiv 1805.08206. Answers
    with equal values are kept together. At most NUM_POINTS points are given, the one that keeps all included.
    """
    if np.isnan(value).any() or not len(value):
        return [], NOTHING
    levels, level = np.unique(-value, return_inverse=True)

    def curve(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num, num_wrong = (np.bincount(level, each, len(levels)) for each in (weight, weight * is_wrong))
        kept = np.cumsum(num)
        return num, kept, np.cumsum(num_wrong) / np.maximum(kept, TINY)

    def area(weight: np.ndarray) -> float | None:
        num, _, risk = curve(weight)
        return ratio((num * risk).sum(), num.sum())

    _, kept, risk = curve(np.ones(len(value)))
    places = np.unique(np.linspace(0, len(levels) - 1, NUM_POINTS).round().astype(int))
    points = zip((kept[places] / len(value)).tolist(), risk[places].tolist(), strict=True)
    return list(points), interval(area, occurrence)


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
