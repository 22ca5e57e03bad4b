import json
from typing import Any

import numpy as np
import pytest

from tests.evaluation.worlds import make_metrics, make_world


def numbers(value: Any) -> list[float]:
    """All numbers in a nested value."""
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, float | int) and not isinstance(value, bool) else []


def test_the_figures_agree_with_each_other() -> None:
    decided, measured, _ = make_world(strength=3.0, num_unknown=60)
    metrics = measured.metrics
    hit = measured.test.top[:, 0] == measured.test.target
    assert metrics["top1"] == metrics["photographs"]["top1"]["value"] == pytest.approx(hit.mean())
    assert metrics["ranks"]["species"]["top1"] == metrics["photographs"]["top1"]
    assert metrics["ranks"]["genus"]["top1"]["value"] > metrics["top1"]
    rows = measured.species
    assert np.mean([row["top1"] for row in rows]) == pytest.approx(metrics["macro_top1"])
    one, first, two, _, everything = metrics["occurrences"]
    assert (one["num"], first["num"], two["num"], everything["num"]) == (240, 120, 120, 120)
    assert two["top1"]["value"] > first["top1"]["value"]
    assert one["top1"] == metrics["photographs"]["top1"]
    assert one["ece"] == metrics["calibration"]["after"]["ece"]
    assert two["top1"]["value"] > one["top1"]["value"]  # two photographs know more than one
    assert one["rejected"]["value"] == metrics["rejection"]["false_reject_rate"]["value"]
    assert one["unknown_rejected"]["value"] == metrics["rejection"]["unknown_rejected"]["value"]
    assert (one["accepted"], one["accepted_precision"]) == tuple(
        metrics["acceptance"][name] for name in ("share", "precision")
    )
    assert one["coverage"]["value"] == metrics["candidates"]["plain"]["coverage"]["value"]
    assert sum(row["num_photographs"] for row in metrics["groups"]["country"]) == 240
    assert [row["num_photographs"] for row in metrics["frequency"]] == [0, 240, 0]
    for side in ("plain", "balanced"):
        assert metrics["candidates"][side]["coverage"]["value"] == pytest.approx(0.9, abs=0.06)
    assert metrics["rejection"]["num_unknown"] == 60
    assert metrics["rejection"]["unknown_rejected"]["value"] > 0.9
    assert metrics["rollup"]["ranks"][0]["precision"]["value"] == pytest.approx(0.95, abs=0.05)
    assert [row["acceptance_threshold"] for row in rows] == list(decided.decisions.acceptance.thresholds)
    worst = metrics["worst"][0]
    assert worst["top1"] == min(row["top1"] for row in rows)
    assert worst["image"] in measured.test.image_id
    json.dumps(metrics, allow_nan=False)


def test_calibration_makes_scores_better_that_were_too_sure() -> None:
    _, measured, _ = make_world(num_val=1200, num_test=1200, strength=1.5)
    calibration = measured.metrics["calibration"]
    assert calibration["after"]["nll"]["value"] <= calibration["before"]["nll"]["value"]
    assert measured.metrics["ece"] < 0.06
    assert calibration["after"]["classwise_ece"] < 0.06


@pytest.mark.parametrize(
    ("num_classes", "num_val", "num_test", "strength"),
    [(6, 0, 40, 4.0), (6, 2, 1, 4.0), (2, 40, 40, 4.0), (6, 240, 240, 60.0), (6, 240, 240, -60.0), (6, 40, 4, 0.0)],
    ids=["no validation", "one test photograph", "two classes", "perfect", "useless", "few species tested"],
)
def test_odd_worlds_are_measured_without_a_claim_that_they_do_not_carry(
    num_classes: int, num_val: int, num_test: int, strength: float
) -> None:
    world = make_world(num_classes, num_val, num_test, strength, num_unknown=4)
    metrics = make_metrics(world)
    json.dumps(metrics, allow_nan=False)
    assert all(np.isfinite(numbers(metrics)))
    top1 = metrics["photographs"]["top1"]
    if num_test == 1:
        assert (top1["low"], top1["high"]) == (None, None)
    elif top1["value"] == 1:
        assert top1["low"] < 1
    tested = [row for row in world[1].species if row["num_images"]]
    assert metrics["counts"]["species_without_test"] == num_classes - len(tested)
    if strength == -60:
        assert metrics["top1"] < 0.4
        assert metrics["acceptance"]["species_with_threshold"] == 0
        assert metrics["rollup"]["unanswered"]["value"] > 0.9
    if num_val < 10:
        assert metrics["acceptance"]["species_with_threshold"] == 0
        assert metrics["rejection"]["threshold"] is None
