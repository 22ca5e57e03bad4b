from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.rejection import SINGLE, Rejection, fit_rejection, measure_rejection
from tests.evaluation.rows import make_answers

NOTHING = (None, None, None)


def draw(num: int, seed: int, is_known: bool, shifts: tuple[float, float, float], num_photographs: int = 1) -> Answers:
    """Answers whose probability, energy and similarity are higher by `shifts` standard deviations for known species."""
    chance = np.random.default_rng(seed)
    parts = chance.normal(0, 1, (num, 3)) + np.array(shifts) * is_known
    probability = 1 / (1 + np.exp(-parts[:, 0]))
    right = chance.random(num) < probability if is_known else np.zeros(num, bool)
    return make_answers(
        target=np.where(right, 0, 1) if is_known else np.full(num, -1),
        top=np.zeros(num),
        score=probability,
        occurrence=np.arange(num) // num_photographs,
        energy=(10 * parts[:, 1]).astype(np.float32),
        similarity=(parts[:, 2] / 10).astype(np.float32),
    )


def keeps(rejection: Rejection, answers: Answers) -> np.ndarray:
    return rejection.keeps(answers.scores[:, 0], answers.energy, answers.similarity)


@pytest.mark.parametrize(
    ("shifts", "expected"),
    [
        ((3.0, 0.0, 0.0), "max_probability"),
        ((0.0, 3.0, 0.0), "energy"),
        ((0.0, 0.0, 3.0), "similarity"),
        ((1.0, 1.0, 1.0), "combination"),
    ],
)
def test_the_score_that_tells_unknown_species_apart_best_is_chosen(
    shifts: tuple[float, float, float], expected: str
) -> None:
    known, unknown = draw(400, 0, True, shifts), draw(300, 1, False, shifts)
    rejection = fit_rejection(known, unknown, np.arange(300) % 10)
    assert rejection.score == expected
    test, other = draw(2000, 2, True, shifts), draw(2000, 3, False, shifts)
    measured = measure_rejection(rejection, test, other)
    is_known = np.arange(4000) < 2000
    for name, value in {
        "max_probability": np.r_[test.scores[:, 0], other.scores[:, 0]],
        "energy": np.r_[test.energy, other.energy],
        "similarity": np.r_[test.similarity, other.similarity],
    }.items():
        assert measured["auroc"][name] == pytest.approx(roc_auc_score(is_known, value))
    assert measured["auroc"][expected] >= max(measured["auroc"].values()) - 0.002
    assert measured["chosen_auroc"].value == measured["auroc"][expected]
    assert measured["chosen_auroc"].low < measured["chosen_auroc"].value < measured["chosen_auroc"].high
    assert measured["false_reject_rate"].value == pytest.approx(0.05, abs=0.025)
    assert measured["unknown_rejected"].value > 0.5
    assert (measured["num_unknown"], measured["score"]) == (2000, expected)


def test_the_combination_is_better_than_each_of_its_parts() -> None:
    shifts = (1.0, 1.0, 1.0)
    rejection = fit_rejection(draw(400, 0, True, shifts), draw(300, 1, False, shifts), np.arange(300) % 10)
    auroc = measure_rejection(rejection, draw(2000, 2, True, shifts), draw(2000, 3, False, shifts))["auroc"]
    # Three equal and independent shifts of 1 are one of the root of 3: an AUROC of 0.890 instead of 0.760.
    assert auroc["combination"] == pytest.approx(0.89, abs=0.02)
    assert max(auroc[name] for name in SINGLE) < 0.8


def test_one_odd_species_does_not_teach_a_combination() -> None:
    """The held-out species has a high energy by chance: a fit on it alone would reject what has a low energy."""
    known = draw(400, 0, True, (1.0, 0.0, 1.0))
    odd = draw(300, 1, False, (1.0, 0.0, 1.0))
    odd = replace(odd, energy=odd.energy + 30)
    assert fit_rejection(known, odd, np.zeros(300, int)).score in SINGLE
    combined = fit_rejection(known, odd, np.arange(300) % 10)
    assert all(weight >= 0 for weight in combined.weights)
    assert combined.weights[1] == 0


