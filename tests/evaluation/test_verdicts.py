from typing import Any

import numpy as np
import pytest

from aitax_ray.evaluation.acceptance import Acceptance
from aitax_ray.evaluation.decisions import Decisions, Limits
from aitax_ray.evaluation.rejection import Rejection
from aitax_ray.evaluation.rollup import RANKS, Rollup
from aitax_ray.evaluation.verdicts import Evidence, give_verdicts

LIMIT = 0.5
ONE = Decisions(
    rejection=Rejection(threshold=LIMIT), rollup=Rollup(species=0.8), acceptance=Acceptance(thresholds=(0.9, 0.9))
)
FITTED = Limits(rejection=Rejection(threshold=0.4), rollup=Rollup(species=0.95), candidates=ONE.candidates)
SEVERAL = ONE.model_copy(update={"several": (FITTED, FITTED.model_copy(update={"acceptance_part": 0.5}))})


def evidence(*scores: float, top: tuple[int, ...] = ()) -> Evidence:
    columns = [[score, np.nan, np.nan] for score in scores]
    zeros = np.zeros(len(scores), np.float32)
    return Evidence(
        np.array(top or [0] * len(scores), np.int64), np.array(columns, np.float32).reshape(-1, 3), zeros, zeros
    )


def judged(decisions: Decisions, together: float, *alone: float, top: tuple[int, ...] = ()) -> dict[str, Any]:
    found = give_verdicts(decisions, evidence(together), evidence(*alone, top=top), np.zeros(1, np.int64))
    return {
        "is_known": bool(found.is_known[0]),
        "is_accepted": bool(found.is_accepted[0]),
        "rank": RANKS[found.rank[0]] if found.rank[0] >= 0 else "",
    }


@pytest.mark.parametrize("decisions", [ONE, SEVERAL])
def test_one_photograph_has_its_own_limits(decisions: Decisions) -> None:
    assert judged(decisions, 0.49, 0.49) == {"is_known": False, "is_accepted": False, "rank": ""}
    assert judged(decisions, 0.85, 0.85) == {"is_known": True, "is_accepted": False, "rank": "species"}
    assert judged(decisions, 0.92, 0.92) == {"is_known": True, "is_accepted": True, "rank": "species"}


@pytest.mark.parametrize("decisions", [ONE, SEVERAL])
def test_photographs_that_are_each_known_or_accepted_alone_are_so_together(decisions: Decisions) -> None:
    assert judged(decisions, 0.3, 0.6, 0.6)["is_known"]
    assert judged(decisions, 0.89, 0.95, 0.95)["is_accepted"]
    assert not judged(decisions, 0.5, 0.95, 0.95, top=(0, 1))["is_accepted"]  # they show different species


def test_limits_of_several_photographs_decide_about_several() -> None:
    assert judged(SEVERAL, 0.45, 0.6, 0.1)["is_known"]
    assert not judged(SEVERAL, 0.35, 0.6, 0.1)["is_known"]
    assert judged(SEVERAL, 0.9, 0.9, 0.9)["rank"] == ""
    assert judged(SEVERAL, 0.92, 0.8, 0.9)["is_accepted"]
    assert not judged(SEVERAL, 0.92, 0.8, 0.9, 0.9)["is_accepted"]  # three photographs have stricter ones
    assert judged(SEVERAL, 0.96, 0.8, 0.9, 0.9, 0.9)["is_accepted"]


def test_without_them_an_individual_is_known_if_one_of_its_photographs_is() -> None:
    assert judged(ONE, 0.3, 0.6, 0.1)["is_known"]
    assert not judged(ONE, 0.49, 0.49, 0.49)["is_known"]
    assert judged(ONE, 0.92, 0.8, 0.99) == {"is_known": True, "is_accepted": True, "rank": "species"}


def test_individuals_are_judged_apart() -> None:
    alone = evidence(0.2, 0.95, 0.95, 0.6, 0.1)
    found = give_verdicts(SEVERAL, evidence(0.2, 0.95, 0.35), alone, np.array([0, 1, 3]))
    assert found.is_known.tolist() == [False, True, False]
    assert found.is_accepted.tolist() == [False, True, False]
    nothing = give_verdicts(SEVERAL, evidence(), evidence(), np.zeros(0, np.int64))
    assert len(nothing.is_known) == len(nothing.is_accepted) == len(nothing.rank) == 0
