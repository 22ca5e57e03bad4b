"""serving.versions: which engines a replica has open."""

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from aitax_ray.engine.bundle import ONNX, Engine, open_engine
from aitax_ray.engine.info import CURRENT, ENGINES, write_current
from aitax_ray.errors import EngineError
from aitax_ray.serving import versions as module
from aitax_ray.serving.versions import Current, Versions
from aitax_ray.storage import Storage
from tests.engines import write_root, write_small_engine


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "INTERVAL_S", 3600.0)  # the tests look themselves
    return write_root(tmp_path, monkeypatch)


def make_current(root: Path, version: str) -> None:
    write_current(Storage(str(root)), ENGINES, version)


def version(engine: Engine) -> str:
    engine.classifier()
    return engine.info.version


async def test_a_new_engine_is_opened_before_a_request_asks_for_it_and_the_old_one_stays(root: Path) -> None:
    opened: list[str] = []
    versions = Versions(str(root), lambda engine: opened.append(version(engine)))
    make_current(root, "2")
    versions.look()
    await versions.prepare("engines/2")
    await versions.get("engines/1")
    await versions.get("engines/2")
    versions.look()
    assert opened == ["1", "2"]


async def test_a_request_for_an_engine_that_is_not_open_waits_until_it_is(root: Path) -> None:
    versions = Versions(str(root), version)
    assert [await versions.get(f"engines/{name}") for name in ("2", "1", "2")] == ["2", "1", "2"]
    assert versions.opened() == ["1", "2"]


async def test_an_engine_is_closed_some_time_after_its_last_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(str(root), version)
    make_current(root, "2")
    versions.look()
    await versions.prepare("engines/2")
    monkeypatch.setattr(module, "KEEP_S", -1.0)
    versions.look()
    assert versions.opened() == ["1", "2"]  # nobody has asked for the new one yet
    await versions.get("engines/2")
    monkeypatch.setattr(module, "KEEP_S", 3600.0)
    versions.look()
    assert versions.opened() == ["1", "2"]
    monkeypatch.setattr(module, "KEEP_S", -1.0)
    versions.look()
    assert versions.opened() == ["2"]
    assert await versions.get("engines/1") == "1"


async def test_an_engine_that_is_damaged_is_refused_until_it_is_mended(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = Versions(str(root), version)
    path = root / ENGINES / "2" / ONNX
    content = path.read_bytes()
    path.write_bytes(b"\0" * len(content))
    make_current(root, "2")
    versions.look()
    with pytest.raises(EngineError, match="has changed"):
        await versions.prepare("engines/2")
    assert "engines/2 cannot be opened" in caplog.text
    assert versions.opened() == ["1"]
    path.write_bytes(content)
    assert await versions.prepare("engines/2") == "2"


async def test_the_current_engine_is_tried_again_after_a_pause_and_a_problem_is_logged_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def open_part(engine: Engine) -> str:
        tries.append(engine.info.version)
        return version(engine)

    async def finish() -> None:  # the engines are opened one after the other, so this ends after what looks began
        await asyncio.wrap_future(versions._pool.submit(lambda: None))

    versions = Versions(str(root), open_part)
    path = root / ENGINES / "2" / ONNX
    content = path.read_bytes()
    path.write_bytes(b"\0" * len(content))
    make_current(root, "2")
    for _ in range(3):
        versions.look()
        await finish()
    assert tries == ["1", "2"]
    monkeypatch.setattr(module, "RETRY_S", -1.0)
    for number in (3, 4):
        versions._retry_at = 0.0
        versions.look()
        await finish()
        assert tries[1:] == ["2"] * (number - 1)
    assert len([each for each in caplog.messages if "cannot be opened" in each]) == 1
    path.write_bytes(content)
    for _ in range(2):
        versions.look()
        await finish()
    assert versions.opened() == ["1", "2"]
    assert tries[1:] == ["2"] * 4  # what is open is not opened again


def test_replicas_look_by_themselves_until_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    root, is_open, others = write_root(tmp_path, monkeypatch), threading.Event(), set(threading.enumerate())
    versions = Versions(str(root), lambda engine: is_open.set() if engine.info.version == "2" else None)
    make_current(root, "2")
    assert is_open.wait(10)
    (thread,) = (one for one in set(threading.enumerate()) - others if one.name == "current")
    del versions
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_only_a_service_of_engines_with_a_current_one_follows_it(root: Path, tmp_path: Path) -> None:
    for location, expected in ((root, "engines/1"), (root / ENGINES, "1"), (root / ENGINES / CURRENT, "1")):
        current = Current(open_engine(str(location)))
        assert (current.can_change, current.read()) == (True, expected)
        make_current(root, "2")
        assert current.read() == expected.replace("1", "2")
        make_current(root, "1")
    for folder in (root / ENGINES / "1", write_small_engine(tmp_path / "copy" / "colours-1")):
        current = Current(open_engine(str(folder)))
        make_current(root, "2")
        assert (current.can_change, current.read()) == (False, "")
        make_current(root, "1")