def test_equal_values_count_half() -> None:
    test, unknown = make_answers([0] * 3, [0] * 3, [0.5, 0.5, 0.9]), make_answers([-1] * 2, [0] * 2, [0.5, 0.3])
    found = measure_rejection(Rejection(), test, unknown)["auroc"]["max_probability"]
    assert found == pytest.approx(roc_auc_score([1, 1, 1, 0, 0], [0.5, 0.5, 0.9, 0.5, 0.3])) == pytest.approx(5 / 6)


def test_without_held_out_species_the_largest_probability_is_taken_and_nothing_is_claimed() -> None:
    known = draw(400, 0, True, (1.0, 0.0, 0.0))
    rejection = fit_rejection(known)
    assert rejection.score == "max_probability"
    assert rejection == fit_rejection(known, known.select(np.arange(0)))
    for unknown in (None, known.select(np.arange(0))):
        measured = measure_rejection(rejection, known, unknown)
        assert measured["auroc"] == {"max_probability": None, "energy": None, "similarity": None}
        assert measured["chosen_auroc"] == measured["unknown_rejected"] == NOTHING
        assert measured["num_unknown"] == 0


def test_many_photographs_of_a_few_held_out_occurrences_choose_nothing() -> None:
    shifts = (0.0, 3.0, 0.0)
    known, unknown = draw(200, 0, True, shifts), draw(90, 1, False, shifts, num_photographs=10)
    assert fit_rejection(known, unknown).score == "max_probability"
    assert fit_rejection(known, draw(100, 1, False, shifts, num_photographs=10)).score == "energy"


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_known_species_are_rejected_as_seldom_as_promised(rate: float) -> None:
    rejection = fit_rejection(draw(4000, 0, True, (1.0, 0.0, 0.0)), false_reject_rate=rate)
    measured = measure_rejection(rejection, draw(8000, 1, True, (1.0, 0.0, 0.0)))
    assert measured["false_reject_rate"].value == pytest.approx(rate, rel=0.1, abs=0.006)


@pytest.mark.parametrize("num", [0, 1, 18])
def test_too_few_validation_answers_reject_nothing(num: int) -> None:
    rejection = fit_rejection(draw(20, 0, True, (1.0, 0.0, 0.0)).select(np.arange(num)))
    assert rejection.threshold is None
    assert keeps(rejection, draw(50, 1, True, (0.0, 0.0, 0.0))).all()
    assert fit_rejection(draw(20, 0, True, (1.0, 0.0, 0.0))).threshold is not None


def test_without_a_search_the_probability_decides() -> None:
    shifts = (1.0, 0.0, 3.0)
    known, unknown = draw(400, 0, True, shifts), draw(300, 1, False, shifts)
    rejection = fit_rejection(known, unknown)
    assert rejection.weights[2] > 0
    unsearched = replace(known, similarity=np.full(400, np.nan, np.float32))
    np.testing.assert_array_equal(keeps(rejection, unsearched), keeps(fit_rejection(known), known))
    assert fit_rejection(unsearched, unknown).weights[2] == 0
    measured = measure_rejection(rejection, unsearched, unknown)
    assert measured["auroc"]["similarity"] is None
    assert (measured["chosen_auroc"], measured["risk_coverage"]) == (NOTHING, [])


