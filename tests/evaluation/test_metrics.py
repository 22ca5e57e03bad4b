import json
import tracemalloc

import numpy as np
import pytest

from aitax_ray.evaluation.calibration import TEMPERATURES
from aitax_ray.evaluation.metrics import (
    UNCALIBRATED,
    Predictions,
    confusion_among,
    evaluate_predictions,
    most_confused,
    most_often_taken_for,
)

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
    assert result.num_test.tolist() == [4, 1, 0, 2]
    assert result.pairs.tolist() == [[0, 0, 2], [0, 1, 1], [0, 2, 1], [1, 1, 1], [3, 0, 2]]
    assert most_often_taken_for(result.pairs, 4).tolist() == [1, -1, -1, 0]
    assert confusion_among(np.array([0, 2, 3]), result.pairs).tolist() == [[2, 1, 0], [0, 0, 0], [2, 0, 0]]


def test_the_most_frequent_mistake_wins_and_of_equal_ones_the_first() -> None:
    pairs = np.array([[0, 0, 9], [0, 1, 2], [0, 2, 5], [0, 3, 5], [1, 0, 1], [2, 2, 4]])
    assert most_often_taken_for(pairs, 4).tolist() == [2, 0, -1, -1]


def test_the_most_confused_classes_count_mistakes_on_both_sides() -> None:
    # Mistakes: class 0 has 1 + 4, class 1 has 4, class 2 has 3, class 3 has 1 + 3; class 4 is always right.
    pairs = np.array([[0, 3, 1], [1, 0, 4], [3, 2, 3], [4, 4, 99]])
    assert most_confused(pairs, 6, 2).tolist() == [0, 1]
    assert most_confused(pairs, 6, 60).tolist() == [0, 1, 2, 3]
    assert most_confused(np.array([[4, 4, 99]]), 6, 60).tolist() == []


def test_200000_species_need_little_memory() -> None:
    num, k = 400_000, 200_000
    rng = np.random.default_rng(0)
    target = np.arange(num) % k
    top = np.stack([np.where(rng.random(num) < 0.5, target, rng.integers(0, k, num)), np.zeros(num, int)], axis=1)
    test = Predictions(
        target, top, np.broadcast_to(np.float32(1), (num, T)), np.broadcast_to(np.float32(0.5), (num, T))
    )
    tracemalloc.start()
    result = evaluate_predictions(NONE, test, k)
    confused = most_confused(result.pairs, k, 60)
    matrix, mistakes = confusion_among(confused, result.pairs), most_often_taken_for(result.pairs, k)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6  # bytes; a matrix of all species would have 320 GB
    assert result.pairs[:, 2].sum() == num
    assert result.metrics["top1"] == pytest.approx(0.5, abs=0.01)
    assert (matrix.shape, mistakes.shape) == ((60, 60), (k,))
    assert (mistakes[result.top1 == 1] == -1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_figures_that_are_no_numbers_are_none_and_do_not_affect_others(bad: float) -> None:
    good = predictions([0, 1, 1], [[0], [1], [0]], best_at=40)
    nll, max_probability = good.nll.copy(), good.max_probability.copy()
    nll[0], max_probability[0] = bad, np.nan
    mixed = Predictions(good.target, good.top, nll, max_probability)
    result = evaluate_predictions(mixed, mixed, 2)
    assert result.temperature == pytest.approx(TEMPERATURES[40])
    assert result.metrics["nll"] is None
    assert result.metrics["top1"] == pytest.approx(1 / 3)  # the first one has no best class
    assert result.metrics["ece"] is not None
    assert sum(number for *_, number in result.reliability) == 2
    json.dumps(result.metrics, allow_nan=False)


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
