from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import beta

from aitax_ray.evaluation.acceptance import MAX_BORROWED, Acceptance, Acceptances, fit_acceptance, measure_acceptance
from aitax_ray.evaluation.answers import Answers, Taxonomy
from tests.evaluation.rows import make_answers, make_taxonomy


def draw(num: int, num_classes: int, seed: int, num_photographs: int = 1) -> tuple[Answers, np.ndarray]:
    """Answers whose scores are calibrated."""
    chance = np.random.default_rng(seed)
    best = np.minimum(chance.geometric(0.15, num) - 1, num_classes - 1)
    score = chance.beta(3, 0.8, num).round(2)
    target = np.where(chance.random(num) < score, best, (best + 1) % num_classes)
    occurrence = np.arange(num) // num_photographs
    return make_answers(target, best, score, occurrence), target == best


def by_definition(val: Answers, taxonomy: Taxonomy, precision: float) -> list[float | None]:
    """The thresholds by loops."""
    best, score, right = val.top[:, 0], val.scores[:, 0], val.top[:, 0] == val.target
    weight = np.array([1 / (val.occurrence == each).sum() for each in val.occurrence])
    found: list[float | None] = []
    for species in range(len(taxonomy.keys)):
        own = best == species
        genus = (taxonomy.genus[best] == taxonomy.genus[species]) & (taxonomy.genus[species] >= 0) & ~own
        passing = []
        for limit in np.unique(score[own]):
            num, hits = 0.0, 0.0
            room = float(MAX_BORROWED)
            for who in (own, genus, ~own & ~genus):
                above = who & (score >= limit)
                total = weight[above].sum()
                counted = total if who is own else min(room, total)
                room -= 0 if who is own else counted
                num += counted
                hits += counted * (weight[above & right].sum() / total if total else 0)
            if num > 10 - 1e-9 and (hits + 0.5) / (num + 1) >= precision:
                passing.append(float(limit))
        found.append(min(passing, default=None))
    return found


@pytest.mark.parametrize("num_photographs", [1, 3])
def test_thresholds_are_those_of_the_definition(num_photographs: int) -> None:
    taxonomy = make_taxonomy([0, 0, 0, 1, 1, -1, -1, 2, 2, 2])
    val, _ = draw(300, 10, 0, num_photographs)
    found = fit_acceptance(val, taxonomy, 0.95)
    expected = by_definition(val, taxonomy, 0.95)
    assert found.acceptance.thresholds == tuple(expected)
    assert 0 < sum(limit is not None for limit in expected) < 10
    assert [reason == "" for reason in found.reason] == [limit is not None for limit in expected]


def test_intervals_are_those_of_the_beta_distribution() -> None:
    """29 of 30 own answers are right, and 36 of 40 of the other species of the genus: 9 of 10 are borrowed."""
    target = [0] * 29 + [1] + [1] * 36 + [0] * 4
    val = make_answers(target, [0] * 30 + [1] * 40, [0.8] * 70)
    found = fit_acceptance(val, make_taxonomy([0, 0]), 0.9)
    a, b = 29 + 9 + 0.5, 1 + 1 + 0.5
    assert found.acceptance.thresholds[0] == pytest.approx(0.8)
    assert (found.num_own[0], found.num_borrowed[0]) == (30, 10)
    assert found.precision[0] == pytest.approx(a / (a + b))
    assert (found.low[0], found.high[0]) == (pytest.approx(beta.ppf(0.025, a, b)), pytest.approx(beta.ppf(0.975, a, b)))


def test_a_rare_species_borrows_from_its_genus_before_all_others() -> None:
    good, bad = [0.9] * 20, [0.9] * 20
    target = [0] + [1] * 20 + [0] * 20  # species 1 of genus 0 is always right, species 2 of genus 1 never
    val = make_answers(target, [0] + [1] * 20 + [2] * 20, [0.9, *good, *bad])
    found = fit_acceptance(val, make_taxonomy([0, 0, 1]))
    assert found.acceptance.thresholds[0] == pytest.approx(0.9)
    assert (found.num_own[0], found.num_borrowed[0]) == (1, 10)
    alone = fit_acceptance(val, make_taxonomy([-1, -1, 1]))
    assert alone.acceptance.thresholds[0] is None
    assert alone.reason[0] == alone.reason[2] == "no score is precise enough"


def test_ten_photographs_of_one_occurrence_are_too_few() -> None:
    together = make_answers([0] * 10, [0] * 10, occurrence=[0] * 10)
    found = fit_acceptance(together, make_taxonomy([0]))
    assert (found.acceptance.thresholds, found.reason) == ((None,), ["too few photographs"])
    apart = fit_acceptance(make_answers([0] * 10, [0] * 10), make_taxonomy([0]))
    strict = fit_acceptance(make_answers([0] * 10, [0] * 10), make_taxonomy([0]), 0.99)
    assert strict.reason == ["too few photographs"]
    assert (apart.acceptance.thresholds, apart.reason) == ((1.0,), [""])


def test_a_species_that_was_never_the_answer_has_no_threshold() -> None:
    found = fit_acceptance(make_answers([0] * 30, [0] * 30), make_taxonomy([0, 0]))
    assert found.acceptance.thresholds == (1.0, None)
    assert (found.reason[1], found.num_own[1]) == ("too few photographs", 0)
    assert np.isnan(found.precision[1])


def test_an_answer_is_accepted_from_the_threshold_of_its_species_on() -> None:
    acceptance = Acceptance(thresholds=(0.7, None))
    top, score = np.array([0, 0, 1, -1]), np.array([0.7, 0.69, 1.0, 1.0], np.float32)
    assert acceptance.accepts(top, score).tolist() == [True, False, False, False]
    assert Acceptance().accepts(np.array([-1]), np.ones(1, np.float32)).tolist() == [False]


def test_accepted_answers_of_new_photographs_are_as_precise_as_promised() -> None:
    taxonomy = make_taxonomy([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    found = fit_acceptance(draw(3000, 10, 1)[0], taxonomy).acceptance
    measured = measure_acceptance(Acceptance.model_validate_json(found.model_dump_json()), draw(6000, 10, 2)[0])
    assert measured["precision"].value == pytest.approx(0.95, abs=0.015)
    assert measured["precision"].low < measured["precision"].value < measured["precision"].high
    assert measured["share"].value > 0.3
    assert measured["species_with_threshold"] == 10


def test_no_answers_and_answers_without_numbers_give_no_threshold() -> None:
    for val in (make_answers([0], [0]).select(np.arange(0)), make_answers([0] * 20, [-1] * 20, [0] * 20)):
        found = fit_acceptance(val, make_taxonomy([0, 0]))
        assert found.acceptance.thresholds == (None, None)
        assert {len(getattr(found, field.name)) for field in fields(Acceptances)[1:]} == {2}
        measured = measure_acceptance(found.acceptance, val)
        assert measured["precision"].value is None
        assert measured["share"].value == (0 if len(val) else None)


def test_one_accepted_occurrence_has_no_interval() -> None:
    answers = make_answers([0, 0, 0], [0, 0, 0], [0.9, 0.9, 0.1], occurrence=[0, 0, 1])
    assert measure_acceptance(Acceptance(thresholds=(0.8,)), answers)["precision"] == (1, None, None)