def test_answers_without_numbers_are_rejected_and_spoil_no_fit() -> None:
    shifts = (1.0, 1.0, 1.0)

    def spoil(answers: Answers) -> Answers:
        bad = np.arange(len(answers)) < 5
        return replace(
            answers,
            top=np.where(bad[:, None], -1, answers.top),
            scores=np.where(bad[:, None], 0, answers.scores),
            energy=np.where(bad, -np.inf, answers.energy).astype(np.float32),
        )

    known, unknown = spoil(draw(400, 0, True, shifts)), spoil(draw(300, 1, False, shifts))
    rejection = fit_rejection(known, unknown, np.arange(300) % 10)
    assert rejection.score == "combination"
    assert not keeps(rejection, known)[:5].any()
    assert not keeps(Rejection(), known)[:5].any()
    assert 0.5 < measure_rejection(rejection, known, unknown)["chosen_auroc"].value < 1
    few = unknown.select(np.arange(14))  # 9 of them have numbers
    assert fit_rejection(known, few).score == "max_probability"
    useless = make_answers([0] * 30, [-1] * 30, [0] * 30)
    assert fit_rejection(useless, useless).score == "max_probability"
    assert measure_rejection(fit_rejection(useless), useless)["false_reject_rate"].value == 1


def test_the_rejection_survives_json() -> None:
    shifts = (1.0, 1.0, 1.0)
    known = draw(400, 0, True, shifts)
    rejection = fit_rejection(known, draw(300, 1, False, shifts), np.arange(300) % 10)
    again = Rejection.model_validate_json(rejection.model_dump_json())
    assert again == rejection
    np.testing.assert_array_equal(keeps(again, known), keeps(rejection, known))


def test_the_curve_is_the_share_of_wrong_answers_among_those_kept() -> None:
    answers = make_answers([0, 1, 0, 1], [0, 0, 0, 0], [0.9, 0.8, 0.7, 0.6])
    measured = measure_rejection(Rejection(), answers)
    assert measured["risk_coverage"] == [(0.25, 0), (0.5, 0.5), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    assert measured["risk_coverage_area"].value == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    equal = measure_rejection(Rejection(), make_answers([0, 1, 0, 1], [0, 0, 0, 0], [0.9, 0.9, 0.9, 0.6]))
    assert equal["risk_coverage"] == [(0.75, pytest.approx(1 / 3)), (1, 0.5)]


def test_the_area_is_the_mean_of_the_risks_at_each_coverage() -> None:
    answers = draw(500, 0, True, (1.0, 0.0, 0.0))
    is_wrong = answers.top[:, 0] != answers.target
    risks = np.cumsum(is_wrong[np.argsort(-answers.scores[:, 0])]) / np.arange(1, 501)
    measured = measure_rejection(Rejection(), answers)
    area = measured["risk_coverage_area"]
    assert area.value == pytest.approx(risks.mean())
    assert area.low < area.value < area.high
    assert len(measured["risk_coverage"]) == 100
    assert measured["risk_coverage"][-1] == (1, pytest.approx(is_wrong.mean()))


def test_one_answer_and_none_have_defined_figures() -> None:
    one = make_answers([0], [0])
    measured = measure_rejection(fit_rejection(one, one), one, one)
    for name in ("false_reject_rate", "risk_coverage_area", "unknown_rejected"):
        assert measured[name] == (0, None, None)
    assert measured["chosen_auroc"] == (0.5, None, None)
    two = make_answers([0, 0], [0, 0], occurrence=[0, 1])
    measured = measure_rejection(Rejection(), two, one)
    assert measured["false_reject_rate"] == (0, 0, pytest.approx(1 - 0.025**0.5))
    assert measured["unknown_rejected"] == (0, None, None)
    assert measured["chosen_auroc"] == (0.5, None, None)
    nothing = measure_rejection(Rejection(), one.select(np.arange(0)), one)
    assert (nothing["false_reject_rate"], nothing["risk_coverage"], nothing["chosen_auroc"]) == (NOTHING, [], NOTHING)


def test_occurrences_of_known_and_unknown_species_are_drawn_apart() -> None:
    """Each known one that is rejected has the number of an unknown one that is kept, and the other way round."""
    score = [0.1, 0.9] * 20
    test, unknown = make_answers([0] * 40, [0] * 40, score), make_answers([-1] * 40, [0] * 40, score[::-1])
    apart = replace(unknown, occurrence=unknown.occurrence + 1000)
    assert measure_rejection(Rejection(), test, unknown) == measure_rejection(Rejection(), test, apart)
