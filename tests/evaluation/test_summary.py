import doctest

import pytest

from aitax_ray.evaluation import summary as module
from aitax_ray.evaluation.summary import advise, summarize
from tests.evaluation.worlds import make_metrics, make_world


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_a_good_engine_is_said_to_be_good_and_what_is_not_known_is_said() -> None:
    metrics = make_metrics(make_world(strength=6.0))
    text = " ".join(summarize(metrics))
    assert f"right for {100 * metrics['top1']:.1f} %" in text or "right for 100 %" in text
    assert "6 of 6 species have a score from which on an answer can be accepted" in text
    assert "no species was held out" in text
    assert "of 120 occurrences" in text
    assert any("--holdout-species" in sentence for sentence in advise(metrics))


def test_what_the_numbers_do_not_carry_is_not_claimed() -> None:
    text = " ".join(summarize(make_metrics(make_world(num_val=0, num_test=1))))
    assert "That is a small test" in text
    assert "not calibrated" in text
    assert "For no species there are enough validation photographs" in text
    assert "Nothing is known about 5 of 6 species" in text


def test_unknown_species_that_were_held_out_are_reported() -> None:
    metrics = make_metrics(make_world(num_unknown=60))
    rejected = metrics["rejection"]["unknown_rejected"]["value"]
    assert f"it rejects {100 * rejected:.1f} %" in " ".join(summarize(metrics)) or rejected == 1
    assert not any("--holdout-species" in sentence for sentence in advise(metrics))


@pytest.mark.parametrize(
    ("low", "high", "is_worse", "verdict"),
    [
        (-0.2, -0.05, True, "is worse than"),
        (0.01, 0.1, False, "is better than"),
        (-0.1, 0.1, False, "cannot be told apart"),
    ],
)
def test_a_comparison_says_what_chance_allows(low: float, high: float, is_worse: bool, verdict: str) -> None:
    found = {"value": (low + high) / 2, "low": low, "high": high}
    changes = {"against": "v1", "num_photographs": 50, "top1": found, "is_significantly_worse": is_worse}
    metrics = make_metrics(make_world(num_val=40, num_test=40), changes=changes)
    assert verdict in summarize(metrics)[-1]


def test_advice_follows_from_the_figures() -> None:
    metrics = make_metrics(make_world(num_val=40, num_test=4), num_suspects=7)
    advice = " ".join(advise(metrics))
    assert "7 training photographs" in advice
    assert "4 species that could not be tested" in advice
