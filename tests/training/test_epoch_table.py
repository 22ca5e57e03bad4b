import pytest

from aitax_ray.training.epoch_table import EpochTable, duration

ROW = {"train_loss": 1.23456, "loss": None, "top1": 0.5, "macro_top1": 0.25, "lr": 1e-4, "wait_share": 0.034}
ROW |= {"seconds": 75.0}


def test_the_titles_come_once_and_the_lines_are_aligned() -> None:
    table = EpochTable(4)
    titles, first = table.lines({"epoch": 1, **ROW}, True, [75.0])
    (second,) = table.lines({"epoch": 2, **ROW}, False, [75.0, 75.0])
    assert titles.split()[0] == "epoch"
    assert first.split() == ["1", "1.235", "-", "0.500", "0.250", "1.0e-04", "3.4%", "1:15", "3:45", "*"]
    assert second.split() == ["2", "1.235", "-", "0.500", "0.250", "1.0e-04", "3.4%", "1:15", "2:30"]
    assert len(titles) == len(second) == len(first.removesuffix(" *"))


def test_only_the_columns_that_a_run_has_are_shown() -> None:
    titles, line = EpochTable().lines({"epoch": 1, "penalty": 0.1, "loss": 0.5, "is_best": True}, True, [0.0])
    assert titles.split() == ["epoch", "penalty", "val", "loss"]
    assert line.split() == ["1", "1.0e-01", "0.500", "*"]


def test_without_the_number_of_epochs_the_time_left_is_unknown() -> None:
    _, line = EpochTable().lines({"epoch": 1, "seconds": 3.0}, False, [3.0])
    assert line.split() == ["1", "3", "s", "-"]


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3599, "59:59"), (7384, "2:03:04")]
)
def test_durations_are_short(seconds: float, written: str) -> None:
    assert duration(seconds) == written
