import numpy as np
import pytest

from aitax_ray.evaluation.thresholds import count_at_least, highest_limit, lowest_precise, ratio, share


def test_counts_are_those_of_comparing_each_answer_with_all_of_its_group() -> None:
    chance = np.random.default_rng(0)
    group, score = chance.integers(0, 4, 200), chance.integers(0, 20, 200) / 20
    is_right, weight = chance.random(200) < 0.6, chance.random(200)
    num, num_right = count_at_least(group, score, is_right, weight)
    for row in range(200):
        same = (group == group[row]) & (score >= score[row])
        assert num[row] == pytest.approx(weight[same].sum())
        assert num_right[row] == pytest.approx(weight[same & is_right].sum())
    assert count_at_least(*[np.zeros(0)] * 4)[0].shape == (0,)


def test_the_lowest_precise_score_is_the_lowest_from_which_on_enough_is_right() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    is_right = np.array([True, True, False, True, False])
    assert lowest_precise(score, is_right, 0.75, 1) == 0.6
    assert lowest_precise(score, is_right, 0.8, 1) == 0.8
    assert lowest_precise(score, is_right, 0.8, 3) is None
    assert lowest_precise(score, ~is_right, 0.8, 1) is None
    assert lowest_precise(score[:0], is_right[:0], 0.8, 0) is None


def test_equal_scores_are_kept_or_left_together() -> None:
    assert lowest_precise(np.full(4, 0.5), np.array([True, True, True, False]), 0.9, 1) is None


def test_a_limit_counts_the_new_score_as_below_it() -> None:
    score = np.arange(1, 20) / 20  # 19 scores: with the new one a twentieth is one score
    assert highest_limit(score, 0.05) == 1 / 20
    assert highest_limit(score, 0.1) == 2 / 20
    assert highest_limit(score[:18], 0.05) == -np.inf
    assert highest_limit(score[:0], 0.05) == -np.inf
    assert highest_limit(np.arange(9.0), 1 - 0.9) == 0  # 1 - 0.9 is less than 0.1


def test_new_scores_are_below_the_limit_as_seldom_as_promised() -> None:
    chance = np.random.default_rng(0)
    draws = chance.normal(size=(4000, 30))
    below = [draw[-1] < highest_limit(draw[:-1], 0.1) for draw in draws]
    assert 0.085 < np.mean(below) < 0.11  # the promise is 0.1, the standard error 0.005


def test_equal_weights_are_no_weights_and_whole_weights_are_copies() -> None:
    score = np.arange(40.0)
    assert highest_limit(score, 0.2, np.full(40, 0.5), 0.5) == highest_limit(score, 0.2)
    copies = np.repeat(score, 3)
    assert highest_limit(score, 0.2, np.full(40, 3.0), 1.0) == highest_limit(copies, 0.2)


def test_a_new_score_with_more_weight_has_a_lower_limit() -> None:
    found = highest_limit(np.arange(40.0), 0.2, np.ones(40), np.array([0.1, 1.0, 8.0, 100.0]))
    assert found[0] >= found[1] > found[2] > found[3] == -np.inf


def test_a_share_is_that_among_some_answers() -> None:
    is_so, among = np.array([True, False, True, True]), np.array([True, True, False, False])
    weight = np.array([1.0, 3.0, 1.0, 1.0])
    assert share(is_so)(np.ones(4)) == 0.75
    assert share(is_so)(weight) == 0.5
    assert share(is_so, among)(np.ones(4)) == 0.5
    assert share(is_so, among)(weight) == 0.25
    assert share(is_so, np.zeros(4, bool))(weight) is None
    assert share(is_so[:0])(weight[:0]) is None
    assert (ratio(1, 4), ratio(0, 0)) == (0.25, None)
