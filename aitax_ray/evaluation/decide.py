"""Makes all decisions of an engine from answers to validation photographs, each after those that it needs."""

from dataclasses import dataclass

import numpy as np

from aitax_ray.evaluation.acceptance import Acceptances, fit_acceptance
from aitax_ray.evaluation.answering import FittedFusion, Side, answer, fit_fusion
from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.conformal import fit_balanced, fit_plain
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.lookalikes import find_groups, find_pairs
from aitax_ray.evaluation.neighbors import Vote, choose_vote
from aitax_ray.evaluation.questions import ask_alone
from aitax_ray.evaluation.rejection import fit_rejection
from aitax_ray.evaluation.rollup import fit_rollup
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.evaluation.several import fit_several


@dataclass(frozen=True)
class Decided:
    """The decisions, and what they stand on."""

    decisions: Decisions
    fitted: FittedFusion
    acceptances: Acceptances
    val: Answers
    """The answers to each validation photograph alone."""
    taxonomy: Taxonomy
    num_train: np.ndarray
    """int64 (K,): training photographs per class."""
    num_added: int = 0
    """The last classes: species that `index --add` added to the trained ones."""


def fit_scores(val: Side, taxonomy: Taxonomy) -> tuple[Vote, FittedFusion]:
    """Choose the share of the neighbours' vote, the rule for several photographs, and the temperatures."""
    fitted = fit_fusion(val, Vote())
    if val.neighbors is None:
        return Vote(), fitted
    alone = answer(val, ask_alone(val.photographs), fitted.fusion, Vote(), taxonomy)
    vote = choose_vote(val.neighbors, alone.target, alone.target_score, val.num_train, alone.occurrence)
    return vote, fit_fusion(val, vote) if vote.share else fitted


def decide(
    val: Side,
    unknown: Side | None,
    species: np.ndarray,
    taxonomy: Taxonomy,
    settings: EvaluateSettings,
    num_added: int = 0,
) -> Decided:
    """Make all decisions.

    `unknown` are photographs of species held out, numbered by `species`; other species measure the result. The last
    `num_added` classes were added after the training.
    """
    vote, fitted = fit_scores(val, taxonomy)
    answers = answer(val, ask_alone(val.photographs), fitted.fusion, vote, taxonomy)
    strange = None
    if unknown is not None:
        strange = answer(unknown, ask_alone(unknown.photographs), fitted.fusion, vote, taxonomy)
    acceptances = fit_acceptance(answers, taxonomy, settings.target_precision, num_added)
    target, score = answers.target, answers.target_score
    decisions = Decisions(
        fusion=fitted.fusion,
        vote=vote,
        rejection=fit_rejection(answers, strange, species, settings.false_reject_rate),
        rollup=fit_rollup(answers, taxonomy, settings.target_precision),
        candidates=fit_plain(score, settings.coverage),
        balanced_candidates=fit_balanced(target, score, val.num_train, settings.coverage),
        acceptance=acceptances.acceptance,
        groups=tuple(find_groups(find_pairs(answers, len(taxonomy.keys)), taxonomy)),
    )
    several = fit_several(val, decisions, fitted, taxonomy, settings.coverage)
    decisions = decisions.model_copy(update={"several": several})
    return Decided(decisions, fitted, acceptances, answers, taxonomy, val.num_train, num_added)
