"""Makes answers for tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aitax_ray.evaluation.answers import Answers, Taxonomy


def make_answers(
    target: Sequence[int],
    top: Sequence[int] | Sequence[Sequence[int]],
    score: Sequence[float] | None = None,
    occurrence: Sequence[int] | None = None,
    **others: Any,
) -> Answers:
    """Make answers from the right class, the best class or classes, and the score of the best one.

    Unless given, each question has an occurrence of its own; the best class has the score 1; a right class that is not
    the best one has what is left; the rest of the fields follows from these.
    """
    num = len(target)
    right = np.array(target, np.int64)
    classes = np.array(top, np.int32).reshape(num, -1) if num else np.zeros((0, 1), np.int32)
    best = np.ones(num, np.float32) if score is None else np.array(score, np.float32)
    rest = (1 - best)[:, None] / max(classes.shape[1] - 1, 1)
    scores = np.concatenate([best[:, None], np.broadcast_to(rest, (num, classes.shape[1] - 1))], axis=1)
    target_score = np.where(classes[:, 0] == right, best, 1 - best).astype(np.float32)
    target_score[right < 0] = np.nan
    sum_of_squares = (best**2 + (1 - best) ** 2).astype(np.float32)
    fields: dict[str, Any] = {
        "image_id": np.array([f"{place:040x}" for place in range(num)]),
        "occurrence": np.arange(num) if occurrence is None else np.array(occurrence, np.int64),
        "num_photographs": np.ones(num, np.int64),
        "target": right,
        "top": classes,
        "scores": scores.astype(np.float32),
        "target_score": target_score,
        "sum_of_squares": sum_of_squares,
        "raw_score": best,
        "raw_target_score": target_score,
        "raw_sum_of_squares": sum_of_squares,
        "genus": np.full(num, -1, np.int32),
        "family": np.full(num, -1, np.int32),
        "genus_score": best,
        "family_score": best,
        "energy": np.zeros(num, np.float32),
        "similarity": np.full(num, np.nan, np.float32),
    }
    return Answers(**(fields | {name: np.asarray(value) for name, value in others.items()}))


def make_taxonomy(genus: Sequence[int], family: Sequence[int] | None = None) -> Taxonomy:
    """Make a taxonomy of species "s0", "s1", ... from the genus and the family of each."""
    of_family = [0] * len(genus) if family is None else list(family)
    return Taxonomy(
        keys=[f"k{place}" for place in range(len(genus))],
        names=[f"s{place}" for place in range(len(genus))],
        genus=np.array(genus, np.int32),
        family=np.array(of_family, np.int32),
        genera=[f"g{place}" for place in range(max([*genus, -1]) + 1)],
        families=[f"f{place}" for place in range(max([*of_family, -1]) + 1)],
    )
