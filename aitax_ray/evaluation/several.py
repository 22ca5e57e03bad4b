"""Limits for several photographs of an individual, and how answers to them are measured."""

import numpy as np

from aitax_ray.evaluation.acceptance import fit_part
from aitax_ray.evaluation.answering import FittedFusion, Side, answer
from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import Interval, intervals
from aitax_ray.evaluation.conformal import fit_plain
from aitax_ray.evaluation.decisions import Decisions, Limits
from aitax_ray.evaluation.questions import Questions, ask_together
from aitax_ray.evaluation.rejection import set_thresholds
from aitax_ray.evaluation.rollup import raise_rollup
from aitax_ray.evaluation.thresholds import interval_if_enough, share
from aitax_ray.evaluation.verdicts import evidence_of, give_verdicts, judge_alone


def fit_several(
    val: Side, decisions: Decisions, fitted: FittedFusion, taxonomy: Taxonomy, coverage: float
) -> tuple[Limits, ...]:
    """Fit the limits for two photographs, and for three or more, as far as there are temperatures for them.

    `decisions` has the limits for one photograph.
    """
    asked = (ask_together(val.photographs, 2, 2), ask_together(val.photographs, 3))
    found = []
    for questions, num in zip(asked, fitted.num_questions[1:], strict=True):
        if not num:
            break
        several = answer(val, questions, decisions.fusion, decisions.vote, taxonomy)
        together = evidence_of(several, taxonomy)
        alone = evidence_of(answer_alone(val, questions, decisions, taxonomy), taxonomy)
        is_known, is_accepted = (
            np.logical_and.reduceat(each, questions.starts)
            for each in judge_alone(decisions, together, alone, questions.sizes)
        )
        limits = Limits(
            rejection=set_thresholds(decisions.rejection, several, is_known),
            rollup=raise_rollup(decisions.rollup, several, taxonomy),
            candidates=fit_plain(several.target_score, coverage),
            acceptance_part=fit_part(decisions.acceptance, several, is_accepted),
        )
        found.append(limits)
    return tuple(found)


def answer_alone(side: Side, questions: Questions, decisions: Decisions, taxonomy: Taxonomy) -> Answers:
    """Answer to each photograph of the questions alone."""
    each = Questions(questions.rows, np.arange(len(questions.rows)))
    return answer(side, each, decisions.fusion, decisions.vote, taxonomy)


def measure_verdicts(
    side: Side, questions: Questions, answers: Answers, decisions: Decisions, taxonomy: Taxonomy
) -> dict[str, Interval]:
    """Measure the verdicts on answers to questions about one or more photographs."""
    alone = answer_alone(side, questions, decisions, taxonomy)
    verdicts = give_verdicts(decisions, evidence_of(answers, taxonomy), evidence_of(alone, taxonomy), questions.starts)
    statistics = {
        "rejected": share(~verdicts.is_known),
        "accepted": share(verdicts.is_accepted),
        "accepted_precision": share(answers.top[:, 0] == answers.target, verdicts.is_accepted),
        "coverage": share(covers(decisions, answers, alone, questions.starts, len(taxonomy.keys))),
    }
    found = intervals(statistics, answers.occurrence)
    precision = interval_if_enough(found["accepted_precision"], answers.occurrence, verdicts.is_accepted)
    return found | {"accepted_precision": precision}


def covers(decisions: Decisions, together: Answers, alone: Answers, starts: np.ndarray, num_classes: int) -> np.ndarray:
    """Whether the candidates of each individual hold the right species, bool (Q,).

    Without limits for so many photographs, the candidates of each photograph count too.
    """
    is_covered = decisions.candidates.covers(together, num_classes)
    if len(starts):
        is_covered |= np.logical_or.reduceat(decisions.candidates.covers(alone, num_classes), starts)
    for number in np.unique(together.num_photographs).tolist():
        limits = decisions.limits(number)
        if limits:
            here = together.num_photographs == number
            is_covered[here] = limits.candidates.covers(together.select(here), num_classes)
    return is_covered
