from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from aitax_ray.engine.bundle import Taxon
from aitax_ray.engine.info import EngineInfo, Thresholds
from aitax_ray.evaluation.acceptance import Acceptance
from aitax_ray.evaluation.answering import Side, answer
from aitax_ray.evaluation.answers import Taxonomy, make_taxonomy
from aitax_ray.evaluation.conformal import Candidates
from aitax_ray.evaluation.decisions import Decisions, Limits
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.lookalikes import LookalikeGroup
from aitax_ray.evaluation.neighbors import Neighbors, Vote
from aitax_ray.evaluation.questions import Photographs, ask_together
from aitax_ray.evaluation.rejection import Rejection
from aitax_ray.evaluation.rollup import RANKS, Rollup
from aitax_ray.evaluation.several import answer_alone, covers
from aitax_ray.evaluation.verdicts import evidence_of, give_verdicts
from aitax_ray.serving.findings import Comparison
from aitax_ray.serving.identifier import Reasoning
from aitax_ray.serving.judgement import GroupScore, Scores, add_up, judge

# Two frogs of one genus, a toad of another family, and a species of which nothing else is known.
TAXONOMY = make_taxonomy(
    ["1", "2", "3", "4"],
    ["Rana alba", "Rana rubra", "Bufo bufo", ""],
    ["Rana", "Rana", "Bufo", ""],
    ["Ranidae", "Ranidae", "Bufonidae", ""],
)
DECISIONS = Decisions(
    rejection=Rejection(score="similarity", weights=(0.0, 0.0, 1.0), threshold=0.5),
    rollup=Rollup(precision=0.9, species=0.8, genus=0.85, family=0.6),
    candidates=Candidates(promise=0.95, limit=(0.2,)),
    acceptance=Acceptance(precision=0.97, thresholds=(0.9, 0.9, None, None)),
    groups=(LookalikeGroup(species=(0, 1), name="Rana alba / Rana rubra", genus="Rana"),),
)


def judged(*scores: float, similarity: float = 0.9) -> Any:
    one = make_scores([scores], [similarity])
    return judge(DECISIONS, TAXONOMY, one, one)


def make_scores(scores: Sequence[Sequence[float]], similarity: Sequence[float]) -> Scores:
    return Scores(np.array(scores, np.float32), np.ones(len(scores), np.float32), np.array(similarity, np.float32))


@pytest.mark.parametrize(
    ("scores", "rank", "name", "score"),
    [
        ((0.9, 0.05, 0.05, 0), "species", "Rana alba", 0.9),
        ((0.5, 0.4, 0.1, 0), "genus", "Rana", 0.9),
        ((0.4, 0.3, 0.3, 0), "family", "Ranidae", 0.7),
        ((0.3, 0.2, 0.2, 0.3), "", "", 0),
        ((0.1, 0.1, 0.1, 0.7), "", "", 0),  # its genus and family are not known
    ],
)
def test_the_lowest_rank_that_is_certain_enough_is_named(
    scores: tuple[float, ...], rank: str, name: str, score: float
) -> None:
    found = judged(*scores)
    assert (found.rank, found.name, found.score) == (rank, name, pytest.approx(score))


def test_an_answer_far_from_all_photographs_is_for_no_known_species() -> None:
    assert judged(0.9, 0.05, 0.05, 0, similarity=0.6).is_known
    assert not judged(0.9, 0.05, 0.05, 0, similarity=0.4).is_known


def test_candidates_reach_the_limit_and_always_have_the_best() -> None:
    assert judged(0.3, 0.45, 0.15, 0.1).candidates == ("2", "1")
    assert judged(0.15, 0.16, 0.17, 0.18).candidates == ("4",)
    assert judged(0.9, 0.05, 0.05, 0).promise == 0.95


def test_a_species_is_accepted_by_its_own_threshold() -> None:
    assert judged(0.95, 0.05, 0, 0).is_accepted
    assert not judged(0.85, 0.15, 0, 0).is_accepted
    assert not judged(0, 0, 1, 0).is_accepted  # it has no threshold
    assert judged(0.95, 0.05, 0, 0).precision == 0.97


def test_species_that_cannot_be_separated_are_named() -> None:
    assert judged(0.9, 0.1, 0, 0).lookalikes == ("Rana rubra",)
    assert judged(0, 0, 1, 0).lookalikes == ()


def test_the_scores_of_genera_and_families_are_sums() -> None:
    genera, families = add_up(TAXONOMY, np.array([0.3, 0.2, 0.001, 0.499]))
    assert genera == (GroupScore("Rana", pytest.approx(0.5)),)  # the sum of Bufo is too small
    assert families == (GroupScore("Ranidae", pytest.approx(0.5)),)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("has_limits", [True, False])
