from typing import Any

import numpy as np
import pytest

from aitax_ray.evaluation.acceptance import Acceptance
from aitax_ray.evaluation.answering import Side, answer
from aitax_ray.evaluation.answers import make_taxonomy
from aitax_ray.evaluation.conformal import Candidates
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.lookalikes import LookalikeGroup
from aitax_ray.evaluation.neighbors import Neighbors
from aitax_ray.evaluation.questions import Photographs, ask_alone
from aitax_ray.evaluation.rejection import Rejection
from aitax_ray.evaluation.rollup import RANKS, Rollup, rank_scores
from aitax_ray.serving.judgement import GroupScore, add_up, judge

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
    return judge(DECISIONS, TAXONOMY, np.array(scores, np.float32), 1.0, similarity)


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


def test_the_service_judges_as_the_evaluation_measures() -> None:
    chance = np.random.default_rng(0)
    num, directions = 200, chance.normal(size=(200, 4))
    near = chance.uniform(0.2, 1, (num, 1)).astype(np.float32)
    photographs = Photographs(
        image_id=np.array([f"{n:040x}" for n in range(num)]),
        occurrence=np.arange(num),
        target=chance.integers(0, 4, num),
        unit=(directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float16),
        length=chance.uniform(0, 8, num).astype(np.float32),
        head=lambda embedding: embedding,
        num_classes=4,
    )
    logits = photographs.logits(np.arange(num))
    side = Side(photographs, Neighbors(np.zeros((num, 1), np.int64), near), np.ones(4, np.int64))
    fusion = Fusion(temperatures=(1.5,))
    answers = answer(side, ask_alone(photographs), fusion, DECISIONS.vote, TAXONOMY)
    ranks = DECISIONS.rollup.rank(rank_scores(answers, TAXONOMY))
    is_kept = DECISIONS.rejection.keeps(answers.scores[:, 0], answers.energy, answers.similarity)
    is_accepted = DECISIONS.acceptance.accepts(answers.top[:, 0], answers.scores[:, 0])
    for n in range(num):
        place = int(np.flatnonzero(photographs.image_id == answers.image_id[n])[0])
        scores = fusion.probabilities(logits[[place]])[0]
        energy = float(fusion.energy(logits[[place]], np.zeros(1, np.int64))[0])
        found = judge(DECISIONS, TAXONOMY, scores, energy, float(near[place, 0]))
        assert found.rank == ("" if ranks[n] < 0 else RANKS[ranks[n]])
        assert (found.is_known, found.is_accepted) == (is_kept[n], is_accepted[n])
    assert len(set(ranks.tolist())) == 4
    assert 0 < is_kept.sum() < num
