"""`split_occurrences` over many sizes and shares."""

import itertools
import random

import pytest

from aitax_ray.dataset.assign import split_occurrences

SIZES = [1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 100]
SHARES = [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99]
CASES = [(n, val, test) for n, val, test in itertools.product(SIZES, SHARES, SHARES) if val + test < 1]


def occurrences(num: int) -> list[str]:
    return [f"gbif-{number}" for number in range(num)]


def numbers(num: int, val: float, test: float, seed: int = 0) -> tuple[int, int, int]:
    sides = list(split_occurrences(occurrences(num), val, test, seed).values())
    return sides.count("train"), sides.count("val"), sides.count("test")


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_every_occurrence_has_one_side(seed: int) -> None:
    for num, val, test in CASES:
        sides = split_occurrences(occurrences(num), val, test, seed)
        assert sorted(sides) == sorted(occurrences(num))
        assert set(sides.values()) <= {"train", "val", "test"}


def test_one_occurrence_always_stays_for_training() -> None:
    assert [case for case in CASES if numbers(*case)[0] < 1] == []


def test_of_two_or_more_occurrences_one_is_for_validation() -> None:
    assert [case for case in CASES if case[0] >= 2 and case[1] > 0 and numbers(*case)[1] < 1] == []


def test_of_three_or_more_occurrences_one_is_for_the_test() -> None:
    assert [case for case in CASES if case[0] >= 3 and case[2] > 0 and numbers(*case)[2] < 1] == []


def test_a_share_of_zero_switches_a_side_off() -> None:
    assert [case for case in CASES if case[1] == 0 and numbers(*case)[1] > 0] == []
    assert [case for case in CASES if case[2] == 0 and numbers(*case)[2] > 0] == []


def test_fewer_occurrences_than_a_side_needs_leave_it_empty() -> None:
    assert numbers(1, 0.4, 0.4) == (1, 0, 0)
    assert numbers(2, 0.4, 0.4) == (1, 1, 0)
    assert numbers(3, 0.4, 0.4) == (1, 1, 1)


def test_with_enough_occurrences_the_shares_are_kept_to_within_one() -> None:
    for num, val, test in CASES:
        if num * (1 - val - test) >= 2:  # there is room for at least one of each
            _, num_val, num_test = numbers(num, val, test)
            assert abs(num_val - val * num) <= 1, (num, val, test)
            assert abs(num_test - test * num) <= 1, (num, val, test)


def test_no_occurrences_are_no_error() -> None:
    assert split_occurrences([], 0.1, 0.1, 0) == {}


def test_the_order_and_repetition_of_occurrences_change_nothing() -> None:
    ids = occurrences(50)
    shuffled = [*ids, *ids[:20]]
    random.Random(0).shuffle(shuffled)
    assert split_occurrences(shuffled, 0.2, 0.2, 0) == split_occurrences(ids, 0.2, 0.2, 0)


def test_another_seed_gives_another_split() -> None:
    splits = [split_occurrences(occurrences(50), 0.2, 0.2, seed) for seed in range(5)]
    assert [(a, b) for a, b in itertools.combinations(range(5), 2) if splits[a] == splits[b]] == []


def test_the_split_of_today_is_the_split_of_tomorrow() -> None:
    sides = {"gbif-0": "test", "gbif-2": "val", "gbif-1": "train", "gbif-3": "train", "gbif-4": "train"}
    assert split_occurrences(occurrences(5), 0.2, 0.2, 0) == sides


def test_chance_favours_no_occurrence() -> None:
    tested = [
        gbif_id
        for seed in range(1000)
        for gbif_id, side in split_occurrences(occurrences(5), 0.2, 0.2, seed).items()
        if side == "test"
    ]
    counts = [tested.count(gbif_id) for gbif_id in occurrences(5)]
    assert sum(counts) == 1000
    assert all(140 < count < 260 for count in counts)  # 200 expected, standard deviation 13


def test_an_archive_that_grows_moves_few_occurrences() -> None:
    before = split_occurrences(occurrences(100), 0.1, 0.1, 0)
    after = split_occurrences(occurrences(110), 0.1, 0.1, 0)
    assert sum(before[gbif_id] != after[gbif_id] for gbif_id in before) <= 10
