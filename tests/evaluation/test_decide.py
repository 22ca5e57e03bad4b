import numpy as np
import pytest

from aitax_ray.evaluation.answering import answer
from aitax_ray.evaluation.decide import decide, fit_scores
from aitax_ray.evaluation.neighbors import Neighbors
from aitax_ray.evaluation.questions import ask_alone
from tests.evaluation.worlds import SETTINGS, make_side, make_taxonomy_of, make_world


def test_each_decision_is_the_one_of_its_module_on_the_calibrated_answers() -> None:
    decided, _, _ = make_world(num_unknown=60)
    val = make_side(np.arange(240) // 2 % 6, 6, 4.0)
    vote, fitted = fit_scores(val, decided.taxonomy)
    answers = answer(val, ask_alone(val.photographs), fitted.fusion, vote, decided.taxonomy)
    assert (decided.decisions.fusion, decided.decisions.vote) == (fitted.fusion, vote)
    np.testing.assert_array_equal(decided.val.scores, answers.scores)
    kept = decided.val.scores[:, 0] >= (decided.decisions.rollup.species or 0)
    assert (decided.val.top[kept, 0] == decided.val.target[kept]).mean() >= SETTINGS.target_precision
    rejection = decided.decisions.rejection
    assert rejection.score in ("similarity", "combination")  # in which the unknown species differ most
    assert decided.decisions.candidates.promise == SETTINGS.coverage
    assert len(decided.decisions.acceptance.thresholds) == 6


def test_a_vote_that_helps_is_taken_and_the_temperature_is_fitted_with_it() -> None:
    chance = np.random.default_rng(0)
    val = make_side(chance.integers(0, 4, 300), 4, 1.0, near=0.9)
    vote, fitted = fit_scores(val, make_taxonomy_of(4))
    assert vote.share > 0  # the neighbours are of the right species
    wrong = Neighbors((val.photographs.target[:, None] + 1) % 4, val.neighbors.similarity)  # type: ignore[union-attr]
    vote, alone = fit_scores(type(val)(val.photographs, wrong, val.num_train), make_taxonomy_of(4))
    assert vote.share == 0
    assert alone.fusion.temperatures[0] != pytest.approx(fitted.fusion.temperatures[0], abs=0.01)


def test_without_validation_nothing_is_claimed() -> None:
    decided = decide(make_side(np.zeros(0), 3, 1.0), None, np.zeros(0), make_taxonomy_of(3), SETTINGS)
    decisions = decided.decisions
    assert decisions.fusion.temperatures == pytest.approx((1, 1, 1), abs=0.02)
    assert (decisions.vote.share, decisions.rejection.threshold, decisions.groups) == (0, None, ())
    assert decisions.rollup.species is None
    assert decisions.acceptance.thresholds == (None,) * 3
    assert decisions.candidates.limits(3).tolist() == [0, 0, 0]  # the set holds all
