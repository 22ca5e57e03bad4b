from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aitax_ray.evaluation.answering import Side, answer, fit_fusion
from aitax_ray.evaluation.decide import Decided, decide
from aitax_ray.evaluation.decisions import Limits
from aitax_ray.evaluation.neighbors import Neighbors
from aitax_ray.evaluation.questions import Photographs, ask_alone, ask_together
from aitax_ray.evaluation.several import fit_several, measure_verdicts
from tests.evaluation.worlds import SETTINGS, make_taxonomy_of

NUM_CLASSES = 6
NONE = np.zeros(0)


def make_side(num: int, seed: int, is_known: bool = True, per_occurrence: int = 2, doubt: float = 1.5) -> Side:
    """Individuals with as many photographs each. Some photographs show nothing, so the answers to these are not sure.

    Photographs of one individual show the same view in half of the cases.
    """
    chance = np.random.default_rng(seed)
    target = np.repeat(chance.integers(0, NUM_CLASSES, num), per_occurrence) if is_known else np.full(num * 2, -1)
    strength = chance.normal(3, doubt, len(target))
    strength[1::2] = np.where(
        chance.random(len(target[1::2])) < 0.5, strength[::2][: len(target[1::2])], strength[1::2]
    )
    logits = chance.normal(0, 1, (len(target), NUM_CLASSES)).astype(np.float32)
    if is_known:
        logits[np.arange(len(target)), target] += strength.astype(np.float32)
    length = np.linalg.norm(logits, axis=1)
    photographs = Photographs(
        image_id=np.array([f"{n:040x}" for n in range(len(target))]),
        occurrence=np.arange(len(target)) // per_occurrence,
        target=target,
        unit=(logits / length[:, None]).astype(np.float16),
        length=length,
        head=lambda embedding: embedding,
        num_classes=NUM_CLASSES,
    )
    similarity = chance.uniform(0, 1, (len(target), 1)).astype(np.float32)
    return Side(photographs, Neighbors(np.zeros((len(target), 1), np.int64), similarity), np.full(NUM_CLASSES, 30))


def decided_on(val: Side) -> Decided:
    return decide(val, None, NONE, make_taxonomy_of(NUM_CLASSES), SETTINGS)


def measured(side: Side, decided: Decided, least: int = 2, most: int = 2) -> dict[str, Any]:
    questions = ask_together(side.photographs, least, most) if most > 1 else ask_alone(side.photographs)
    answers = answer(side, questions, decided.decisions.fusion, decided.decisions.vote, decided.taxonomy)
    found = measure_verdicts(side, questions, answers, decided.decisions, decided.taxonomy)
    return {name: figure.value for name, figure in found.items()}


@pytest.fixture(scope="module")
def decided() -> Decided:
    return decided_on(make_side(600, 10))


def test_the_promises_hold_for_two_photographs_as_for_one(decided: Decided) -> None:
    test = make_side(1500, 11)
    for most in (1, 2):
        found = measured(test, decided, most=most)
        assert found["rejected"] == pytest.approx(SETTINGS.false_reject_rate, abs=0.015)
        assert found["coverage"] == pytest.approx(SETTINGS.coverage, abs=0.03)
        assert found["accepted_precision"] >= SETTINGS.target_precision - 0.01
    assert measured(test, decided)["accepted"] > measured(test, decided, most=1)["accepted"]
    strange = make_side(300, 12, is_known=False)
    assert measured(strange, decided)["rejected"] > measured(strange, decided, most=1)["rejected"] + 0.05


def test_limits_of_one_photograph_do_not_hold_for_two(decided: Decided) -> None:
    one = Limits(**{name: getattr(decided.decisions, name) for name in ("rejection", "rollup", "candidates")})
    before = replace(decided, decisions=decided.decisions.model_copy(update={"several": (one,)}))
    found = measured(make_side(1500, 11), before)
    assert found["rejected"] < SETTINGS.false_reject_rate - 0.03
    assert found["coverage"] > SETTINGS.coverage + 0.05  # the sets are larger than they need to be


def test_few_individuals_with_several_photographs_give_no_limits_and_are_not_rejected_more_often() -> None:
    singles, pairs = make_side(600, 2, per_occurrence=1), make_side(12, 3)
    val = join(singles, pairs)
    decided = decided_on(val)
    assert decided.decisions.several == ()
    found = measured(make_side(1500, 4), decided)
    assert found["rejected"] <= SETTINGS.false_reject_rate + 0.01
    assert found["coverage"] >= SETTINGS.coverage - 0.01
    assert found["accepted_precision"] >= SETTINGS.target_precision - 0.01
    assert measured(make_side(300, 5, is_known=False), decided)["rejected"] > 0


def test_three_photographs_have_limits_of_their_own_or_those_of_two() -> None:
    val = make_side(200, 6, per_occurrence=4)
    decisions = decided_on(val).decisions
    assert len(decisions.several) == 2
    assert decisions.limits(2) == decisions.several[0]
    assert decisions.limits(3) == decisions.limits(5) == decisions.several[1]
    taxonomy, fitted = make_taxonomy_of(NUM_CLASSES), fit_fusion(val, decisions.vote)
    two = ask_together(val.photographs, 2, 2).rows
    side = Side(val.photographs.select(two), val.neighbors.select(two) if val.neighbors else None, val.num_train)
    fitted = fit_fusion(side, decisions.vote)
    only = decisions.model_copy(update={"several": fit_several(side, decisions, fitted, taxonomy, SETTINGS.coverage)})
    assert only.limits(5) == only.limits(2) == only.several[0]


def join(first: Side, second: Side) -> Side:
    """The photographs of both."""
    assert first.neighbors is not None
    assert second.neighbors is not None

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(side.photographs, name) for side in (first, second)])

    others = 1 + first.photographs.occurrence.max() + second.photographs.occurrence
    photographs = replace(
        first.photographs,
        **{name: both(name) for name in ("image_id", "target", "unit", "length")},
        occurrence=np.r_[first.photographs.occurrence, others],
    )
    neighbors = Neighbors(
        np.r_[first.neighbors.class_index, second.neighbors.class_index],
        np.r_[first.neighbors.similarity, second.neighbors.similarity],
    )
    return Side(photographs, neighbors, first.num_train)
