"""What an answer may be believed for: the decisions of evaluation, applied to the scores of one individual.

`aitax evaluate` makes the decisions on validation photographs, and measures them on test photographs. This module
applies the same functions, so the measured figures hold for the service.
"""

from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.answers import Taxonomy
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.rollup import RANKS
from aitax_ray.evaluation.verdicts import Evidence, give_verdicts

MIN_GROUP_SCORE = 0.005  # sums of scores below are not listed


@dataclass(frozen=True)
class GroupScore:
    """A genus or family, and the sum of the scores of its species."""

    name: str
    score: float


@dataclass(frozen=True)
class Scores:
    """The scores of Q answers."""

    probabilities: np.ndarray
    """float32 (Q, K)."""
    energy: np.ndarray
    """float32 (Q,): see Fusion.energy."""
    similarity: np.ndarray
    """float32 (Q,): largest cosine with an indexed photograph."""


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


def judge(decisions: Decisions, taxonomy: Taxonomy, together: Scores, alone: Scores) -> Judgement:
    """Judge the scores of an individual: those of its photographs together (1, K), and of each alone (N, K)."""
    evidence = _evidence(taxonomy, together)
    each = evidence if alone is together else _evidence(taxonomy, alone)
    verdicts = give_verdicts(decisions, evidence, each, np.zeros(1, np.int64))
    scores, best, rank = together.probabilities[0], int(evidence.top[0]), int(verdicts.rank[0])
    names = [
        taxonomy.names[best],
        *(titles[group[best]] if group[best] >= 0 else "" for group, titles in _groups(taxonomy)),
    ]
    limits = decisions.limits(len(alone.probabilities))
    # Without limits for so many photographs: the species that one of them would have as a candidate.
    seen = together.probabilities if limits else np.concatenate([together.probabilities, alone.probabilities])
    rule = limits.candidates if limits else decisions.candidates
    is_candidate = np.asarray(np.any(seen >= rule.limits(len(scores)), axis=0))
    is_candidate[best] = True
    candidates = np.flatnonzero(is_candidate)
    order = candidates[np.argsort(-scores[candidates], kind="stable")].tolist()
    alike = {other for group in decisions.groups if best in group.species for other in group.species} - {best}
    return Judgement(
        is_known=bool(verdicts.is_known[0]),
        rank=RANKS[rank] if rank >= 0 else "",
        name=names[rank] if rank >= 0 else "",
        score=float(evidence.rank_scores[0, rank]) if rank >= 0 else 0.0,
        is_accepted=bool(verdicts.is_accepted[0]),
        precision=decisions.acceptance.precision,
        candidates=tuple(taxonomy.keys[n] for n in order),
        promise=rule.promise,
        lookalikes=tuple(taxonomy.names[n] for n in sorted(alike)),
        similarity=float(together.similarity[0]),
    )


def _evidence(taxonomy: Taxonomy, scores: Scores) -> Evidence:
    best = scores.probabilities.argmax(axis=1)
    rows = np.arange(len(best))
    sums = np.full((len(best), len(RANKS)), np.nan, np.float32)
    sums[:, 0] = scores.probabilities[rows, best]
    for place, (group, _) in enumerate(_groups(taxonomy), 1):
        for row in np.flatnonzero(group[best] >= 0):
            sums[row, place] = scores.probabilities[row, group == group[best[row]]].sum()
    return Evidence(best, sums, scores.energy, scores.similarity)


def add_up(taxonomy: Taxonomy, scores: np.ndarray) -> tuple[tuple[GroupScore, ...], tuple[GroupScore, ...]]:
    """Add up the scores (K,) of the species of each genus and of each family: two lists, best first.

    Sums below MIN_GROUP_SCORE are left out.
    """

    def sums(group: np.ndarray, names: list[str]) -> tuple[GroupScore, ...]:
        totals = np.bincount(group + 1, scores, minlength=len(names) + 1)[1:]  # the first one is of those without
        kept = np.flatnonzero(totals >= MIN_GROUP_SCORE)
        order = kept[np.argsort(-totals[kept], kind="stable")]
        return tuple(GroupScore(names[n], float(totals[n])) for n in order)

    genera, families = (sums(group, names) for group, names in _groups(taxonomy))
    return genera, families


def _groups(taxonomy: Taxonomy) -> list[tuple[np.ndarray, list[str]]]:
    return [(taxonomy.genus, taxonomy.genera), (taxonomy.family, taxonomy.families)]
