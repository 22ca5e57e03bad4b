"""engine.engines: engines are listed, verified, made current and pruned."""

import json
import shutil
import threading
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.engines import IS_MISSING, Engines, Swap, delete_incomplete, open_version
from aitax_ray.engine.info import INFO
from aitax_ray.errors import EngineError, SettingsError, StorageError
from aitax_ray.storage import Storage
from tests.engines import write_small_engine

V1, V2, V3 = "20260101-000000-00000001", "20260102-000000-00000002", "20260103-000000-00000003"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with three engines, of which the last one is current."""
    root = tmp_path_factory.mktemp("engines") / "root"
    for day, version in enumerate((V1, V2, V3), 1):
        created = datetime(2026, 1, day, tzinfo=UTC)
        write_small_engine(
            root / "engines" / version, version=version, created=created, metrics={"top1": 0.5 + day / 10}
        )
    shutil.rmtree(root / "engines" / "index-of-engine")
    (root / "engines" / "current").write_text(f"{V3}\n")
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "root"))


def damage(folder: Path) -> None:
    """Change a byte of a file, which keeps its size."""
    path = folder / "taxa.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_engines_are_listed_from_the_oldest_to_the_newest(root: Path) -> None:
    found = Engines(str(root)).summaries()
    assert [(one.version, one.is_current, one.problem) for one in found] == [
        (V1, False, ""),
        (V2, False, ""),
        (V3, True, ""),
    ]
    size = sum(
        path.stat().st_size for path in (root / "engines" / V3).rglob("*") if path.name != INFO and path.is_file()
    )
    last = found[-1]
    assert (last.arch, last.num_species, last.num_photographs, last.top1) == ("colours", 3, 12, 0.8)
    assert (last.created, last.num_bytes) == (datetime(2026, 1, 3, tzinfo=UTC), size)


def test_engines_are_found_by_the_root_their_folder_or_the_folder_of_one(root: Path) -> None:
    folder = root / "engines"
    for location in (root, folder, f"{folder}/", folder / "current"):
        assert [one.version for one in Engines(str(location)).summaries()] == [V1, V2, V3]
    one = Engines(str(folder / V2))
    assert [(found.version, found.is_current) for found in one.summaries()] == [(V2, False)]
    assert [(found.version, found.problems) for found in one.verify()] == [(V2, ())]


@pytest.mark.parametrize("name", ["", "engines"])
def test_a_place_without_engines_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "engines").mkdir()
    with pytest.raises(EngineError, match=r"no engines in .*: give a root where `aitax publish` has been run"):
        Engines(str(tmp_path / name))


def test_what_cannot_be_used_is_listed_with_the_reason(root: Path) -> None:
    (root / "engines" / V1 / INFO).unlink()
    content = json.loads((root / "engines" / V2 / INFO).read_text())
    (root / "engines" / V2 / INFO).write_text(json.dumps(content | {"format_version": 3}))
    (root / "engines" / V3 / "taxa.parquet").unlink()
    (root / "engines" / "notes").mkdir()
    (root / "engines" / "notes" / "README").write_text("by the user")
    found = {one.version: one.problem for one in Engines(str(root)).summaries()}
    assert found.keys() == {V1, V2, V3}
    assert found[V1] == "incomplete"
    assert "has format 3" in found[V2]
    assert found[V3] == "taxa.parquet is missing"


def test_a_current_engine_that_is_not_there_is_listed_and_found_by_verify(root: Path) -> None:
    shutil.rmtree(root / "engines" / V3)
    engines = Engines(str(root))
    assert [(one.version, one.problem) for one in engines.summaries() if one.is_current] == [(V3, IS_MISSING)]
    assert [one.version for one in engines.verify() if one.problems == (IS_MISSING,)] == [V3]


def test_verify_reads_every_file_of_every_engine_or_of_one(root: Path) -> None:
    damage(root / "engines" / V1)
    (root / "engines" / V2 / "answers.parquet").unlink()
    (root / "engines" / V2 / "classifier.onnx").write_bytes(b"")
    engines = Engines(str(root))
    found = {one.version: one.problems for one in engines.verify()}
    assert found[V1] == ("taxa.parquet has changed since it was published (sha256 differs)",)
    assert len(found[V2]) == 2
    assert found[V3] == ()
    assert [one.version for one in engines.verify(V3)] == [V3]
    assert engines.verify(V3)[0].num_files == len(open_engine(str(root)).info.files)
    with pytest.raises(EngineError, match=r"no engine gone in .*engines: see `aitax engines list`"):
        engines.verify("gone")


def test_rollback_makes_the_engine_before_the_current_one_current(root: Path) -> None:
    engines = Engines(str(root))
    assert engines.rollback() == Swap(V3, V2)
    assert open_engine(str(root)).info.version == V2
    assert engines.rollback() == Swap(V2, V1)
    with pytest.raises(EngineError, match=f"no engine before {V1}"):
        engines.rollback()
    assert engines.rollback(V3) == Swap(V1, V3)
    assert open_engine(str(root)).info.version == V3


def test_rollback_passes_over_engines_that_cannot_be_used(root: Path) -> None:
    (root / "engines" / V2 / INFO).unlink()
    assert Engines(str(root)).rollback().after == V1


@pytest.mark.parametrize("content", ["gone\n", None])
def test_without_a_usable_current_engine_rollback_takes_the_newest(root: Path, content: str | None) -> None:
    (root / "engines" / "current").unlink()
    if content:
        (root / "engines" / "current").write_text(content)
    (root / "engines" / V3 / "taxa.parquet").unlink()
    assert Engines(str(root)).rollback().after == V2


def test_rollback_to_a_damaged_or_incomplete_engine_is_refused(root: Path) -> None:
    damage(root / "engines" / V2)
    (root / "engines" / V1 / INFO).unlink()
    engines = Engines(str(root))
    for version, message in ((None, "sha256 differs"), (V2, "sha256 differs"), (V1, "engine.json is missing")):
        with pytest.raises(EngineError, match=f"cannot become the current engine: .*{message}"):
            engines.rollback(version)
    with pytest.raises(EngineError, match="no engine gone"):
        engines.rollback("gone")
    assert engines.current() == V3


def test_prune_deletes_the_oldest_and_keeps_the_current_one(root: Path) -> None:
    (root / "engines" / "current").write_text(V1)
    pruned = Engines(str(root)).prune(1)
    assert (pruned.deleted, pruned.kept) == ((V2,), (V1, V3))
    assert pruned.num_bytes == open_engine(str(root)).info.num_bytes
    assert {path.name for path in (root / "engines").iterdir()} == {V1, V3, "current"}
    assert Engines(str(root)).prune(1).deleted == ()


def test_prune_leaves_what_belongs_to_the_user(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = root / "engines"
    shutil.copytree(folder / V1, folder / "my-copy")
    (folder / "notes").mkdir()
    (folder / V1 / "why.txt").write_text("the one for the paper")
    (folder / V2 / "withdrawn.json").write_text("{}")  # part of the engine
    pruned = Engines(str(root)).prune(1)
    assert (pruned.deleted, pruned.kept) == ((V2,), (V1, V3))
    assert {path.name for path in folder.iterdir()} == {V1, V3, "my-copy", "notes", "current"}
    assert f"{V1} stays, it holds files that are not part of the engine, such as why.txt" in caplog.text


def test_prune_deletes_engines_of_earlier_formats_but_nothing_incomplete(root: Path) -> None:
    content = json.loads((root / "engines" / V1 / INFO).read_text())
    old = {"format_version": 3, "files": dict.fromkeys(content["files"], "0" * 64)}
    (root / "engines" / V1 / INFO).write_text(json.dumps(old))
    (root / "engines" / V2 / INFO).unlink()  # perhaps it is just being published
    assert Engines(str(root)).prune(1).deleted == (V1,)
    assert (root / "engines" / V2).exists()


def test_prune_needs_a_number_of_engines_to_keep(root: Path) -> None:
    with pytest.raises(SettingsError, match="--keep must be 1 or more"):
        Engines(str(root)).prune(0)


def test_an_engine_that_becomes_current_while_it_is_deleted_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, delete = Engines(str(root)), Storage.delete

    def rolled_back_meanwhile(self: Storage, path: str) -> None:
        delete(self, path)
        if path.endswith(f"{V1}/{INFO}"):
            (root / "engines" / "current").write_text(V1)

    monkeypatch.setattr(Storage, "delete", rolled_back_meanwhile)
    assert engines.prune(1).deleted == (V2,)
    assert open_engine(str(root)).find_problems() == []


def test_an_engine_that_is_deleted_while_it_becomes_current_is_not_current(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write_bytes

    def pruned_meanwhile(self: Storage, path: str, data: bytes) -> None:
        if path.endswith("current") and data.decode().strip() == V1:
            shutil.rmtree(root / "engines" / V1)
        write(self, path, data)

    monkeypatch.setattr(Storage, "write_bytes", pruned_meanwhile)
    engines = Engines(str(root))
    with pytest.raises(EngineError, match=f"{V1} was deleted at the same time"):
        engines.rollback(V1)
    assert engines.current() == V3


def test_the_remains_of_killed_runs_are_deleted_and_nothing_else(root: Path) -> None:
    folder = root / "engines"
    (folder / V1 / INFO).unlink()
    (folder / ".current.0123").write_bytes(b"202")
    (folder / "mine").mkdir()
    (folder / "withdrawn.json").write_text("{}")
    delete_incomplete(Storage(str(root)), "engines")
    assert {path.name for path in folder.iterdir()} == {V2, V3, "mine", "withdrawn.json", "current"}


def test_a_version_or_a_location_is_opened(root: Path) -> None:
    assert open_version(V1, str(root)).info.version == V1
    assert open_version(str(root), None).info.version == V3
    assert open_version(str(root / "engines" / V2), str(root)).info.version == V2
    with pytest.raises(EngineError, match="no engine in"):
        open_version("gone", str(root))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_an_engine_on_a_web_server_is_opened_and_verified(root: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            location = f"http://127.0.0.1:{server.server_port}"
            assert open_engine(location).info.version == V3
            engines = Engines(location)
            assert [(one.version, one.problems) for one in engines.verify() if one.version == V3] == [(V3, ())]
            with pytest.raises(StorageError, match="cannot be written"):
                engines.rollback(V3)
        finally:
            server.shutdown()
            thread.join()
