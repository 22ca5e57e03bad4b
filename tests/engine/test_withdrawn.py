import queue
import shutil
from pathlib import Path

import pytest

from aitax_ray import takedowns
from aitax_ray.engine import withdrawn as module
from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.withdrawn import WithdrawnLists, follow
from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage
from tests.engines import write_small_engine

VERSION = "20260101-000000-00000000"
A, B = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an engine."""
    root = tmp_path_factory.mktemp("made") / "root"
    write_small_engine(root / "engines" / VERSION)
    (root / "engines" / "current").write_text(f"{VERSION}\n")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def withdraw(folder: Path | str, *image_ids: str) -> None:
    takedowns.write_withdrawn(Storage(str(folder)), "withdrawn.json", image_ids)


@pytest.mark.parametrize("location", ["", "engines", "engines/current", f"engines/{VERSION}"])
def test_the_list_beside_all_engines_is_found_however_the_engine_was_named(root: Path, location: str) -> None:
    lists = WithdrawnLists(open_engine(f"{root}/{location}"))
    assert lists.read() == frozenset()
    withdraw(root / "engines", A)
    assert lists.read() == {A}
    withdraw(root / "engines" / VERSION, B)
    assert lists.read() == {A, B}


def test_a_copied_engine_has_a_list_of_its_own_and_no_other(root: Path, tmp_path: Path) -> None:
    engine = shutil.copytree(root / "engines" / VERSION, tmp_path / "elsewhere" / "engine")
    withdraw(tmp_path / "elsewhere", A)  # of somebody else: this folder has no engines
    withdraw(engine, B)
    assert WithdrawnLists(open_engine(str(engine))).read() == {B}


def test_a_list_is_read_again_only_when_it_has_changed(root: Path) -> None:
    lists = WithdrawnLists(open_engine(str(root)))
    assert [lists.read(), lists.read()] == [frozenset(), None]
    withdraw(root / "engines", A)
    assert [lists.read(), lists.read()] == [{A}, None]
    withdraw(root / "engines")
    assert [lists.read(), lists.read()] == [frozenset(), None]
    (root / "engines" / "withdrawn.json").unlink()
    assert [lists.read(), lists.read()] == [frozenset(), None]


def test_engines_in_an_object_store_have_their_lists_there(root: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(root), "/withdrawn-lists", recursive=True)
    lists = WithdrawnLists(open_engine("memory://withdrawn-lists"))
    assert lists.read() == frozenset()
    withdraw("memory://withdrawn-lists/engines", A)
    assert lists.read() == {A}


def test_a_change_arrives_without_a_restart_and_a_damaged_list_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    changes: queue.Queue[frozenset[str]] = queue.Queue()
    end = follow(open_engine(str(root)), changes.put)
    assert changes.get(timeout=10) == frozenset()
    withdraw(root / "engines", A)
    assert changes.get(timeout=10) == {A}
    Storage(str(root)).write_bytes("engines/withdrawn.json", b"{")
    withdraw(root / "engines" / VERSION, B)
    withdraw(root / "engines", A)
    assert {A, B} in iter(lambda: changes.get(timeout=10), None)
    end()
    assert changes.empty()


def test_a_service_does_not_start_with_a_list_that_it_cannot_read(root: Path) -> None:
    (root / "engines" / "withdrawn.json").write_bytes(b"{")
    with pytest.raises(StorageError, match="is no list of withdrawn photographs"):
        follow(open_engine(str(root)), lambda _: None)
