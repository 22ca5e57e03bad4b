from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from aitax_ray.evaluation.answering import MIN_FITTED, Side, answer, fit_fusion
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.neighbors import Neighbors, Vote
from aitax_ray.evaluation.questions import Photographs, ask_alone, ask_together
from tests.evaluation.rows import make_taxonomy

NUM_CLASSES = 4
TAXONOMY = make_taxonomy(genus=[0, 0, 1, -1], family=[0, 0, 0, -1])


def make_side(logits: np.ndarray, target: Any, occurrence: Any = None, neighbors: Neighbors | None = None) -> Side:
    """A side whose head gives these logits: each embedding is the photograph's own direction."""
    num = len(logits)
    photographs = Photographs(
        image_id=np.array([f"i{place:03}" for place in range(num)]),
        occurrence=np.arange(num) if occurrence is None else np.array(occurrence),
        target=np.array(target, np.int64),
        unit=np.eye(num, dtype=np.float16),
        length=np.ones(num, np.float32),
        head=lambda embedding: (embedding @ logits).astype(np.float32),
        num_classes=logits.shape[1],
    )
    return Side(photographs, neighbors, np.array([10, 10, 10, 10]))


def draw_side(num: int, temperature: float, occurrence: Any = None, seed: int = 0) -> Side:
    """Photographs whose right classes are drawn from their softmax at a temperature."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 4, (num, NUM_CLASSES)).astype(np.float32)
    target = [chance.choice(NUM_CLASSES, p=p) for p in softmax(logits.astype(np.float64) / temperature, axis=1)]
    return make_side(logits, target, occurrence)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    found = fit_fusion(draw_side(1500, temperature), Vote())
    error = found.log_errors[0]
    assert error is not None
    assert 0.01 < error < 0.1
    assert abs(np.log(found.fusion.temperatures[0] / temperature)) < 3 * error
    assert found.num_questions == (1500, 0, 0)
    assert found.fusion.temperatures == (found.fusion.temperatures[0],) * 3  # no occurrence has several photographs


def test_without_validation_photographs_nothing_changes() -> None:
    found = fit_fusion(make_side(np.zeros((0, NUM_CLASSES), np.float32), []), Vote())
    assert found.fusion.temperatures == pytest.approx((1, 1, 1), abs=0.02)
    assert (found.losses, found.num_questions, found.log_errors) == ({}, (0, 0, 0), (None, None, None))


def test_a_few_right_answers_do_not_make_scores_quite_sure() -> None:
    side = make_side(
        np.full((5, NUM_CLASSES), 0.0, np.float32) + np.eye(5, NUM_CLASSES, dtype=np.float32), [0, 1, 2, 3, 0]
    )
    assert fit_fusion(side, Vote()).fusion.temperatures[0] > 0.25


def test_independent_evidence_chooses_the_product_or_the_mean_of_logits() -> None:
    """Each photograph's logits are noisy evidence of one right class: adding them up is the right thing to do."""
    chance = np.random.default_rng(1)
    num = 10 * MIN_FITTED
    right = chance.integers(0, NUM_CLASSES, num)
    logits = chance.normal(0, 2, (2 * num, NUM_CLASSES)) + 2 * np.eye(NUM_CLASSES)[np.repeat(right, 2)]
    side = make_side(logits.astype(np.float32), np.repeat(right, 2), np.repeat(np.arange(num), 2))
    found = fit_fusion(side, Vote())
    assert found.fusion.rule in ("mean_of_logits", "product")
    assert found.losses["mean_of_logits"] == pytest.approx(found.losses["product"], abs=1e-3)
    assert found.losses["mean_of_logits"] < found.losses["mean_of_probabilities"]
    assert found.num_questions == (2 * num, num, 0)


