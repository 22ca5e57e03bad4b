"""engine.info: the description of an engine, and the file that names the one in use."""

import json
from pathlib import Path

import pytest

from aitax_ray.engine.info import (
    FORMAT_VERSION,
    INFO,
    find_changes,
    find_faults,
    read_current,
    read_info,
    write_current,
)
from aitax_ray.errors import EngineError
from aitax_ray.storage import Storage
from tests.engines import write_small_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_engine(tmp_path / "engines" / "colours-1")


@pytest.mark.parametrize("version", [1, 3, 99])
def test_engine_of_another_format_is_refused(folder: Path, version: int) -> None:
    content = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps(content | {"format_version": version}))
    with pytest.raises(EngineError, match=f"format {version}, this program reads {FORMAT_VERSION}: publish it again"):
        read_info(Storage(str(folder)), "")


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", f'{{"format_version": {FORMAT_VERSION}}}'])
def test_broken_engine_json_is_one_clear_error(folder: Path, content: str) -> None:
    (folder / INFO).write_bytes(content.encode("latin-1"))
    with pytest.raises(EngineError, match=r"engine\.json of the engine in .* cannot be read: copy or publish it again"):
        read_info(Storage(str(folder)), "")


def test_an_engine_without_its_description_is_not_complete(folder: Path) -> None:
    (folder / INFO).unlink()
    with pytest.raises(EngineError, match=r"no complete engine in .*colours-1, engine\.json is missing: copy or"):
        read_info(Storage(str(folder.parent)), "colours-1")


def test_faults_are_missing_files_and_other_sizes_and_changes_are_other_bytes(folder: Path) -> None:
    storage = Storage(str(folder.parent))
    info = read_info(storage, "colours-1")
    assert find_faults(storage, "colours-1", info) == find_changes(storage, "colours-1", info) == []
    (folder / "taxa.parquet").unlink()
    content = (folder / "classifier.onnx").read_bytes()
    (folder / "classifier.onnx").write_bytes(content[:-1])
    assert find_faults(storage, "colours-1", info) == [
        f"classifier.onnx has {len(content) - 1:,} bytes instead of {len(content):,}",
        "taxa.parquet is missing",
    ]
    (folder / "classifier.onnx").write_bytes(content[:-1] + b"?")
    assert find_changes(storage, "colours-1", info, ["classifier.onnx"]) == [
        "classifier.onnx has changed since it was published (sha256 differs)"
    ]


def test_current_names_the_engine_in_use(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert read_current(storage, "engines") is None
    write_current(storage, "engines", "v1")
    write_current(storage, "engines", "v2")
    assert read_current(storage, "engines") == "v2"
    assert (tmp_path / "engines" / "current").read_text() == "v2\n"
