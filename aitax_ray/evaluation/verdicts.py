"""Verdicts on answers: is the species known, which rank is certain, may the answer be accepted without a look.

Limits that single photographs gave do not hold for several together. Two photographs that show different sides of an
individual may each be known, and their mean may be below the limit. So there are limits for each number of photographs,
and each photograph is judged alone too.
"""

from dataclasses import dataclass, fields

import numpy as np

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.rollup import rank_scores


@dataclass(frozen=True)
class Evidence:
    """What verdicts on N answers stand on."""

    top: np.ndarray
    """int (N,): the best class; -1 for none."""
    rank_scores: np.ndarray
    """float32 (N, 3): the scores of the best species, of its genus and of its family; NaN where there is none."""
    energy: np.ndarray
    """float32 (N,)."""
    similarity: np.ndarray
    """float32 (N,)."""

    def __len__(self) -> int:
        return len(self.top)

    def select(self, which: np.ndarray) -> "Evidence":
        """Keep some answers."""
        return Evidence(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @property
    def score(self) -> np.ndarray:
        """The scores of the best species, float32 (N,); 0 where there is none."""
        best = self.rank_scores[:, 0]
        return np.asarray(np.where(np.isnan(best), np.float32(0), best))

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a rejection decides by."""
        return self.score, self.energy, self.similarity


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on N answers."""

    is_known: np.ndarray
    """bool (N,): false if the species is probably none of the engine's."""
    is_accepted: np.ndarray
    """bool (N,): whether the answer may be accepted without a look at the photographs."""
    rank: np.ndarray
    """int8 (N,): a place in rollup.RANKS, -1 for none."""


def evidence_of(answers: Answers, taxonomy: Taxonomy) -> Evidence:
    """The evidence of answers of the evaluation."""
    return Evidence(answers.top[:, 0], rank_scores(answers, taxonomy), answers.energy, answers.similarity)


def give_verdicts(decisions: Decisions, together: Evidence, alone: Evidence, starts: np.ndarray) -> Verdicts:
    """Judge the answers to Q individuals.

    `together` are the answers to all photographs of each. `alone` are those to each photograph; the photographs of an
    individual stand together from its place in `starts` (Q,) on. An individual is known, or accepted, if all its
    photographs are alone, with the same species. Else the limits for its number of photographs decide. Where there are
    none, an individual is known if one of its photographs is: so known species are not rejected too often. Roll-up and
    acceptance then have the limits of one photograph: the mean of probabilities is no surer of itself than they are.
    """
    sizes = np.diff(np.append(starts, len(alone)))
    is_known_alone, is_accepted_alone = judge_alone(decisions, together, alone, sizes)
    is_known, is_accepted = (
        np.logical_and.reduceat(each, starts) if len(starts) else np.zeros(0, bool)
        for each in (is_known_alone, is_accepted_alone)
    )
    is_one_known = np.logical_or.reduceat(is_known_alone, starts) if len(starts) else is_known
    rank = np.full(len(starts), -1, np.int8)
    for number in np.unique(sizes).tolist():
        here, limits = sizes == number, decisions.limits(number)
        given, part = together.select(here), limits.acceptance_part if limits else 1.0
        is_known[here] |= limits.rejection.keeps(*given.parts) if limits else is_one_known[here]
        is_accepted[here] |= decisions.acceptance.accepts(given.top, given.score, part)
        rank[here] = (limits.rollup if limits else decisions.rollup).rank(given.rank_scores)
    return Verdicts(is_known, is_accepted, rank)


def judge_alone(
    decisions: Decisions, together: Evidence, alone: Evidence, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each photograph alone is known, and is accepted with the species of its individual: two bool arrays."""
    is_same = alone.top == np.repeat(together.top, sizes)
    is_accepted = decisions.acceptance.accepts(alone.top, alone.score) & is_same
    return decisions.rejection.keeps(*alone.parts), is_accepted
