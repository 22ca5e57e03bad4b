import numpy as np
import pytest

from aitax_ray.evaluation.compare import compare


def hits(share: float, num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(num) < share


def test_a_much_worse_engine_is_significantly_worse_and_a_better_one_is_not() -> None:
    good, bad = hits(0.95, 300, 0), hits(0.8, 300, 1)
    species, occurrence = np.array(["a", "b", "c"])[np.arange(300) % 3], np.arange(300)
    worse = compare(good, bad, species, occurrence)
    assert worse.is_significantly_worse
    assert worse.top1.value == pytest.approx(bad.mean() - good.mean())
    assert worse.top1.low < worse.top1.value < worse.top1.high < 0  # type: ignore[operator]
    assert worse.macro_top1.before == pytest.approx(np.mean([good[species == key].mean() for key in "abc"]))
    better = compare(bad, good, species, occurrence)
    assert not better.is_significantly_worse
    assert better.top1.value == pytest.approx(-worse.top1.value)  # type: ignore[operator]


def test_a_difference_that_chance_explains_is_not_significant() -> None:
    before = hits(0.9, 60, 0)
    after = before.copy()
    after[np.flatnonzero(before)[:1]] = False
    found = compare(before, after, np.full(60, "a"), np.arange(60))
    assert found.top1.value == pytest.approx(-1 / 60)
    assert not found.is_significantly_worse


def test_pairing_finds_what_two_separate_intervals_would_not() -> None:
    before = hits(0.7, 400, 0)
    after = before.copy()
    after[np.flatnonzero(before)[:10]] = False
    assert compare(before, after, np.full(400, "a"), np.arange(400)).is_significantly_worse
    together = compare(before, after, np.full(400, "a"), np.arange(400) // 100)
    assert together.num_occurrences == 4


def test_a_rare_species_that_was_lost_counts_in_the_macro_figure() -> None:
    species = np.array(["common"] * 500 + ["rare"] * 8)
    before, after = np.ones(508, bool), np.ones(508, bool)
    after[500:] = False
    found = compare(before, after, species, np.arange(508))
    assert found.macro_top1.value == pytest.approx(-0.5)
    assert found.is_significantly_worse
    assert found.species == [{"species_key": "rare", "before": 1.0, "after": 0.0, "num": 8}]


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_is_claimed_of_nothing(num: int) -> None:
    found = compare(np.ones(num, bool), np.zeros(num, bool), np.full(num, "a"), np.arange(num))
    assert not found.is_significantly_worse
    assert (found.num_photographs, found.top1.low, found.species) == (num, None, [])
