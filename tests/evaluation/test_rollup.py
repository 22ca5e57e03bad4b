import numpy as np
import pytest

from aitax_ray.evaluation.rollup import RANKS, Rollup, fit_rollup, is_right_at, measure_rollup, rank_scores
from tests.evaluation.rows import make_answers, make_taxonomy

# Species 0 and 1 of genus 0, 2 of genus 1, both of family 0; 3 of family 1, its genus not known; 4 without either.
TAXONOMY = make_taxonomy([0, 0, 1, -1, -1], [0, 0, 0, 1, -1])


def test_an_answer_names_the_lowest_rank_that_is_certain_enough() -> None:
    rollup = Rollup(species=0.8, genus=0.9, family=0.95)
    scores = np.array([[0.8, 0.8, 0.8], [0.7, 0.9, 0.9], [0.7, 0.8, 0.96], [0.7, 0.8, 0.9], [np.nan] * 3], np.float32)
    assert rollup.rank(scores).tolist() == [0, 1, 2, -1, -1]
    assert Rollup(species=0.8, family=0.95).rank(scores).tolist() == [0, -1, 2, -1, -1]
    assert Rollup().rank(scores).tolist() == [-1] * 5
    assert rollup.rank(scores[:0]).tolist() == []


def test_a_rank_that_is_not_known_is_skipped() -> None:
    answers = make_answers(
        [0, 3, 4, 0], [0, 3, 4, -1], [0.5, 0.5, 0.5, 0], genus_score=[0.9] * 4, family_score=[0.99] * 4
    )
    scores = rank_scores(answers, TAXONOMY)
    np.testing.assert_allclose(
        scores, [[0.5, 0.9, 0.99], [0.5, np.nan, 0.99], [0.5, np.nan, np.nan], [np.nan] * 3], rtol=1e-6
    )
    assert Rollup(genus=0.8, family=0.8).rank(scores).tolist() == [1, 2, -1, -1]


def test_a_higher_rank_is_right_where_the_species_is_not() -> None:
    answers = make_answers([0, 1, 2, 3, 4, -1, -1, 3], [0, 0, 0, 0, 3, 0, 4, -1])
    assert is_right_at(answers, TAXONOMY).tolist() == [
        [True, True, True],
        [False, True, True],
        [False, False, True],
        [False, False, False],
        [False, False, False],
        [False, False, False],
        [False, False, False],
        [False, False, False],
    ]


def make_mixed() -> dict[str, np.ndarray]:
    """40 sure and right; 40 less sure, of which half are the other species of the genus; 40 of the other genus."""
    chance = np.random.default_rng(0)
    target = np.repeat([0, 0, 2], 40)
    top = np.r_[np.zeros(40, int), np.tile([0, 1], 20), np.tile([0, 2], 20)]
    species = np.r_[chance.uniform(0.8, 1, 40), chance.uniform(0.5, 0.8, 40), chance.uniform(0.3, 0.5, 40)]
    genus = np.r_[np.ones(40), chance.uniform(0.9, 1, 40), chance.uniform(0.4, 0.6, 40)]
    return {"target": target, "top": top, "score": species, "genus_score": genus, "family_score": np.ones(120)}


def test_thresholds_reach_the_precision_with_as_many_answers_as_possible() -> None:
    rows = make_mixed()
    answers = make_answers(**rows)
    rollup = fit_rollup(answers, TAXONOMY, 0.95)
    measured = measure_rollup(rollup, answers, TAXONOMY)
    assert [row["rank"] for row in measured["ranks"]] == list(RANKS)
    assert all(row["precision"].value >= 0.95 for row in measured["ranks"])
    assert measured["ranks"][0]["share"].value == pytest.approx(42 / 120, abs=2 / 120)  # 38 or 40 of 42 are right
    assert sum(row["share"].value for row in measured["ranks"][:2]) == pytest.approx(82 / 120, abs=3 / 120)
    assert measured["unanswered"].value == 0
    # Below each threshold the next score would be one answer too many.
    scores, is_right = rank_scores(answers, TAXONOMY), is_right_at(answers, TAXONOMY)
    for place, name in enumerate(RANKS[:2]):
        free = Rollup(**{rank: getattr(rollup, rank) for rank in RANKS[:place]}).rank(scores) < 0
        for limit in scores[free, place][scores[free, place] < getattr(rollup, name)]:
            assert is_right[free, place][scores[free, place] >= limit].mean() < 0.95


def test_thresholds_survive_json() -> None:
    rollup = fit_rollup(make_answers(**make_mixed()), TAXONOMY)
    assert Rollup.model_validate_json(rollup.model_dump_json()) == rollup


@pytest.mark.parametrize("num", [0, 1, 9])
def test_too_few_answers_give_no_threshold(num: int) -> None:
    answers = make_answers([0] * 9, [0] * 9).select(np.arange(num))
    assert fit_rollup(answers, TAXONOMY) == Rollup()
    measured = measure_rollup(Rollup(), answers, TAXONOMY)
    assert measured["unanswered"].value == (1 if num else None)
    assert [row["precision"].value for row in measured["ranks"]] == [None] * 3


def test_a_perfect_model_names_species_and_a_useless_one_is_silent() -> None:
    perfect = make_answers([0, 1, 2] * 10, [0, 1, 2] * 10)
    measured = measure_rollup(fit_rollup(perfect, TAXONOMY), perfect, TAXONOMY)
    assert [row["share"].value for row in measured["ranks"]] == [1, 0, 0]
    useless = make_answers([0] * 30, [3] * 30)
    assert measure_rollup(fit_rollup(useless, TAXONOMY), useless, TAXONOMY)["unanswered"].value == 1


def test_photographs_without_a_genus_spoil_no_threshold() -> None:
    answers = make_answers([0] * 40 + [4], [1] * 40 + [4], [0.5] * 41, genus_score=[0.9] * 41)
    assert fit_rollup(answers, TAXONOMY).genus == pytest.approx(0.9)


def test_a_rank_with_one_occurrence_has_no_interval() -> None:
    answers = make_answers([0, 0, 0], [0, 0, 0], [0.9, 0.9, 0.1], occurrence=[0, 0, 1])
    measured = measure_rollup(Rollup(species=0.8), answers, TAXONOMY)["ranks"][0]
    assert measured["precision"] == (1, None, None)
    assert measured["share"].low is not None
