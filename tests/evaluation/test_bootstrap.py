import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from aitax_ray.evaluation.bootstrap import Interval, draw_weights, interval, mean_of


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution() -> None:
    hit = np.arange(400) % 5 > 0  # 0.8
    found = interval(mean_of(hit), np.arange(400))
    error = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(0.8 - error, abs=0.006)
    assert found.high == pytest.approx(0.8 + error, abs=0.006)


def test_more_photographs_of_the_same_occurrences_make_no_interval_narrower() -> None:
    hit = np.arange(100) % 5 > 0
    once = interval(mean_of(hit), np.arange(100))
    ten_times = interval(mean_of(np.repeat(hit, 10)), np.repeat(np.arange(100), 10))
    assert ten_times == pytest.approx(once)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_each_replicate_draws_as_many_occurrences_as_there_are(occurrence: list[int]) -> None:
    codes = np.array(occurrence)
    for weights in draw_weights(codes, 3):
        once = {code: weights[codes == code] for code in set(occurrence)}
        assert all(len(set(each)) == 1 for each in once.values())
        assert sum(each[0] for each in once.values()) == len(once)


@pytest.mark.parametrize(
    ("values", "occurrence", "expected"),
    [
        ([], [], Interval(None)),
        ([1.0], [3], Interval(1.0)),
        ([1.0, 0.0], [3, 3], Interval(0.5)),
        ([0.5, 0.5], [1, 2], Interval(0.5, 0.5, 0.5)),
        ([np.nan, 1.0], [1, 2], Interval(None)),
    ],
)
def test_what_is_not_known_is_none(values: list[float], occurrence: list[int], expected: Interval) -> None:
    assert interval(mean_of(np.array(values)), np.array(occurrence)) == expected


def test_replicates_without_a_figure_do_not_count() -> None:
    found = interval(lambda weights: 0.5 if weights[0] else None, np.arange(3))
    assert found == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("num", [2, 24, 500])
def test_what_is_always_right_is_not_certain(num: int) -> None:
    exact = binomtest(num, num).proportion_ci(method="exact")
    found = interval(mean_of(np.ones(3 * num)), np.repeat(np.arange(num), 3))
    assert found == pytest.approx((1.0, exact.low, 1.0))
    assert interval(mean_of(np.zeros(num)), np.arange(num)) == pytest.approx((0.0, 0.0, 1 - exact.low))
