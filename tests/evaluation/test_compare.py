import numpy as np
import pytest

from aitax_ray.evaluation.compare import Comparison, Difference, compare


def hits(share: float, num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(num) < share


def test_a_much_worse_engine_is_significantly_worse_and_a_better_one_is_not() -> None:
    good, bad = hits(0.95, 300, 0), hits(0.8, 300, 1)
    species, occurrence = np.array(["a", "b", "c"])[np.arange(300) % 3], np.arange(300)
    worse = compare(good, bad, species, occurrence)
    assert worse.is_significantly_worse
    assert worse.top1.p_worse == pytest.approx(1 / 1001)  # never 0: there are 1,000 replicates
    assert worse.top1.value == pytest.approx(bad.mean() - good.mean())
    assert worse.top1.low < worse.top1.value < worse.top1.high < 0  # type: ignore[operator]
    assert worse.macro_top1.before == pytest.approx(np.mean([good[species == key].mean() for key in "abc"]))
    better = compare(bad, good, species, occurrence)
    assert (better.is_significantly_worse, better.is_significantly_better) == (False, True)
    assert not worse.is_significantly_better
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


@pytest.mark.parametrize(("num", "is_worse"), [(2, False), (5, False), (6, True)])
def test_so_few_changes_prove_nothing(num: int, is_worse: bool) -> None:
    """The sign test: 2 ** -5 is above 0.025. Of many photographs or of few, of one occurrence or of several each."""
    before, occurrence = np.ones(1000, bool), np.arange(1000)
    after = before.copy()
    after[:num] = False
    assert compare(before, after, np.full(1000, "a"), occurrence).is_significantly_worse == is_worse
    alone = compare(before[:num], after[:num], np.full(num, "a"), occurrence[:num])
    assert alone.top1.p_worse == pytest.approx(0.5**num)
    assert alone.is_significantly_worse == is_worse


def test_photographs_of_one_occurrence_prove_as_much_as_one() -> None:
    occurrence = np.array([0] * 50 + [1] * 50 + list(range(2, 102)))
    before = np.ones(200, bool)
    after = before & (occurrence > 1)
    found = compare(before, after, np.full(200, "a"), occurrence)
    assert found.top1.p_worse == pytest.approx(0.25)
    assert not found.is_significantly_worse


def test_a_replicate_draws_occurrences() -> None:
    before, after = np.arange(90) % 3 > 0, np.arange(90) % 4 > 0
    once = compare(before, after, np.full(90, "a"), np.arange(90))
    ten_times = compare(*(np.repeat(column, 10) for column in (before, after, np.full(90, "a"), np.arange(90))))
    assert ten_times.top1 == once.top1


def test_answers_that_did_not_change_are_no_worse() -> None:
    hit = hits(0.8, 50, 0)
    found = compare(hit, hit, np.full(50, "a"), np.arange(50))
    assert (found.top1.value, found.top1.p_worse, found.species) == (0, 1, [])


def test_as_many_that_got_better_as_worse_are_no_sign() -> None:
    before = np.arange(8) % 2 == 0
    found = compare(before, ~before, np.full(8, "a"), np.arange(8))
    assert found.top1.value == 0
    assert found.top1.p_worse > 0.5  # type: ignore[operator]


def test_one_figure_that_is_worse_makes_the_engine_worse() -> None:
    fine, worse = Difference(0.9, 0.9, 0.0, 0.0, 0.0, 1.0, 0.5), Difference(0.9, 0.8, -0.1, -0.15, -0.05, 0.001, 0.5)
    for top1, macro_top1 in ((fine, worse), (worse, fine)):
        assert Comparison(100, 100, top1, macro_top1, []).is_significantly_worse
    assert not Comparison(100, 100, fine, fine, []).is_significantly_worse
    assert not Difference(0.8, 0.9, 0.1, -0.1, 0.1, 0.01, 0.5).is_significantly_worse


def test_species_that_changed_most_come_first() -> None:
    species = np.array(["a"] * 4 + ["b"] * 6 + ["c"] * 9)
    before, after = np.ones(19, bool), np.ones(19, bool)
    after[:10] = False
    after[10:12] = False  # too few to be listed
    found = compare(before, after, species, np.arange(19))
    assert [row["species_key"] for row in found.species] == ["b", "a"]


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