def test_the_service_judges_as_the_evaluation_measures(number: int, has_limits: bool) -> None:
    chance = np.random.default_rng(0)
    num = 100 * number
    directions = np.repeat(chance.normal(size=(100, 4)), number, axis=0) + 0.3 * chance.normal(size=(num, 4))
    near = chance.uniform(0.2, 1, (num, 1)).astype(np.float32)
    photographs = Photographs(
        image_id=np.array([f"{n:040x}" for n in range(num)]),
        occurrence=np.arange(num) // number,
        target=np.repeat(chance.integers(0, 4, 100), number),
        unit=(directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float16),
        length=chance.uniform(0, 12 * number, num).astype(np.float32),
        head=lambda embedding: embedding,
        num_classes=4,
    )
    neighbors = Neighbors(chance.integers(0, 4, (num, 1)), near)
    side = Side(photographs, neighbors, np.array([1, 2, 3, 4]))
    limits = Limits(
        rejection=DECISIONS.rejection.model_copy(update={"threshold": 0.9}),
        rollup=Rollup(species=0.7, genus=0.8, family=0.6),
        candidates=Candidates(promise=0.95, limit=(0.3,)),
        acceptance_part=0.8,
    )
    fusion, vote = Fusion(temperatures=(1.5, 0.8, 0.6)), Vote(share=0.05, num_neighbors=1)
    several = (limits,) if has_limits else ()
    decisions = DECISIONS.model_copy(update={"fusion": fusion, "vote": vote, "several": several})
    questions = ask_together(photographs, number, number)
    answers = answer(side, questions, fusion, vote, TAXONOMY)
    alone = answer_alone(side, questions, decisions, TAXONOMY)
    evidence = [evidence_of(each, TAXONOMY) for each in (answers, alone)]
    verdicts = give_verdicts(decisions, *evidence, questions.starts)
    is_covered = covers(decisions, answers, alone, questions.starts, 4)
    columns = zip(TAXONOMY.keys, *ranks_of(TAXONOMY), strict=True)
    taxa = [Taxon(key, name, name, "", "SPECIES", "", genus, family) for key, name, genus, family in columns]
    info = SimpleNamespace(decisions=decisions, thresholds=Thresholds(min_score=0, max_total_score=1))
    reasoning = Reasoning(cast(EngineInfo, info), taxa)
    votes = neighbors.votes(vote.power, side.num_train)
    for n, start in enumerate(questions.starts.tolist()):
        rows = questions.rows[start : start + number]
        found = reasoning.conclude(photographs.logits(rows), Comparison(near[rows, 0], votes[rows])).judgement
        assert found.rank == ("" if verdicts.rank[n] < 0 else RANKS[verdicts.rank[n]])
        assert (found.is_known, found.is_accepted) == (verdicts.is_known[n], verdicts.is_accepted[n])
        assert (TAXONOMY.keys[answers.target[n]] in found.candidates) == is_covered[n]
    assert len(set(verdicts.rank.tolist())) == 4
    for each in (verdicts.is_known, verdicts.is_accepted, is_covered):
        assert 0 < each.sum() < len(questions)


def ranks_of(taxonomy: Taxonomy) -> tuple[list[str], list[str], list[str]]:
    """The name, the genus and the family of each species; "" where it is not known."""
    genus, family = (
        [titles[place] if place >= 0 else "" for place in places.tolist()]
        for places, titles in ((taxonomy.genus, taxonomy.genera), (taxonomy.family, taxonomy.families))
    )
    return taxonomy.names, genus, family


def test_without_limits_for_several_the_candidates_of_each_photograph_count() -> None:
    together = make_scores([(0.5, 0.35, 0.1, 0.05)], [0.9])
    alone = make_scores([(0.9, 0, 0.05, 0.05), (0.1, 0.7, 0.15, 0.05)], [0.9, 0.9])
    decisions = DECISIONS.model_copy(update={"candidates": Candidates(promise=0.95, limit=(0.14,))})
    assert judge(decisions, TAXONOMY, together, alone).candidates == ("1", "2", "3")
    limits = Limits(rejection=DECISIONS.rejection, rollup=DECISIONS.rollup, candidates=Candidates(limit=(0.4,)))
    decisions = decisions.model_copy(update={"several": (limits,)})
    assert judge(decisions, TAXONOMY, together, alone).candidates == ("1",)