def test_answers_hold_the_figures_of_the_probabilities() -> None:
    logits = np.array([[2, 1, 0, -1], [0, 0, 3, 0], [1, 1.1, 0, 1.2]], np.float32)
    side = make_side(logits, [1, 2, -1])
    seen = []
    found = answer(
        side,
        ask_alone(side.photographs),
        Fusion(temperatures=(2.0,)),
        Vote(),
        TAXONOMY,
        [lambda p, r, t: seen.append((p, r, t))],
    )
    p, raw = softmax(logits / 2, axis=1), softmax(logits, axis=1)
    np.testing.assert_allclose(found.scores[:, 0], p.max(axis=1), rtol=1e-5)
    assert found.top.tolist() == [[0, 1, 2, 3], [2, 0, 1, 3], [3, 1, 0, 2]]
    np.testing.assert_allclose(found.target_score, [p[0, 1], p[1, 2], np.nan], rtol=1e-5)
    np.testing.assert_allclose(found.raw_target_score, [raw[0, 1], raw[1, 2], np.nan], rtol=1e-5)
    np.testing.assert_allclose(found.sum_of_squares, (p**2).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.raw_score, raw.max(axis=1), rtol=1e-5)
    assert (found.genus.tolist(), found.family.tolist()) == ([0, 1, 0], [0, 0, 0])
    np.testing.assert_allclose(found.genus_score, [p[0, :2].sum(), p[1, 2], p[2, 3]], rtol=1e-5)
    np.testing.assert_allclose(found.family_score, [p[0, :3].sum(), p[1, :3].sum(), p[2, 3]], rtol=1e-5)
    assert np.isnan(found.similarity).all()
    ((probabilities, uncalibrated, target),) = seen
    np.testing.assert_allclose(probabilities, p, rtol=1e-5)
    np.testing.assert_allclose(uncalibrated, raw, rtol=1e-5)
    assert target.tolist() == [1, 2, -1]


def test_photographs_of_an_occurrence_answer_together() -> None:
    logits = np.array([[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 5]], np.float32)
    neighbors = Neighbors(np.array([[0], [1], [3]]), np.array([[0.2], [0.7], [0.4]], np.float32))
    side = make_side(logits, [0, 0, 3], [4, 4, 6], neighbors)
    found = answer(side, ask_together(side.photographs, 1), Fusion(), Vote(share=0.25, power=0), TAXONOMY)
    assert (found.num_photographs.tolist(), found.occurrence.tolist()) == ([2, 1], [4, 6])
    expected = 0.75 * softmax(logits[:2], axis=1).mean(axis=0) + 0.25 * np.array([0.5, 0.5, 0, 0])
    np.testing.assert_allclose(found.scores[0], np.sort(expected)[::-1], rtol=1e-5)
    np.testing.assert_allclose(found.similarity, [0.7, 0.4], rtol=1e-6)


def test_logits_that_are_not_finite_are_a_wrong_answer() -> None:
    side = make_side(np.full((1, NUM_CLASSES), np.nan, np.float32), [0])
    found = answer(side, ask_alone(side.photographs), Fusion(), Vote(), TAXONOMY)
    assert (found.top.tolist(), found.scores[0].tolist(), found.genus.tolist()) == ([[-1] * 4], [0] * 4, [-1])


def test_no_questions_have_no_answers() -> None:
    side = make_side(np.zeros((0, NUM_CLASSES), np.float32), [])
    found = answer(side, ask_alone(side.photographs), Fusion(), Vote(), make_taxonomy([-1] * NUM_CLASSES))
    assert (len(found), found.top.shape) == (0, (0, 4))


def test_a_validation_that_is_always_right_chooses_no_rule() -> None:
    """All rules are right; that one is surer of itself than another is no reason to take it."""
    num = 2 * MIN_FITTED
    right = np.repeat(np.arange(num) % NUM_CLASSES, 2)
    side = make_side(6 * np.eye(NUM_CLASSES, dtype=np.float32)[right], right, np.repeat(np.arange(num), 2))
    assert fit_fusion(side, Vote()).fusion.rule == "mean_of_probabilities"
