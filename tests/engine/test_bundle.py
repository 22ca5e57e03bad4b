"""engine.bundle: engines can be written, moved, opened and checked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.engine import bundle
from aitax_ray.errors import EngineError
from tests.engines import COLOURS, NAMES, write_small_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_engine(tmp_path / "engines" / "colours-1")


def test_engine_json_has_the_sha256_of_every_file(folder: Path) -> None:
    info = bundle.open_engine(str(folder)).info
    there = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} - {bundle.INFO}
    assert set(info.files) == there
    assert all(len(digest) == 64 for digest in info.files.values())


def test_opened_engine_classifies_and_searches(folder: Path) -> None:
    engine = bundle.open_engine(str(folder))
    pixels = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in COLOURS.values()])
    embeddings, logits = engine.classifier().predict(pixels)
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    index = engine.index()
    neighbors, similarities = index.search(embeddings, 4)
    assert index.classes_of(neighbors).tolist() == [[0] * 4, [1] * 4, [2] * 4]
    assert np.all(np.diff(similarities) <= 0)
    assert [taxon.name for taxon in engine.taxa] == list(NAMES.values())


def test_taxa_have_their_names_by_language(folder: Path) -> None:
    assert [taxon.vernacular_names for taxon in bundle.open_engine(str(folder)).taxa] == [
        (("fra", "le rouge"),),
        (),
        (),
    ]


def test_engine_moves_by_plain_copy(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    engine = bundle.open_engine(str(tmp_path / "elsewhere"))
    assert engine.index().search(np.eye(3, dtype=np.float32), 2)[0].shape == (3, 2)


def test_engine_is_found_by_its_folder_by_current_and_by_the_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "engines" / "current").write_text("colours-1\n")
    for location in (folder, tmp_path / "engines", tmp_path / "engines" / "current", tmp_path, f"{tmp_path}/"):
        assert bundle.open_engine(str(location)).info.version == "colours-1"
    assert bundle.open_engine(f"file://{tmp_path}").info.version == "colours-1"


def test_engine_on_another_storage_is_copied_here(folder: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(folder), "/there/engine", recursive=True)
    engine = bundle.open_engine("memory://there/engine")
    assert list(engine.folder.iterdir()) == []  # nothing is copied before it is needed
    assert len(engine.taxa) == 3
    assert [path.name for path in engine.folder.iterdir()] == [bundle.TAXA]
    assert engine.index().search(np.eye(3, dtype=np.float32), 1)[0].shape == (3, 1)
    copy = engine.folder
    del engine
    assert not copy.exists()


@pytest.mark.parametrize(
    "name", [bundle.ONNX, bundle.TAXA, f"{bundle.SHARDS}/00000/rows.arrow", f"{bundle.SHARDS}/00000/vectors.npy"]
)
def test_altered_file_is_refused_at_load(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    engine = bundle.open_engine(str(folder))
    loads = {bundle.ONNX: engine.classifier, bundle.TAXA: lambda: engine.taxa}
    with pytest.raises(EngineError, match="sha256 differs"):
        loads.get(name, engine.index)()


def test_rows_that_are_not_those_of_the_index_are_refused(folder: Path) -> None:
    content = json.loads((folder / bundle.INFO).read_text())
    (folder / bundle.INFO).write_text(json.dumps(content | {"num_indexed": content["num_indexed"] + 1}))
    with pytest.raises(EngineError, match=r"has 12 photographs, engine.json says 13: publish the engine again"):
        bundle.open_engine(str(folder)).index()


def test_verify_checks_files_that_are_not_loaded_yet(folder: Path) -> None:
    engine = bundle.open_engine(str(folder))
    engine.verify()
    (folder / bundle.SHARDS / "00000" / "rows.arrow").write_bytes(b"")
    with pytest.raises(EngineError, match="sha256 differs"):
        engine.verify()


def test_missing_file_is_named(folder: Path) -> None:
    (folder / bundle.ONNX).unlink()
    with pytest.raises(EngineError, match=r"lacks classifier\.onnx"):
        bundle.open_engine(str(folder)).classifier()


@pytest.mark.parametrize("version", [1, 99])
def test_engine_of_another_format_is_refused(folder: Path, version: int) -> None:
    content = json.loads((folder / bundle.INFO).read_text())
    (folder / bundle.INFO).write_text(json.dumps(content | {"format_version": version}))
    with pytest.raises(EngineError, match=f"format {version}, this program reads {bundle.FORMAT_VERSION}: publish it"):
        bundle.open_engine(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", f'{{"format_version": {bundle.FORMAT_VERSION}}}'])
def test_broken_engine_json_is_one_clear_error(folder: Path, content: str) -> None:
    (folder / bundle.INFO).write_text(content)
    with pytest.raises(EngineError, match="cannot be read"):
        bundle.open_engine(str(folder))


def test_a_folder_without_an_engine_is_an_error_that_names_engine_json(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.json"):
        bundle.open_engine(str(tmp_path))
