import io
import logging
import sys

import pytest

from aitax_ray import progress as module
from aitax_ray.progress import LOG_EVERY_S, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged where there is no terminal."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "aitax_ray.progress")
    return caplog


def test_without_a_terminal_a_line_comes_now_and_then_and_at_the_end(
    clock: Clock, told: pytest.LogCaptureFixture
) -> None:
    with progress("download", 1000, "photographs") as advance:
        for _ in range(999):
            clock.now += LOG_EVERY_S / 100
            advance(1)
        assert len(told.messages) == 9
        clock.now += LOG_EVERY_S / 100
        advance(1)
    assert len(told.messages) == 10
    assert told.messages[-1] == "download: 1,000 of 1,000 photographs, 10.0 a second"


def test_a_line_says_how_far_how_fast_and_how_it_goes(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    with progress("download", 2000, "photographs") as advance:
        clock.now += LOG_EVERY_S
        advance(1500, "3 failed")
    assert told.messages == ["download: 1,500 of 2,000 photographs, 150.0 a second (3 failed)"]


def test_work_that_takes_no_time_is_no_division_by_zero(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    with progress("split", 1, "species") as advance:
        advance(1)
    assert told.messages[0].startswith("split: 1 of 1 species")


def test_on_a_terminal_there_is_a_bar_and_no_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aitax_ray.progress")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress("download", 4, "photographs") as advance:
        advance(3, "1 failed")
        advance(1)
    shown = terminal.getvalue()
    assert "4/4" in shown
    assert "download" in shown
    assert "photographs" in shown
    assert caplog.messages == []


def test_an_error_in_the_work_passes_through(told: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        with progress("download", 4, "photographs") as advance:
            advance(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
