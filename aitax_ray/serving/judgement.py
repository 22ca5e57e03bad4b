"""What an answer may be believed for: the decisions of evaluation, applied to the scores of one individual.

`aitax evaluate` makes the decisions on validation photographs, and measures them on test photographs. This module
applies the same functions, so the measured figures hold for the service.
"""

from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.answers import Taxonomy
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.rollup import RANKS

MIN_GROUP_SCORE = 0.005  # sums of scores below are not listed


@dataclass(frozen=True)
class GroupScore:
    """A genus or family, and the sum of the scores of its species."""

    name: str
    score: float


@dataclass(frozen=True)
class Judgement:
    """How far an answer can be believed."""

    is_known: bool
    """False: the species is probably none that the engine knows, or none is on the photograph."""
    rank: str
    """The lowest rank that is certain enough to be named: species, genus or family; "" for none of them."""
    name: str
    """The name at this rank; "" for none."""
    score: float
    """Its probability; 0 for none."""
    is_accepted: bool
    """Whether the best species may be accepted without a look at the photograph."""
    precision: float
    """The share of accepted answers, and of answers at each rank, that should be right."""
    candidates: tuple[str, ...]
    """Keys of the species that hold the right one with the probability `promise`, best first."""
    promise: float
    lookalikes: tuple[str, ...]
    """Names of the species that the engine cannot separate from the best one."""
    similarity: float
    """Cosine with the most similar indexed photograph, of any species."""

    @property
    def is_sure(self) -> bool:
        """Whether answers like this one are right as often as `precision` says."""
        return self.is_known and (self.is_accepted or self.rank == "species")


def judge(decisions: Decisions, taxonomy: Taxonomy, scores: np.ndarray, energy: float, similarity: float) -> Judgement:
    """Judge the scores (K,) of an individual, with the energy of its logits and its largest similarity."""
    best = int(scores.argmax())
    keeps = decisions.rejection.keeps(scores[[best]], np.array([energy]), np.array([similarity]))
    names, sums = [taxonomy.names[best], "", ""], np.array([[scores[best], np.nan, np.nan]], np.float32)
    for place, (group, titles) in enumerate(_groups(taxonomy), 1):
        if group[best] >= 0:
            names[place] = titles[group[best]]
            sums[0, place] = scores[group == group[best]].sum()
    rank = int(decisions.rollup.rank(sums)[0])
    is_candidate = scores >= decisions.candidates.limits(len(scores))
    is_candidate[best] = True
    candidates = np.flatnonzero(is_candidate)
    alike = {other for group in decisions.groups if best in group.species for other in group.species} - {best}
    return Judgement(
        is_known=bool(keeps[0]),
        rank=RANKS[rank] if rank >= 0 else "",
        name=names[rank] if rank >= 0 else "",
        score=float(sums[0, rank]) if rank >= 0 else 0.0,
        is_accepted=bool(decisions.acceptance.accepts(np.array([best]), scores[[best]])[0]),
        precision=decisions.acceptance.precision,
        candidates=tuple(taxonomy.keys[n] for n in candidates[np.argsort(-scores[candidates], kind="stable")]),
        promise=decisions.candidates.promise,
        lookalikes=tuple(taxonomy.names[n] for n in sorted(alike)),
        similarity=similarity,
    )


def add_up(taxonomy: Taxonomy, scores: np.ndarray) -> tuple[tuple[GroupScore, ...], tuple[GroupScore, ...]]:
    """Add up the scores (K,) of the species of each genus and of each family: two lists, best first.

    Sums below MIN_GROUP_SCORE are left out.
    """

    def sums(group: np.ndarray, names: list[str]) -> tuple[GroupScore, ...]:
        is_known = group >= 0
        totals = np.bincount(group[is_known], scores[is_known], minlength=len(names))
        kept = np.flatnonzero(totals >= MIN_GROUP_SCORE)
        order = kept[np.argsort(-totals[kept], kind="stable")]
        return tuple(GroupScore(names[n], float(totals[n])) for n in order)

    genera, families = (sums(group, names) for group, names in _groups(taxonomy))
    return genera, families


def _groups(taxonomy: Taxonomy) -> list[tuple[np.ndarray, list[str]]]:
    return [(taxonomy.genus, taxonomy.genera), (taxonomy.family, taxonomy.families)]
