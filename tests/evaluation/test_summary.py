import doctest
import math
from typing import Any

import pytest

from aitax_ray.evaluation import summary as module
from aitax_ray.evaluation.summary import advise, limits, percent, summarize, with_interval


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def make_metrics(top1: dict[str, Any], macro: dict[str, Any], **counts: int) -> dict[str, Any]:
    return {"photographs": {"top1": top1, "macro_top1": macro}, "counts": {"species": 10, **counts}}


def say(metrics: dict[str, Any], question: str) -> str:
    return " ".join(dict(summarize(metrics)).get(question, []))


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_a_share_close_to_0_or_1_is_not_written_as_one() -> None:
    assert percent(0.9996) == "more than 99.9 %"
    assert percent(0.0004) == "less than 0.1 %"
    assert percent(0.004, 0) == "less than 1 %"
    assert (percent(0.0), percent(1), percent(0.5)) == ("0 %", "100 %", "50.0 %")


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, figure(0.5)])
def test_what_is_no_finite_number_is_not_known(missing: Any) -> None:
    assert percent(missing) == "not known"
    assert with_interval({"value": missing}) == "not known"
    assert with_interval(figure(0.5, missing, missing)) == "50.0 %"


def test_an_interval_of_no_width_is_not_shown() -> None:
    assert limits(figure(1.0, 1.0, 1.0)) == ""
    assert with_interval(figure(0.9, 0.85, 0.94)) == "90.0 % (85.0 to 94.0 %)"


def test_nothing_is_claimed_without_figures() -> None:
    for metrics in ({}, {"photographs": None, "counts": None}, make_metrics(figure(None), figure(None), species=0)):
        assert say(metrics, "Is it good?") == "Nobody knows yet: there is no test photograph."
        assert "not known" in say(metrics, "When can it be believed?")
        assert "not measured" in say(metrics, "What does it not know?")
        assert not any("%" in sentence for _, sentences in summarize(metrics) for sentence in sentences)


def test_a_perfect_result_says_how_bad_the_engine_may_still_be() -> None:
    said = say(make_metrics(figure(1.0, 1.0, 1.0), figure(1.0, 1.0, 1.0), test_occurrences=30), "Is it good?")
    assert "wrong in up to 9.5 %" in said  # 1 - 0.05 ** (1 / 30)
    said = say(make_metrics(figure(1.0), figure(1.0), test_occurrences=1), "Is it good?")
    assert "wrong in up to 95.0 %" in said


def test_a_useless_engine_is_not_called_good() -> None:
    useless = make_metrics(figure(0.12, 0.08, 0.2), figure(0.12, 0.09, 0.2), test_occurrences=500)
    assert "no better than guessing, which is right for 10.0 %" in say(useless, "Is it good?")
    better = make_metrics(figure(0.5, 0.4, 0.6), figure(0.5, 0.4, 0.6), test_occurrences=500)
    assert "guessing" not in say(better, "Is it good?")


def test_one_species_proves_nothing() -> None:
    said = say(make_metrics(figure(1.0), figure(1.0), species=1, test_occurrences=1), "Is it good?")
    assert "no figure here says how good it is" in said
    assert "100 %" not in said


def test_five_of_two_species_are_always_right_and_not_told() -> None:
    metrics = make_metrics(figure(0.8, 0.7, 0.9), figure(0.8, 0.7, 0.9), species=2)
    metrics["photographs"]["top5"] = figure(1.0)
    assert "first five" not in say(metrics, "Is it good?")


def test_a_small_test_is_said_to_be_small() -> None:
    metrics = make_metrics(figure(0.8, 0.7, 0.9), figure(0.8, 0.7, 0.9), test_occurrences=99)
    assert "only 99 occurrences" in say(metrics, "Is it good?")
    metrics["counts"]["test_occurrences"] = 100
    assert "only" not in say(metrics, "Is it good?")


@pytest.mark.parametrize(
    ("value", "low", "high", "is_significantly", "verdict"),
    [
        (0.02, 0.01, 0.03, "better", "is better than"),
        (0.02, -0.01, 0.05, "", "cannot be told apart from"),
        (-0.02, -0.03, -0.01, "worse", "is worse than"),
        (0.02, 0.01, 0.03, "", "cannot be told apart from"),
        (0.02, None, None, "", "cannot be told apart from"),
    ],
)
def test_a_change_is_named_only_if_it_is_significant(
    value: float, low: float | None, high: float | None, is_significantly: str, verdict: str
) -> None:
    metrics = make_metrics(figure(0.8, 0.7, 0.9), figure(0.8, 0.7, 0.9))
    metrics["changes"] = {"against": "v1", "top1": figure(value, low, high)} | {
        f"is_significantly_{name}": name == is_significantly for name in ("worse", "better")
    }
    assert f"It {verdict} the engine v1" in say(metrics, "Is it good?")


@pytest.mark.parametrize(
    ("ece", "is_rough", "expected"),
    [
        (figure(0.02, 0.01, 0.06), False, "Scores can be read"),
        (figure(0.02, 0.01, 0.2), False, "Scores cannot be read"),
        (figure(0.2, 0.1, 0.3), False, "Scores cannot be read"),
        (figure(0.02, 0.01, 0.03), True, "too few validation"),
        (figure(0.0), False, "not known"),
    ],
)
def test_scores_are_probabilities_only_if_they_were_calibrated_well(
    ece: dict[str, Any], is_rough: bool, expected: str
) -> None:
    metrics = {"counts": {"val": 50}, "calibration": {"after": {"ece": ece}, "is_rough": is_rough}}
    assert expected in say(metrics, "When can it be believed?")


def test_without_validation_the_sentence_about_trust_is_repeated() -> None:
    metrics = {"counts": {"val": 0}, "calibration": {"trust": "Not calibrated.", "after": {"ece": figure(0.01)}}}
    assert say(metrics, "When can it be believed?") == "Not calibrated."
    assert any("--val" in sentence for sentence in advise(metrics))


def test_a_broken_promise_of_candidates_is_said() -> None:
    metrics = {"candidates": {"promise": 0.9, "plain": {"coverage": figure(0.8, 0.75, 0.85), "mean_size": 2.0}}}
    assert "less than the 90 % that such a list promises" in say(metrics, "When can it be believed?")
    metrics["candidates"]["plain"]["coverage"] = figure(0.88, 0.85, 0.91)  # type: ignore[index]
    assert "less than" not in say(metrics, "When can it be believed?")


def test_only_groups_clearly_below_the_average_are_named() -> None:
    metrics = make_metrics(figure(0.8, 0.75, 0.85), figure(0.8, 0.75, 0.85))
    rows = [("BR", 0.5, 0.6), ("CO", 0.7, 0.8), ("others", 0.1, 0.2), ("", 0.1, 0.2), ("PE", 0.9, None)]
    metrics["groups"] = {
        "country": [{"name": name, "top1": figure(value, 0.0, high)} for name, value, high in rows], "year": None,
    }  # fmt: skip
    said = say(metrics, "What does it not know?")
    assert "clearly weaker than on average for country BR (50.0 % right)." in said


def test_advice_follows_from_the_figures() -> None:
    metrics = {
        "num_suspects": 3,
        "counts": {"val": 5, "species_without_test": 2},
        "frequency": [{"name": "few", "num_species": 7}],
        "lookalikes": {"groups": [{"species": ["a", "b"]}]},
        "rejection": {"num_unknown": 4},
    }
    first, second, third, fourth = advise(metrics)
    assert [next(word for word in text.split() if word.isdigit()) for text in (first, second, third)] == ["3", "7", "2"]
    assert "look-alikes" in fourth
