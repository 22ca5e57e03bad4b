"""The measurement of an engine on test photographs: all figures of evaluation/metrics.json, from rows of answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aitax_ray.evaluation import figures, reliability
from aitax_ray.evaluation.acceptance import measure_acceptance
from aitax_ray.evaluation.additions import measure_added
from aitax_ray.evaluation.answering import Side, answer
from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import Interval, intervals, mean_of
from aitax_ray.evaluation.conformal import measure_candidates
from aitax_ray.evaluation.decide import Decided
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.figures import as_json, hits
from aitax_ray.evaluation.hardest import list_worst
from aitax_ray.evaluation.lookalikes import Pairs, find_pairs, measure_groups, pair_rows
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.evaluation.questions import Photographs, Questions, ask_alone, ask_together
from aitax_ray.evaluation.rejection import measure_rejection
from aitax_ray.evaluation.rollup import measure_rollup
from aitax_ray.evaluation.several import measure_verdicts

MAX_PAIRS = 100  # pairs of species that were taken for each other


@dataclass(frozen=True)
class Measured:
    """The figures, and the rows that they come from."""

    metrics: dict[str, Any]
    """evaluation/metrics.json."""
    species: list[dict[str, Any]]
    """A row per class, see figures.measure_species; with the acceptance threshold of each."""
    test: Answers
    """The answers to each test photograph alone."""


def measure(
    test: Side,
    unknown: Side | None,
    decided: Decided,
    columns: Mapping[str, Sequence[str]],
    min_group: int,
) -> Measured:
    """Measure the decisions on test photographs.

    `unknown` are photographs of species that were held out. `columns` hold a text per test photograph (its country, its
    publisher, ...), by which the figures are broken down.
    """
    decisions, taxonomy = decided.decisions, decided.taxonomy
    num_classes = len(taxonomy.keys)
    classwise, raw_classwise = reliability.ClasswiseBins(num_classes), reliability.ClasswiseBins(num_classes)
    sizes: list[np.ndarray] = []

    def observe(probabilities: np.ndarray, raw: np.ndarray, target: np.ndarray) -> None:
        classwise.add(probabilities, target)
        raw_classwise.add(raw, target)
        sets = (decisions.candidates, decisions.balanced_candidates)
        sizes.append(np.stack([candidates.count(probabilities) for candidates in sets]))

    fusion, vote = decisions.fusion, decisions.vote
    alone = answer(test, ask_alone(test.photographs), fusion, vote, taxonomy, [observe])
    strange = None
    if unknown is not None:
        strange = answer(unknown, ask_alone(unknown.photographs), fusion, vote, taxonomy)
    plain, balanced = np.concatenate([np.zeros((2, 0), np.int64), *sizes], axis=1)
    photographs = figures.measure(alone)
    after = reliability.measure_calibration(alone, classwise)
    before = reliability.measure_calibration(alone, raw_classwise, raw=True)
    of_frequency = reliability.measure_frequency_calibration(alone, test.num_train)
    frequency = [
        part | {"ece": of_frequency[part["name"]]} for part in figures.measure_frequencies(alone, test.num_train)
    ]
    species, pairs = figures.measure_species(alone, taxonomy, test.num_train), find_pairs(alone, num_classes)
    metrics: dict[str, Any] = {
        **{name: photographs[name].value for name in ("top1", "top5", "macro_top1", "macro_top5")},
        "ece": after["ece"].value,
        "ece_uncalibrated": before["ece"].value,
        "nll": after["nll"].value,
        "nll_uncalibrated": before["nll"].value,
        "temperature": fusion.temperatures[0],
        "photographs": photographs,
        "ranks": figures.measure_ranks(alone, taxonomy),
        "frequency": frequency,
        "occurrences": _measure_occurrences(test, unknown, decided),
        "fusion": {"rule": fusion.rule, "tried": dict(decided.fitted.losses)},
        "calibration": _calibration(alone, decided, before, after),
        "rejection": measure_rejection(decisions.rejection, alone, strange),
        "rollup": measure_rollup(decisions.rollup, alone, taxonomy),
        "candidates": {
            "promise": decisions.candidates.promise,
            "plain": measure_candidates(decisions.candidates, alone, plain, test.num_train),
            "balanced": measure_candidates(decisions.balanced_candidates, alone, balanced, test.num_train),
        },
        "acceptance": measure_acceptance(decisions.acceptance, alone),
        "lookalikes": _lookalikes(pairs, alone, decisions, taxonomy),
        "worst": list_worst(species, pairs),
        "groups": {name: figures.measure_groups(alone, values, min_group) for name, values in columns.items()},
        "knn": _measure_vote(test, alone, decided),
        "added": measure_added(test, alone, decided),
    }
    for row, threshold, reason in zip(
        species, decisions.acceptance.thresholds, decided.acceptances.reason, strict=True
    ):
        is_added = row["class_index"] >= num_classes - decided.num_added
        row |= {"acceptance_threshold": threshold, "acceptance_reason": reason, "is_added": is_added}
    return Measured(as_json(metrics), species, alone)


def _measure_occurrences(test: Side, unknown: Side | None, decided: Decided) -> list[dict[str, Any]]:
    """Measure answers to one, two, three or more photographs, and to all photographs of each occurrence.

    Also how many are rejected or accepted, and how many candidate sets hold the right species.

    Individuals that were photographed more often may be easier ones. So the first photograph of these alone is measured
    too: what more photographs add is the difference from that.
    """
    decisions, taxonomy = decided.decisions, decided.taxonomy
    first, second, third = decisions.fusion.temperatures
    asked: tuple[tuple[str, Callable[[Photographs], Questions], float | None], ...] = (
        ("1", ask_alone, first),
        ("1 of those with 2 or more", lambda photographs: ask_together(photographs, 2, 1), first),
        ("2", lambda photographs: ask_together(photographs, 2, 2), second),
        ("3 or more", lambda photographs: ask_together(photographs, 3), third),
        ("all", lambda photographs: ask_together(photographs, 1), None),
    )

    def answered(side: Side, questions: Questions) -> tuple[Answers, dict[str, Interval]]:
        given = answer(side, questions, decisions.fusion, decisions.vote, taxonomy)
        return given, measure_verdicts(side, questions, given, decisions, taxonomy)

    found = []
    for name, ask, temperature in asked:
        questions = ask(test.photographs)
        given, verdicts = answered(test, questions)
        row: dict[str, Any] = {"num_photographs": name, "num": len(questions), "temperature": temperature}
        row["unknown_rejected"] = None
        if unknown is not None:
            _, of_strange = answered(unknown, ask(unknown.photographs))
            row["unknown_rejected"] = of_strange["rejected"]
        statistics = {"top1": mean_of(hits(given)), "macro_top1": figures.macro_mean(hits(given), given.target)}
        error = reliability.calibration_error(given.scores[:, 0], hits(given))
        measured = intervals(statistics | {"ece": error}, given.occurrence)
        found.append(row | measured | verdicts | {"ece": reliability.reflect(measured["ece"])})
    return found


def _calibration(alone: Answers, decided: Decided, before: Any, after: Any) -> dict[str, Any]:
    fitted, hit = decided.fitted, hits(alone)
    num_occurrences = len(np.unique(decided.val.occurrence))
    return {
        "before": before,
        "after": after,
        "bins_before": reliability.reliability(alone.raw_score, hit),
        "bins": reliability.reliability(alone.scores[:, 0], hit),
        "temperatures": list(fitted.fusion.temperatures),
        "num_fitted": list(fitted.num_questions),
        "is_rough": reliability.is_rough(fitted.log_errors[0]),
        "trust": reliability.say_trust(num_occurrences, fitted.fusion.temperatures, fitted.log_errors),
    }


def _lookalikes(pairs: Pairs, alone: Answers, decisions: Decisions, taxonomy: Taxonomy) -> dict[str, Any]:
    names = taxonomy.names
    return {
        "num_pairs": len(pairs.a),
        "pairs": pair_rows(pairs, taxonomy, MAX_PAIRS),
        "groups": [
            {"species": [names[place] for place in group.species], "name": group.name, "genus": group.genus}
            for group in decisions.groups
        ],
        "answered_as_group": measure_groups(list(decisions.groups), alone, len(names)),
    }


def _measure_vote(test: Side, alone: Answers, decided: Decided) -> dict[str, Any] | None:
    """Measure the answers with and without the neighbours' vote; None where neighbours were not searched.

    With a share of 0 both are the same.
    """
    if test.neighbors is None:
        return None
    vote = decided.decisions.vote
    without = (
        answer(test, ask_alone(test.photographs), decided.decisions.fusion, Vote(), decided.taxonomy)
        if vote.share
        else alone
    )
    is_few = figures.frequency(test.num_train)[np.maximum(test.photographs.target, 0)] == figures.FREQUENCIES.index(
        "few"
    )

    def measured(answers: Answers) -> dict[str, Any]:
        hit = hits(answers)
        few = intervals({"few": mean_of(hit[is_few])}, answers.occurrence[is_few])
        statistics = {"top1": mean_of(hit), "macro_top1": figures.macro_mean(hit, answers.target)}
        return intervals(statistics, answers.occurrence) | few

    return {"share": vote.share, "power": vote.power, "with": measured(alone), "without": measured(without)}
