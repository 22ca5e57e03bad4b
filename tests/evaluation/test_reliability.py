import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from aitax_ray.evaluation.bootstrap import Interval, interval
from aitax_ray.evaluation.reliability import (
    NUM_BINS,
    ClasswiseBins,
    bins_of,
    calibration_error,
    measure_calibration,
    measure_frequency_calibration,
    reflect,
    reliability,
    say_trust,
)
from tests.evaluation.rows import make_answers


def draw(num: int = 500) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    probabilities = softmax(chance.normal(0, 2, (num, 4)), axis=1)
    return probabilities, np.array([chance.choice(4, p=p) for p in probabilities])


def test_the_bins_are_those_of_scikit_learn() -> None:
    probabilities, target = draw()
    score, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == target
    share, mean = calibration_curve(hit, score, n_bins=NUM_BINS)
    bins = reliability(score, hit)
    assert [bin_[0] for bin_ in bins] == pytest.approx(mean)
    assert [bin_[1] for bin_ in bins] == pytest.approx(share)
    assert sum(bin_[2] for bin_ in bins) == 500
    expected = sum(abs(m - s) * n for m, s, n in bins) / 500
    assert calibration_error(score, hit)(np.ones(500)) == pytest.approx(expected)


def test_scores_of_half_that_are_always_right_are_off_by_half() -> None:
    assert calibration_error(np.full(4, 0.5), np.ones(4, bool))(np.ones(4)) == pytest.approx(0.5)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False]))(np.ones(2)) == 0
    assert bins_of(np.array([0, 0.5, 1])).tolist() == [0, 7, 14]
    assert calibration_error(np.zeros(0), np.zeros(0, bool))(np.zeros(0)) is None


def test_brier_score_and_loss_are_those_of_scikit_learn() -> None:
    probabilities, target = draw()
    of_target = probabilities[np.arange(500), target].astype(np.float32)
    answers = make_answers(
        target.tolist(),
        probabilities.argmax(axis=1).tolist(),
        probabilities.max(axis=1).tolist(),
        target_score=of_target,
        sum_of_squares=np.square(probabilities).sum(axis=1),
        raw_target_score=np.full(500, 0.25, np.float32),
        raw_sum_of_squares=np.full(500, 0.25, np.float32),
    )
    found = measure_calibration(answers)
    assert found["nll"].value == pytest.approx(log_loss(target, probabilities), rel=1e-5)
    assert found["brier"].value == pytest.approx(brier_score_loss(target, probabilities, scale_by_half=False), rel=1e-5)
    assert found["classwise_ece"] is None
    raw = measure_calibration(answers, raw=True)
    assert raw["nll"].value == pytest.approx(np.log(4), rel=1e-5)
    assert raw["brier"].value == pytest.approx(0.75)


def test_a_right_species_without_a_score_has_a_loss_that_is_a_number() -> None:
    answers = make_answers([0, 0], [1, 0], [1.0, 1.0])
    assert measure_calibration(answers)["nll"].value == pytest.approx(-np.log(1e-9) / 2)


def test_scores_before_calibration_have_their_own_error() -> None:
    answers = make_answers([0, 0], [0, 0], [1.0, 1.0], raw_score=np.array([0.5, 0.5], np.float32))
    assert measure_calibration(answers)["ece"].value == 0
    assert measure_calibration(answers, raw=True)["ece"].value == pytest.approx(0.5)


def test_questions_about_unknown_species_change_no_figure() -> None:
    some = make_answers([0, 1, 1], [0, 1, 0], [0.9, 0.8, 0.7])
    both = make_answers([0, 1, 1, -1], [0, 1, 0, 0], [0.9, 0.8, 0.7, 0.9])
    assert measure_calibration(both) == measure_calibration(some)
    num_train = np.array([200, 5])
    assert measure_frequency_calibration(both, num_train) == measure_frequency_calibration(some, num_train)


def test_the_interval_of_the_error_holds_the_truth_where_percentiles_do_not() -> None:
    """100 scores that are 0.05 too high: by chance the measured error is larger, and that of each replicate again."""
    truth, occurrence = 0.05, np.arange(100)
    plain, reflected = 0, 0
    for seed in range(40):
        chance = np.random.default_rng(seed)
        score = np.maximum(chance.beta(5, 1, 100), 0.2)
        error = calibration_error(score, chance.random(100) < score - truth)
        found = interval(error, occurrence, num=200, seed=seed)
        better = reflect(found)
        assert 0 <= better.low <= better.value <= better.high  # type: ignore[operator]
        plain += found.low <= truth <= found.high  # type: ignore[operator]
        reflected += better.low <= truth <= better.high  # type: ignore[operator]
    assert plain < 8
    assert reflected > 30


@pytest.mark.parametrize("error", [Interval(None), Interval(0.2), Interval(0.0, 0.0, 0.3)])
def test_an_interval_that_is_not_known_or_exact_is_not_reflected(error: Interval) -> None:
    assert reflect(error) == error


def test_the_reflected_interval_of_the_error_is_shown() -> None:
    assert reflect(Interval(0.05, 0.06, 0.12)) == Interval(0.05, 0.0, 0.05)
    probabilities, target = draw(100)
    best = probabilities.argmax(axis=1)
    answers = make_answers(target.tolist(), best.tolist(), probabilities.max(axis=1).tolist())
    expected = reflect(interval(calibration_error(answers.scores[:, 0], best == target), np.arange(100)))
    assert measure_calibration(answers)["ece"] == expected
    assert measure_frequency_calibration(answers, np.full(4, 50))["medium"] == expected


def test_class_wise_error_is_the_mean_over_the_classes_however_the_rows_come() -> None:
    probabilities, target = draw()
    bins = ClasswiseBins(4)
    for part in np.array_split(np.arange(500), 3):
        bins.add(probabilities[part], target[part])
    bins.add(np.full((2, 4), 0.25), np.array([-1, -1]))  # of species that are no class
    expected = [calibration_error(probabilities[:, k], target == k)(np.ones(500)) for k in range(4)]
    assert bins.error() == pytest.approx(np.mean(expected))
    assert ClasswiseBins(4).error() is None


def test_calibration_is_measured_by_frequency() -> None:
    answers = make_answers([0, 0, 1], [0, 0, 1], [1.0, 1.0, 0.5])
    found = measure_frequency_calibration(answers, np.array([200, 5]))
    assert (found["many"].value, found["medium"].value, found["few"].value) == (0, None, pytest.approx(0.5))


def test_what_validation_cannot_carry_is_said() -> None:
    assert "not calibrated" in say_trust(0, (1, 1, 1), (None, None, None))
    assert "rough order" in say_trust(12, (1.2, 1.2, 1.2), (0.2, None, None))
    some = say_trust(900, (1.25, 1.0, 1.0), (0.05, 0.08, None))
    assert "1.25 comes from 900 validation occurrences; it lies between 1.13 and 1.38" in some
    assert "have 3 or more photographs" in some
    assert say_trust(900, (1.25, 1.0, 1.0), (0.05, 0.08, 0.1)).endswith("confidence.")
