"""Sides of groups over many sizes and shares; that nothing leaves test as an archive grows."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from aitax_ray.dataset.assign import SIDES, TEST, TRAIN, VAL, assign, draw

SIZES = [1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 100]
SHARES = [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99]
CASES = [(n, val, test) for n, val, test in itertools.product(SIZES, SHARES, SHARES) if val + test < 1]


def sides_of(num: int, val: float, test: float, seed: int = 0) -> NDArray[np.int8]:
    """One species with so many groups."""
    drawn = draw(seed, (f"gbif-{number}" for number in range(num)))
    return assign(drawn, (np.zeros(num, np.int64), np.arange(num)), val, test)


def counted(num: int, val: float, test: float) -> tuple[int, int, int]:
    sides = sides_of(num, val, test).tolist()
    return sides.count(TRAIN), sides.count(VAL), sides.count(TEST)


def test_one_group_always_stays_for_training() -> None:
    assert [case for case in CASES if counted(*case)[0] < 1] == []


def test_of_two_or_more_groups_one_is_for_validation() -> None:
    assert [case for case in CASES if case[0] >= 2 and case[1] > 0 and counted(*case)[1] < 1] == []


def test_of_three_or_more_groups_one_is_for_the_test() -> None:
    assert [case for case in CASES if case[0] >= 3 and case[2] > 0 and counted(*case)[2] < 1] == []


def test_a_share_of_zero_switches_a_side_off() -> None:
    assert [case for case in CASES if case[1] == 0 and counted(*case)[1] > 0] == []
    assert [case for case in CASES if case[2] == 0 and counted(*case)[2] > 0] == []


def test_fewer_groups_than_a_side_needs_leave_it_empty() -> None:
    assert counted(1, 0.4, 0.4) == (1, 0, 0)
    assert counted(2, 0.4, 0.4) == (1, 1, 0)
    assert counted(3, 0.4, 0.4) == (1, 1, 1)


def test_no_groups_are_no_error() -> None:
    assert sides_of(0, 0.1, 0.1).tolist() == []


def test_the_shares_are_kept() -> None:
    found = Counter(sides_of(20_000, 0.1, 0.2).tolist())
    assert found[TEST] == pytest.approx(4000, abs=180)  # three standard deviations
    assert found[VAL] == pytest.approx(2000, abs=130)


def test_what_is_drawn_is_even_and_the_seed_decides() -> None:
    drawn = draw(0, map(str, range(10_000)))
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(np.full(10, 1000), abs=130)
    assert (drawn == draw(0, map(str, range(10_000)))).all()
    assert not (drawn == draw(1, map(str, range(10_000)))).any()


def test_the_split_of_today_is_the_split_of_tomorrow() -> None:
    assert [SIDES[side] for side in sides_of(8, 0.2, 0.2)] == [
        "test", "train", "train", "train", "train", "train", "train", "val",
    ]  # fmt: skip


# Groups as (drawn, the species in them).
GROUPS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sets(st.integers(0, 5), min_size=1, max_size=3)), max_size=30
)


def members(groups: list[tuple[float, set[int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = [(species, number) for number, (_, own) in enumerate(groups) for species in own]
    return np.array([s for s, _ in pairs], np.int64), np.array([g for _, g in pairs], np.int64)


@given(GROUPS, GROUPS, st.floats(0, 0.4), st.floats(0, 0.4))
def test_what_is_in_test_stays_there_whatever_is_added(
    groups: list[tuple[float, set[int]]], added: list[tuple[float, set[int]]], val: float, test: float
) -> None:
    drawn = np.array([number for number, _ in groups])
    today = assign(drawn, members(groups), val, test)
    grown = groups + added
    earlier = np.zeros(len(grown), bool)
    earlier[: len(groups)] = today == TEST
    tomorrow = assign(np.array([number for number, _ in grown]), members(grown), val, test, earlier)
    assert (tomorrow[: len(groups)][today == TEST] == TEST).all()


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_species_of_its_own_groups_gets_every_side_it_can(drawn: list[float], val: float, test: float) -> None:
    num = len(drawn)
    found = set(assign(np.array(drawn), (np.zeros(num, np.int64), np.arange(num)), val, test).tolist())
    assert TRAIN in found
    assert (VAL in found) == (val > 0 and num >= 2)
    assert (TEST in found) == (test > 0 and num >= 3)
