"""Roll-up: an answer names the species if that is certain enough, else its genus, else its family, else nothing."""

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import intervals
from aitax_ray.evaluation.thresholds import interval_if_enough, lowest_precise, share

RANKS = ("species", "genus", "family")
MIN_ANSWERS = 10  # from which on a threshold is found for a rank


class Rollup(BaseModel):
    """The lowest score for an answer at each rank; None: no answer is given at this rank."""

    model_config = ConfigDict(frozen=True)

    precision: float = 0.95
    """The share of the answers at each rank that should be right."""
    species: float | None = None
    genus: float | None = None
    family: float | None = None

    def rank(self, scores: np.ndarray) -> np.ndarray:
        """Choose the rank of N answers: int8 (N,), a place in RANKS, -1 for no answer.

        `scores` (N, 3) are those of the best species, of its genus and of its family; NaN where there is none.
        """
        limits = [getattr(self, name) for name in RANKS]
        is_enough = scores >= np.array([np.inf if limit is None else limit for limit in limits], scores.dtype)
        return np.where(is_enough.any(axis=1), is_enough.argmax(axis=1), -1).astype(np.int8)


def rank_scores(answers: Answers, taxonomy: Taxonomy) -> np.ndarray:
    """The scores of the best species, its genus and its family, float32 (N, 3); NaN where there is none."""
    best = answers.top[:, 0]
    scores = np.stack([answers.scores[:, 0], answers.genus_score, answers.family_score], axis=1)
    is_known = np.stack([best >= 0, taxonomy.genus[best] >= 0, taxonomy.family[best] >= 0], axis=1)
    return np.asarray(np.where(is_known & (best >= 0)[:, None], scores, np.nan), np.float32)


def is_right_at(answers: Answers, taxonomy: Taxonomy) -> np.ndarray:
    """Whether the best species, its genus and its family are right, bool (N, 3). An unknown species is never right."""
    best, target = answers.top[:, 0], answers.target
    is_known = (best >= 0) & (target >= 0)
    same = [best == target]
    same += [(group[best] == group[target]) & (group[best] >= 0) for group in (taxonomy.genus, taxonomy.family)]
    return np.asarray(np.stack(same, axis=1) & is_known[:, None])


def fit_rollup(val: Answers, taxonomy: Taxonomy, precision: float = 0.95) -> Rollup:
    """Find the lowest threshold of each rank at which enough of its answers are right, from the species upwards.

    The answers at a rank are those that no lower rank gives. A rank with fewer than MIN_ANSWERS is left out.
    """
    scores, is_right = rank_scores(val, taxonomy), is_right_at(val, taxonomy)
    rollup = Rollup(precision=precision)
    for place, name in enumerate(RANKS):
        is_free = (rollup.rank(scores) < 0) & ~np.isnan(scores[:, place])
        limit = lowest_precise(scores[is_free, place], is_right[is_free, place], precision, MIN_ANSWERS)
        rollup = rollup.model_copy(update={name: limit})
    return rollup


def raise_rollup(rollup: Rollup, several: Answers, taxonomy: Taxonomy) -> Rollup:
    """Raise the thresholds where too few answers to several photographs are right at them.

    They are never lowered, and stay where fewer than MIN_ANSWERS reach them: a few answers prove nothing.
    """
    scores, is_right = rank_scores(several, taxonomy), is_right_at(several, taxonomy)
    raised = Rollup(precision=rollup.precision)
    for place, name in enumerate(RANKS):
        limit = getattr(rollup, name)
        if limit is not None:
            is_given = (raised.rank(scores) < 0) & (scores[:, place] >= np.float32(limit))
            if is_given.sum() >= MIN_ANSWERS:
                limit = lowest_precise(
                    scores[is_given, place], is_right[is_given, place], rollup.precision, MIN_ANSWERS
                )
        raised = raised.model_copy(update={name: limit})
    return raised


def measure_rollup(rollup: Rollup, test: Answers, taxonomy: Taxonomy) -> dict[str, Any]:
    """Measure the share of the answers at each rank, and how many of these are right."""
    rank, is_right = rollup.rank(rank_scores(test, taxonomy)), is_right_at(test, taxonomy)
    statistics = {"unanswered": share(rank < 0)}
    for place, name in enumerate(RANKS):
        statistics[f"{name} share"] = share(rank == place)
        statistics[f"{name} precision"] = share(is_right[:, place], rank == place)
    found = intervals(statistics, test.occurrence)
    return {
        "precision_wanted": rollup.precision,
        "ranks": [
            {
                "rank": name,
                "threshold": getattr(rollup, name),
                "share": found[f"{name} share"],
                "precision": interval_if_enough(found[f"{name} precision"], test.occurrence, rank == place),
            }
            for place, name in enumerate(RANKS)
        ],
        "unanswered": found["unanswered"],
    }
