import io
import json
import logging
import math
import sys
from pathlib import Path

import pytest

from aitax_ray import progress as module
from aitax_ray.demo.server import serve_world
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.fetch import fetch
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
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged where there is no terminal."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, "aitax_ray.progress")
    return caplog


def test_without_a_terminal_a_line_comes_now_and_then_and_at_the_end(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    with progress("download", 1000, "photographs") as advance:
        for _ in range(999):
            clock.now += LOG_EVERY_S / 100
            advance(1)
        assert len(logged.messages) == 9
        clock.now += LOG_EVERY_S / 100
        advance(1)
    assert len(logged.messages) == 10
    assert logged.messages[-1] == "download: 1,000 of 1,000 photographs, 10.0 a second"


def test_a_line_says_how_far_how_fast_and_how_it_goes(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    with progress("download", 2000, "photographs") as advance:
        clock.now += LOG_EVERY_S
        advance(1500, "3 failed")
    assert logged.messages == ["download: 1,500 of 2,000 photographs, 150.0 a second (3 failed)"]


def test_without_a_total_a_line_says_how_much_there_is(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    with progress("fetching", 0, "MB") as advance:
        for by in (0, 0, 3, 0):
            advance(by)
        assert logged.messages == []
        clock.now += LOG_EVERY_S
        for by in (0, 2, 0, 0):
            advance(by)
        assert logged.messages == ["fetching: 3 MB, 0.3 a second"]
        clock.now += LOG_EVERY_S
    assert logged.messages[1:] == ["fetching: 5 MB, 0.2 a second"]


def test_the_last_line_comes_wherever_the_work_ends_and_once(logged: pytest.LogCaptureFixture) -> None:
    with progress("fetching", 9, "MB") as advance:
        advance(7)
    with progress("fetching", 9, "MB") as advance:
        advance(0)
    assert [message.split(",")[0] for message in logged.messages] == ["fetching: 7 of 9 MB"]


@pytest.mark.parametrize("size", [700_000, 1_000_000, 2_500_000])
def test_an_archive_of_any_size_is_fetched_to_its_last_mb(
    size: int, logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "archive.zip").write_bytes(b"\x1f\x8b" + bytes(size - 2))
    (tmp_path / "download.json").write_text(json.dumps({"key": "k", "doi": "d"}))
    with serve_world(tmp_path) as address, Client() as client:
        fetch(client, f"{address}/v1/occurrence/download/request/k.zip", tmp_path / "fetched", size=size)
    num = math.ceil(size / 1e6)
    assert [message.split(",")[0] for message in logged.messages] == [f"fetching the archive: {num} of {num} MB"]


def test_work_that_takes_no_time_is_no_division_by_zero(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    with progress("split", 1, "species") as advance:
        advance(1)
    assert [message.split(",")[0] for message in logged.messages] == ["split: 1 of 1 species"]


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


def test_an_error_in_the_work_passes_through(logged: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        with progress("download", 4, "photographs") as advance:
            advance(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
