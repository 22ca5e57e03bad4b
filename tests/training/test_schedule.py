import math

import pytest

from aitax_ray.training.schedule import Cosine, Plateau, make_schedule
from tests.small import train_settings


def plateau(lr: float = 1.0, **changes: object) -> Plateau:
    made = make_schedule(train_settings("r", schedule="plateau", **changes), lr)
    assert isinstance(made, Plateau)
    return made


def rates(schedule: Plateau, losses: list[float]) -> list[float]:
    found = []
    for epoch, loss in enumerate(losses):
        schedule.end_epoch(loss)
        found.append(schedule.at(epoch + 1))
    return found


def test_the_learning_rate_rises_then_falls() -> None:
    schedule = Cosine(0.4, epochs=20, warmup=0.1)
    assert schedule.at(0) == pytest.approx(0.004)
    assert schedule.at(1) == pytest.approx(0.2)
    assert schedule.at(2) == pytest.approx(0.4)
    assert schedule.at(11) == pytest.approx(0.2, rel=0.01)
    assert schedule.at(20) == schedule.at(25) == pytest.approx(0.0004)
    found = [schedule.at(epoch / 4) for epoch in range(81)]
    assert found[:9] == sorted(found[:9])
    assert found[8:] == sorted(found[8:], reverse=True)


@pytest.mark.parametrize(("warmup", "first", "last"), [(0.0, 0.4, 0.0004), (1.0, 0.004, 0.0004)])
def test_the_warm_up_may_take_nothing_or_all(warmup: float, first: float, last: float) -> None:
    schedule = make_schedule(train_settings("r", epochs=4, warmup=warmup), 0.4)
    assert (schedule.at(0), schedule.at(4)) == (pytest.approx(first), pytest.approx(last))
    assert schedule.at(3.9) > (0.38 if warmup else 0)


def test_the_rate_is_lowered_after_some_epochs_without_improvement() -> None:
    assert rates(plateau(factor=0.5, patience=1), [3, 2, 2, 2, 2, 1, 2]) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert rates(plateau(factor=0.5, patience=0), [3, math.nan, math.inf]) == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"threshold": 0.2, "threshold_mode": "rel"}, [1, 0.1, 0.1]),  # the third loss is below 1.6: an improvement
        ({"threshold": 0.45, "threshold_mode": "abs"}, [1, 0.1, 0.1]),
        ({"threshold": 0.45, "threshold_mode": "rel"}, [1, 0.1, pytest.approx(0.01)]),
        ({"threshold": 0, "cooldown": 0}, [1, 1, 1]),
    ],
)
def test_an_improvement_must_be_larger_than_the_threshold(changes: dict[str, object], expected: list[float]) -> None:
    assert rates(plateau(factor=0.1, patience=0, **changes), [2, 1.7, 1.5]) == expected


def test_the_rate_is_not_lowered_while_it_cools_down_nor_below_the_lowest_nor_by_next_to_nothing() -> None:
    still = [1.0] * 6
    assert rates(plateau(factor=0.5, patience=0, cooldown=2), still) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert rates(plateau(factor=0.5, patience=0, min_lr=0.4), still) == [1, 0.5, 0.4, 0.4, 0.4, 0.4]
    assert rates(plateau(factor=0.5, patience=0, eps=0.2), still) == [1, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_a_plateau_goes_on_from_its_state() -> None:
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.5, 2.0]
    expected = rates(plateau(factor=0.5, patience=1), losses)
    first, second = plateau(factor=0.5, patience=1), plateau(factor=0.5, patience=1)
    rates(first, losses[:4])
    second.load_state_dict(first.state_dict())
    assert rates(second, losses[4:]) == expected[4:]
    assert second.at(0) < 1
