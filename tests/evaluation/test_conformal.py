import numpy as np
import pytest

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.conformal import Candidates, fit_balanced, fit_plain, measure_candidates
from tests.evaluation.rows import make_answers

NUM_CLASSES = 20
NUM_TRAIN = np.geomspace(2000, 4, NUM_CLASSES).astype(int)


def draw(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) of a long tail, and right classes drawn from them: the model is calibrated."""
    chance = np.random.default_rng(seed)
    logits = np.log(NUM_TRAIN / NUM_TRAIN.sum()) + chance.normal(0, 3, (num, NUM_CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (probabilities.cumsum(axis=1) > chance.random((num, 1))).argmax(axis=1)
    return probabilities.astype(np.float32), target


def answer(probabilities: np.ndarray, target: np.ndarray) -> Answers:
    rows = np.arange(len(target))
    best = probabilities.argmax(axis=1)
    return make_answers(target, best, probabilities.max(axis=1), target_score=probabilities[rows, target])


def is_in_set(candidates: Candidates, probabilities: np.ndarray) -> np.ndarray:
    """The sets by their definition, bool (N, K)."""
    sets = probabilities >= candidates.limits(probabilities.shape[1])
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def test_the_plain_limit_is_the_quantile_of_split_conformal_prediction() -> None:
    probabilities, target = draw(199, 0)
    scores = 1 - probabilities[np.arange(199), target].astype(np.float64)
    quantile = np.quantile(scores, np.ceil(200 * 0.9) / 199, method="inverted_cdf")
    assert fit_plain(1 - scores).limit[0] == pytest.approx(1 - quantile)


@pytest.mark.parametrize("promise", [0.8, 0.9, 0.95])
def test_plain_sets_keep_their_promise_over_photographs(promise: float) -> None:
    probabilities, target = draw(4000, 1)
    candidates = fit_plain(probabilities[np.arange(4000), target], promise)
    new, new_target = draw(5000, 2)
    measured = measure_candidates(candidates, answer(new, new_target), candidates.count(new), NUM_TRAIN)
    assert measured["coverage"].value == pytest.approx(promise, abs=0.02)
    assert measured["coverage"].low < measured["coverage"].value < measured["coverage"].high
    assert measured["macro_coverage"].value < promise - 0.03  # rare species are left out


def test_balanced_sets_keep_their_promise_over_species() -> None:
    probabilities, target = draw(4000, 1)
    candidates = fit_balanced(target, probabilities[np.arange(4000), target], NUM_TRAIN)
    new, new_target = draw(5000, 2)
    measured = measure_candidates(candidates, answer(new, new_target), candidates.count(new), NUM_TRAIN)
    assert measured["macro_coverage"].value == pytest.approx(0.9, abs=0.04)
    assert measured["mean_size"] < NUM_CLASSES / 2


def test_the_balanced_limit_is_that_of_copies_in_which_each_species_is_equally_frequent() -> None:
    """Species 0 has six photographs, species 1 has two: three copies of the latter make them equal."""
    score, target = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.1, 0.2]), np.array([0] * 6 + [1] * 2)
    found = fit_balanced(target, score, np.array([1, 1]), 0.5).limits(2)
    # With the new photograph of species 0: of 6 + 6 + 1 half may be missed, 6.5, less the new one: 5.5, so the three
    # copies of 0.1 may, those of 0.2 not. Species 1: of 6 + 6 + 3 7.5, less 3: 4.5, the same.
    np.testing.assert_allclose(found, [0.2, 0.2])
    np.testing.assert_allclose(fit_balanced(target, score, np.array([5, 2]), 0.5).limits(2), [0.2 * 2, 0.2], rtol=1e-6)


def test_sizes_and_coverage_are_those_of_the_sets() -> None:
    probabilities, target = draw(500, 3)
    rows = np.arange(500)
    for candidates in (
        fit_plain(probabilities[rows, target]),
        fit_balanced(target, probabilities[rows, target], NUM_TRAIN),
        Candidates(limit=(0.99,)),
    ):
        sets = is_in_set(candidates, probabilities)
        np.testing.assert_array_equal(candidates.count(probabilities), sets.sum(axis=1))
        np.testing.assert_array_equal(candidates.covers(answer(probabilities, target), NUM_CLASSES), sets[rows, target])
        measured = measure_candidates(candidates, answer(probabilities, target), sets.sum(axis=1), NUM_TRAIN)
        assert measured["mean_size"] == sets.sum(axis=1).mean()
        assert measured["median_size"] == np.median(sets.sum(axis=1))
        per_class = [sets[target == c, c].mean() for c in np.unique(target)]
        assert measured["macro_coverage"].value == pytest.approx(np.mean(per_class))
        few = NUM_TRAIN[target] < 20
        assert [row["name"] for row in measured["frequency"]] == ["many", "medium", "few"]
        assert measured["frequency"][2]["num_photographs"] == few.sum()
        assert measured["frequency"][2]["coverage"].value == pytest.approx(sets[rows, target][few].mean())
        assert measured["frequency"][2]["mean_size"] == sets[few].sum(axis=1).mean()


def test_the_photograph_at_the_limit_is_covered_after_a_journey_through_json() -> None:
    probabilities, target = draw(99, 4)
    score = probabilities[np.arange(99), target]
    for fitted in (fit_plain(score), fit_balanced(target, score, NUM_TRAIN)):
        candidates = Candidates.model_validate_json(fitted.model_dump_json())
        assert candidates == fitted
        limits = candidates.limits(NUM_CLASSES)
        assert limits.dtype == np.float32
        assert np.isin(score, limits[target]).any()


@pytest.mark.parametrize("num", [0, 1, 8])
def test_too_few_photographs_promise_only_the_set_of_all(num: int) -> None:
    target, score = np.zeros(num, int), np.full(num, 0.9, np.float32)
    assert fit_plain(score).limits(2).tolist() == [0, 0]
    assert fit_balanced(target, score, np.array([5, 5])).limits(2)[1] == 0
    assert Candidates().count(np.array([[0.9, 0.1]])).tolist() == [2]


def test_answers_without_a_species_or_without_numbers_are_never_covered() -> None:
    answers = make_answers([-1, 0, 0], [0, -1, 0], [1, 0, 0.2], target_score=[np.nan, 0, 0.2])
    assert Candidates().covers(answers, 2).tolist() == [False, False, True]
    measured = measure_candidates(Candidates(), answers, np.array([9, 1, 1]), np.array([9, 9]))
    assert (measured["coverage"].value, measured["mean_size"]) == (0.5, 1)
    assert fit_plain(np.array([np.nan] * 20)).limit == (0.0,)
    nothing = measure_candidates(Candidates(), answers.select(np.arange(0)), np.zeros(0), np.array([9, 9]))
    assert [nothing[name] for name in ("mean_size", "median_size")] == [None, None]
    assert nothing["macro_coverage"].value is None


def test_a_perfect_model_has_sets_of_one_and_a_useless_one_keeps_the_promise() -> None:
    perfect = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    assert fit_plain(perfect.max(axis=1)).count(perfect).tolist() == [1] * 30
    useless = np.full((30, 3), 1 / 3, np.float32)
    candidates = fit_plain(useless[:, 0])
    assert candidates.count(useless).tolist() == [3] * 30
