from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aitax_ray.evaluation.additions import measure_added
from aitax_ray.evaluation.answering import Side, answer
from aitax_ray.evaluation.decide import Decided, decide
from aitax_ray.evaluation.figures import as_json, hits
from aitax_ray.evaluation.measure import measure
from aitax_ray.evaluation.neighbors import Neighbors, Vote
from aitax_ray.evaluation.questions import ask_alone
from tests.evaluation.worlds import SETTINGS, make_side, make_taxonomy_of

NUM, NUM_ADDED = 6, 2
CLASSES = np.arange(240) // 2 % NUM


def make(num_added: int = NUM_ADDED, near: float = 0.0) -> tuple[Decided, Side]:
    val, test = (make_side(CLASSES, NUM, 3.0, seed, near) for seed in (0, 1))
    return decide(val, None, np.zeros(0), make_taxonomy_of(NUM), SETTINGS, num_added), test


def measured(decided: Decided, test: Side) -> Any:
    alone = answer(
        test, ask_alone(test.photographs), decided.decisions.fusion, decided.decisions.vote, decided.taxonomy
    )
    return measure_added(test, alone, decided), alone


def test_added_species_and_the_loss_of_trained_ones_are_measured_apart() -> None:
    decided, test = make()
    found, alone = measured(decided, test)
    is_added = test.photographs.target >= NUM - NUM_ADDED
    assert found["species"] == decided.taxonomy.names[-NUM_ADDED:]
    assert (found["num_tested"], found["num_photographs"], found["num_occurrences"]) == (2, 80, 40)
    assert found["top1"].value == pytest.approx(hits(alone)[is_added].mean())
    # Before: the best of the logits of trained species alone.
    logits = test.photographs.logits(np.flatnonzero(~is_added))[:, : NUM - NUM_ADDED]
    target = test.photographs.target[~is_added]
    top1 = found["trained"]["top1"]
    assert top1["before"] == pytest.approx((logits.argmax(axis=1) == target).mean())
    assert top1["after"] == pytest.approx(hits(alone)[~is_added].mean())
    assert top1["before"] > top1["after"]
    assert found["trained"]["num_photographs"] == 160
    assert found["trained"]["num_taken_for_added"] == (alone.top[~is_added, 0] >= NUM - NUM_ADDED).sum() > 0


def test_without_added_species_there_is_nothing_to_measure() -> None:
    decided, test = make(0)
    assert measured(decided, test)[0] is None
    assert measure(test, None, decided, {}, 30).metrics["added"] is None


def test_neighbours_of_added_species_do_not_vote_before() -> None:
    decided, test = make()
    decided = replace(decided, decisions=decided.decisions.model_copy(update={"vote": Vote(share=1.0, power=0.0)}))
    # The nearest neighbour is of an added species, the second one of the right species.
    target = test.photographs.target
    neighbors = Neighbors(np.stack([np.full(len(target), NUM - 1), target], 1), np.tile([0.9, 0.8], (len(target), 1)))
    found, _ = measured(decided, replace(test, neighbors=neighbors))
    assert (found["trained"]["top1"]["before"], found["trained"]["top1"]["after"]) == (1.0, 0.0)


def test_added_species_are_marked_and_get_no_score_from_which_on_answers_are_accepted() -> None:
    val, test = (make_side(np.arange(2000) // 2 % NUM, NUM, 6.0, seed) for seed in (0, 1))
    without = decide(val, None, np.zeros(0), make_taxonomy_of(NUM), SETTINGS)
    assert None not in without.decisions.acceptance.thresholds
    decided = decide(val, None, np.zeros(0), make_taxonomy_of(NUM), SETTINGS, NUM_ADDED)
    assert decided.decisions.acceptance.thresholds[:4] == without.decisions.acceptance.thresholds[:4]
    assert decided.decisions.acceptance.thresholds[4:] == (None, None)
    rows = measure(test, None, decided, {}, 30).species
    assert [row["is_added"] for row in rows] == [False] * 4 + [True] * 2
    assert [row["acceptance_reason"] for row in rows[4:]] == ["added without training"] * 2


def test_figures_of_species_without_test_photographs_are_not_defined() -> None:
    val = make_side(CLASSES, NUM, 3.0, 0)
    test = make_side(np.arange(80) // 2 % (NUM - NUM_ADDED), NUM, 3.0, 1)
    decided = decide(val, None, np.zeros(0), make_taxonomy_of(NUM), SETTINGS, NUM_ADDED)
    found = as_json(measured(decided, test)[0])
    assert (found["num_tested"], found["num_photographs"], found["top1"]["value"]) == (0, 0, None)
    assert found["trained"]["top1"]["after"] is not None
