"""serving.access_log: its file."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitax_ray.serving import access_log
from aitax_ray.serving.record import Record


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    access_log.stop()


def test_a_line_is_json_in_utf_8_and_has_the_parts(tmp_path: Path) -> None:
    access_log.start(str(tmp_path / "access.log"), 10_000, 1)
    record = Record("id-1", "POST", "/identify", "c4c", {"read": 0.00123456}, 2, "frösche-1", "accepted")
    access_log.write(record, 0.123456, 200, "accepted", 10, 20)
    access_log.write(record, 0.1, 200, "accepted", 10, 20, "192.0.2.7")
    first, second = map(json.loads, (tmp_path / "access.log").read_text(encoding="utf-8").splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "request_id": "id-1",
        "method": "POST",
        "route": "/identify",
        "status": 200,
        "seconds": 0.1235,
        "bytes_in": 10,
        "bytes_out": 20,
        "engine": "frösche-1",
        "format": "c4c",
        "outcome": "accepted",
        "photographs": 2,
        "parts": {"read": 0.0012},
    }
    assert second["client"] == "192.0.2.7"


def test_a_full_file_is_set_aside_and_the_oldest_one_deleted(tmp_path: Path) -> None:
    access_log.start(str(tmp_path / "access.log"), 1000, 2)
    for number in range(50):
        access_log.write(Record(f"{number}"), 0.1, 200, "ok", 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["access.log", "access.log.1", "access.log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_nothing_is_written_unless_it_was_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access_log.write(Record("id-1"), 0.1, 200, "ok", 0, 0)
    assert caplog.records == []
