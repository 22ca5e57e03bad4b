"""engine.copies: an engine is copied out, checked, and made current there; an interrupted copy goes on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aitax_ray import takedowns
from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.copies import copy_engine
from aitax_ray.engine.info import INFO
from aitax_ray.errors import EngineError
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Request
from tests.engines import write_small_engine
from tests.kills import Killed, killed_after

PLACE = "engines/colours-1"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A root with one engine."""
    write_small_engine(tmp_path / "root" / PLACE)
    return Storage(str(tmp_path / "root"))


@pytest.fixture(params=["folder", "memory"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "there")
        return
    import fsspec

    yield "memory://copies"
    fsspec.filesystem("memory").rm("/copies", recursive=True)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are copied, as they are."""
    names: list[str] = []
    copy, write_bytes = Storage.copy, Storage.write_bytes

    def note(self: Storage, source: str, path: str, storage: Storage | None = None) -> None:
        copy(self, source, path, storage)
        names.append(path.removeprefix("colours-1/"))

    def note_bytes(self: Storage, path: str, data: bytes) -> None:
        write_bytes(self, path, data)
        names.append(path.removeprefix("colours-1/"))

    monkeypatch.setattr(Storage, "copy", note)
    monkeypatch.setattr(Storage, "write_bytes", note_bytes)
    return names


def test_a_copied_engine_is_current_at_its_destination(storage: Storage, destination: str) -> None:
    copy_engine(storage, PLACE, f"{destination}/")
    engine = open_engine(destination)
    assert engine.info == open_engine(storage.root + "/" + PLACE).info
    assert engine.find_problems() == []
    assert engine.index().search(np.eye(3, dtype=np.float32), 2)[0].shape == (3, 2)
    there = Storage(destination)
    assert there.read_bytes("current") == b"colours-1\n"
    assert len(there.files("")) == len(engine.info.files) + 2


def test_what_is_there_is_not_copied_again(storage: Storage, destination: str, copied: list[str]) -> None:
    copy_engine(storage, PLACE, destination)
    assert copied[-2:] == [INFO, "current"]  # last
    assert sorted(copied[:-2]) == sorted(open_engine(destination).info.files)
    there = Storage(destination)
    there.delete("colours-1/taxa.parquet")
    content = there.read_bytes("colours-1/classifier.onnx")
    there.write_bytes("colours-1/classifier.onnx", content[:-1] + b"?")  # of the same size
    copied.clear()
    copy_engine(storage, PLACE, destination)
    assert sorted(copied) == ["classifier.onnx", "current", "taxa.parquet"]
    assert open_engine(destination).find_problems() == []


def test_a_copy_that_is_killed_at_any_moment_is_no_engine_and_is_finished_by_the_same_call(
    storage: Storage, tmp_path: Path, copied: list[str]
) -> None:
    destination = str(tmp_path / "there")
    num_steps = 0
    while True:
        num_steps += 1
        try:
            with killed_after(num_steps):
                copy_engine(storage, PLACE, destination)
            break
        except Killed:
            with pytest.raises(EngineError):
                open_engine(destination)
    engine = open_engine(destination)
    assert engine.find_problems() == []
    assert num_steps > len(engine.info.files) / 2
    assert sorted(copied) == sorted([*engine.info.files, INFO, "current"])  # each was copied once


def test_a_copy_leaves_the_current_engine_in_use_until_it_is_complete(storage: Storage, tmp_path: Path) -> None:
    destination = str(tmp_path / "there")
    copy_engine(storage, PLACE, destination)
    write_small_engine(tmp_path / "root" / "engines" / "colours-2", version="colours-2")
    for num_steps in range(1, 100):
        try:
            with killed_after(num_steps):
                copy_engine(storage, "engines/colours-2", destination)
            break
        except Killed:
            assert open_engine(destination).info.version == "colours-1"
    assert open_engine(destination).info.version == "colours-2"


def test_a_damaged_engine_is_not_copied(storage: Storage, tmp_path: Path) -> None:
    path = f"{PLACE}/taxa.parquet"
    content = storage.read_bytes(path)
    storage.write_bytes(path, content[:-1] + b"?")
    with pytest.raises(EngineError, match=r"taxa\.parquet is not what was published: check the engine with `aitax eng"):
        copy_engine(storage, PLACE, str(tmp_path / "there"))
    storage.delete(path)
    with pytest.raises(EngineError, match=r"cannot be used, taxa\.parquet is missing"):
        copy_engine(storage, PLACE, str(tmp_path / "there"))
    assert not (tmp_path / "there" / "current").exists()
    assert not (tmp_path / "there" / "colours-1" / INFO).exists()


def test_photographs_that_were_withdrawn_are_withdrawn_at_the_destination_too(
    storage: Storage, destination: str
) -> None:
    there = Storage(destination)
    there.write_json("withdrawn.json", {"image_ids": ["b"]})
    copy_engine(storage, PLACE, destination)
    assert there.read_json("withdrawn.json") == {"image_ids": ["b"]}
    storage.write_json("engines/withdrawn.json", {"image_ids": ["c", "a"]})
    copy_engine(storage, PLACE, destination)
    assert there.read_json("withdrawn.json") == {"image_ids": ["a", "b", "c"]}


def test_photographs_of_a_request_that_was_a_mistake_are_no_longer_withdrawn_at_the_destination(
    storage: Storage, destination: str
) -> None:
    there, now = Storage(destination), takedowns.now()
    mistake = Request(kind="image", value="a", requested=now, restored=now, image_ids=["a", "b"])
    takedowns.write_request(storage, mistake)
    there.write_json("withdrawn.json", {"image_ids": ["a", "b", "c"]})
    storage.write_json("engines/withdrawn.json", {"image_ids": ["b"]})
    copy_engine(storage, PLACE, destination)
    assert there.read_json("withdrawn.json") == {"image_ids": ["b", "c"]}


def test_photographs_that_were_withdrawn_are_deleted_from_earlier_copies(storage: Storage, tmp_path: Path) -> None:
    destination = str(tmp_path / "there")
    old, new = "20260101-000000-00000001", "20260102-000000-00000002"
    for version in (old, new):
        write_small_engine(tmp_path / "root" / "engines" / version, version=version)
    copy_engine(storage, f"engines/{old}", destination)
    withdrawn, *others = open_engine(destination).image_ids().to_pylist()
    storage.write_json("engines/withdrawn.json", {"image_ids": [withdrawn]})
    copy_engine(storage, f"engines/{new}", destination)  # `publish` has taken the photograph out of it before
    earlier = open_engine(f"{destination}/{old}")
    assert earlier.image_ids().to_pylist() == others
    assert earlier.find_problems() == []
    assert open_engine(destination).info.version == new


def test_a_copy_into_its_own_folder_changes_nothing(storage: Storage, copied: list[str]) -> None:
    copy_engine(storage, PLACE, f"{storage.root}/engines")
    assert copied == ["current"]
    assert open_engine(storage.root).find_problems() == []
