import numpy as np
import pytest
from scipy.special import softmax

from aitax_ray.evaluation.calibration import TEMPERATURES, at_temperatures, best_temperature
from aitax_ray.evaluation.reliability import calibration_error


def draw(num: int, num_classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated: the target is drawn from the probabilities they give."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num, num_classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = (probabilities.cumsum(1) > rng.random((num, 1))).argmax(1)
    return logits.astype(np.float32), target


def test_figures_at_each_temperature_are_those_of_a_softmax() -> None:
    logits, target = draw(50)
    nll = at_temperatures(logits, target)
    assert nll.shape == (50, len(TEMPERATURES))
    for column, temperature in enumerate(TEMPERATURES):
        exponentials = np.exp(logits.astype(np.float64) / temperature)
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        np.testing.assert_allclose(nll[:, column], -np.log(probabilities[np.arange(50), target]), rtol=1e-3, atol=1e-5)


def test_large_logits_do_not_overflow() -> None:
    nll = at_temperatures(np.array([[1e4, 0.0], [0.0, 1e4]], np.float32), np.array([0, 0]))
    assert np.isfinite(nll).all()
    assert nll[1, 32] == pytest.approx(1e4)


@pytest.mark.parametrize("sharper", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_made_the_scores_too_sure(sharper: float) -> None:
    logits, target = draw(4000)
    at = TEMPERATURES[best_temperature(at_temperatures(logits * sharper, target))]
    assert at == pytest.approx(sharper, rel=0.1)
    hit = logits.argmax(1) == target
    assert calibration_error(softmax(logits * sharper / at, axis=1).max(1), hit)(np.ones(4000)) < 0.03  # type: ignore[operator]
    if sharper != 1.0:
        assert calibration_error(softmax(logits * sharper, axis=1).max(1), hit)(np.ones(4000)) > 0.08


def test_a_few_photographs_that_are_all_right_make_no_answer_quite_sure() -> None:
    logits = np.tile(np.array([[5.0, 0.0, 0.0]], np.float32), (80, 1))
    nll = at_temperatures(logits, np.zeros(80, int))
    assert 0.5 < TEMPERATURES[best_temperature(nll)] < 1
    # One that is wrong tells more than the prior.
    nll = at_temperatures(logits, np.r_[np.zeros(70, int), np.ones(10, int)])
    assert TEMPERATURES[best_temperature(nll)] > 1.5


def test_without_photographs_the_temperature_is_one() -> None:
    assert TEMPERATURES[best_temperature(np.empty((0, len(TEMPERATURES))))] == pytest.approx(1.0)
    assert TEMPERATURES[best_temperature(np.empty((0, 0)))] == pytest.approx(1.0)
