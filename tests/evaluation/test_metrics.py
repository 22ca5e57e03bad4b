import numpy as np
import pytest

from aitax_ray.evaluation.calibration import TEMPERATURES
from aitax_ray.evaluation.metrics import UNCALIBRATED, Predictions, evaluate_predictions

T = len(TEMPERATURES)
NONE = Predictions(np.empty(0, int), np.empty((0, 0), int), np.empty((0, 0)), np.empty((0, 0)))


def predictions(target: list[int], top: list[list[int]], best_at: int = UNCALIBRATED) -> Predictions:
    """Photographs whose likelihood is best at one temperature; max_probability grows as the temperature falls."""
    nll = np.abs(np.arange(T) - best_at)[None].repeat(len(target), 0).astype(np.float32)
    max_probability = np.linspace(1, 0.5, T, dtype=np.float32)[None].repeat(len(target), 0)
    return Predictions(np.array(target), np.array(top), nll, max_probability)


def test_the_figures_are_those_of_a_sum_by_hand() -> None:
    # Species 0 has four photographs, species 1 one, species 3 two; species 2 has none.
    target = [0, 0, 0, 0, 1, 3, 3]
    top = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 3], [1, 0, 3], [0, 3, 1], [0, 1, 2]]
    test = predictions(target, top)
    assert test.hit.tolist() == [True, True, False, False, True, False, False]
    assert test.hit5.tolist() == [True, True, True, False, True, True, False]
    result = evaluate_predictions(NONE, test, 4)
    assert result.metrics["top1"] == pytest.approx(3 / 7)
    assert result.metrics["top5"] == pytest.approx(5 / 7)
    assert result.metrics["macro_top1"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert result.metrics["macro_top5"] == pytest.approx((0.75 + 1 + 0.5) / 3)
    np.testing.assert_array_equal(result.top1, [0.5, 1, np.nan, 0])
    np.testing.assert_array_equal(result.top5, [0.75, 1, np.nan, 0.5])
    np.testing.assert_array_equal(result.confusion, [[2, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]])


def test_the_temperature_comes_from_validation_and_the_figures_from_test() -> None:
    val, test = predictions([0, 1], [[1], [0]], best_at=50), predictions([0, 1], [[0], [1]], best_at=10)
    result = evaluate_predictions(val, test, 2)
    assert result.temperature == pytest.approx(TEMPERATURES[50])
    assert result.metrics["top1"] == 1.0
    assert result.metrics["nll"] == pytest.approx(40)
    assert result.metrics["nll_uncalibrated"] == pytest.approx(UNCALIBRATED - 10)
    max_probability = test.max_probability[0]
    assert result.metrics["ece"] == pytest.approx(1 - max_probability[50])
    assert result.metrics["ece_uncalibrated"] == pytest.approx(1 - max_probability[UNCALIBRATED])
    assert result.reliability == [(pytest.approx(max_probability[50]), 1.0, 2)]


def test_without_validation_photographs_the_temperature_is_one() -> None:
    result = evaluate_predictions(NONE, predictions([0, 1], [[0], [1]], best_at=10), 2)
    assert result.temperature == pytest.approx(1.0)
    assert result.metrics["nll"] == result.metrics["nll_uncalibrated"]
