"""The answers of a classifier to questions whose right answer is known: one row per question, a few numbers each.

A question is one photograph, or several photographs of one occurrence together. All figures of the evaluation are
computed from these rows, so that no array grows with photographs times species.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Taxonomy:
    """The K classes in the order of class_index, with the genus and the family of each."""

    keys: list[str]
    """The species keys."""
    names: list[str]
    """Canonical names of the species."""
    genus: np.ndarray
    """int32 (K,): index into `genera`; -1 where the genus is not known."""
    family: np.ndarray
    """int32 (K,): index into `families`; -1 where the family is not known."""
    genera: list[str]
    families: list[str]


def make_taxonomy(keys: Sequence[str], names: Sequence[str], genus: Sequence[str], family: Sequence[str]) -> Taxonomy:
    """Number the genera and families, in the order of their names. A species without a name has its key for one."""

    def number(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        known = sorted({value for value in values if value})
        place = {name: number for number, name in enumerate(known)}
        return np.array([place.get(value, -1) for value in values], np.int32), known

    genus_of, genera = number(genus)
    family_of, families = number(family)
    shown = [name or key for name, key in zip(names, keys, strict=True)]
    return Taxonomy(list(keys), shown, genus_of, family_of, genera, families)


@dataclass(frozen=True)
class Answers:
    """Answers to N questions. Where the logits are not finite, `top` is -1 and the scores are 0."""

    image_id: np.ndarray
    """str (N,): the photograph, or the first one of several."""
    occurrence: np.ndarray
    """int64 (N,): number of the occurrence. Photographs of one occurrence are not independent."""
    num_photographs: np.ndarray
    """int64 (N,)."""
    target: np.ndarray
    """int64 (N,): class_index of the right species; -1 for a species that is no class."""
    top: np.ndarray
    """int32 (N, min(5, K)): class_index, best first."""
    scores: np.ndarray
    """float32 (N, min(5, K)): the calibrated probabilities of `top`."""
    target_score: np.ndarray
    """float32 (N,): calibrated probability of the right species; NaN where it is no class."""
    sum_of_squares: np.ndarray
    """float32 (N,): sum over the classes of the squared calibrated probabilities, for the Brier score."""
    raw_score: np.ndarray
    """float32 (N,): the largest probability before calibration, at temperature 1."""
    raw_target_score: np.ndarray
    """float32 (N,)."""
    raw_sum_of_squares: np.ndarray
    """float32 (N,)."""
    genus: np.ndarray
    """int32 (N,): the genus with the largest sum of scores; -1 where no genus is known."""
    family: np.ndarray
    """int32 (N,)."""
    genus_score: np.ndarray
    """float32 (N,): sum of the scores of the genus of the best species."""
    family_score: np.ndarray
    """float32 (N,)."""
    energy: np.ndarray
    """float32 (N,): log of the sum of the exponentials of the calibrated logits. Low values hint at unknown species."""
    similarity: np.ndarray
    """float32 (N,): cosine with the nearest training photograph; NaN where none was searched."""

    def __len__(self) -> int:
        return len(self.target)

    def select(self, which: np.ndarray) -> "Answers":
        """Keep some questions, by a mask or by their places."""
        return Answers(**{field.name: getattr(self, field.name)[which] for field in fields(self)})
