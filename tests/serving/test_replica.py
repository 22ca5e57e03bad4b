"""serving.replica: outside of a replica; in one, `test_serve.py` looks at what comes out."""

import asyncio
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitax_ray.serving import metrics, replica
from aitax_ray.serving.replica import equip
from aitax_ray.serving.settings import ApplicationArgs


@pytest.fixture
def loggers() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """Ray Serve's logger without handlers, and ours, as they are afterwards."""
    theirs, ours = logging.getLogger("ray.serve"), logging.getLogger(replica.PACKAGE)
    before = theirs.handlers, ours.handlers, ours.propagate, ours.level
    theirs.handlers = []
    yield theirs, ours
    theirs.handlers, ours.handlers, ours.propagate, level = before
    ours.setLevel(level)


def test_outside_of_a_replica_nothing_is_changed(loggers: tuple[logging.Logger, logging.Logger]) -> None:
    ours = loggers[1]
    before = ours.handlers, ours.propagate, ours.level
    equip(ApplicationArgs(engine="e"))
    assert (ours.handlers, ours.propagate, ours.level) == before
    assert metrics._instruments == {}


async def test_of_a_gauge_the_latest_value_is_handed_on_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "GAUGE_DELAY_S", 0.0)
    seen: list[tuple[float, dict[str, str]]] = []
    handed_on = asyncio.Event()

    def instrument(value: float, labels: dict[str, str]) -> None:
        seen.append((value, labels))
        handed_on.set()

    gauge = replica._Latest(instrument)
    for value in (1.0, 2.0):
        gauge(value, {"version": "a"})
    gauge(3.0, {"version": "b"})
    assert seen == []
    await handed_on.wait()
    assert seen == [(2.0, {"version": "a"}), (3.0, {"version": "b"})]
    await asyncio.to_thread(gauge, 4.0, {})
    assert seen[2:] == [(4.0, {})]


def test_our_lines_go_to_the_log_file_of_the_replica(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    theirs, _ = loggers
    file = logging.handlers.RotatingFileHandler(tmp_path / "replica_a.log", maxBytes=1000, backupCount=3)
    theirs.addHandler(logging.handlers.MemoryHandler(1000, logging.ERROR, file))
    assert replica._share_log() is file
    logging.getLogger("aitax_ray.serving.ingress").info("engine 2 is in use")
    assert (tmp_path / "replica_a.log").read_text() == "engine 2 is in use\n"
    file.close()


def test_without_a_log_file_there_is_none(loggers: tuple[logging.Logger, logging.Logger]) -> None:
    loggers[0].addHandler(logging.StreamHandler())
    assert replica._share_log() is None
