"""engine.bundle: engines can be written, moved, opened and checked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aitax_ray.engine.bundle import ONNX, SHARDS, TAXA, Engine, open_engine, write_bundle
from aitax_ray.engine.info import INFO, EngineInfo
from aitax_ray.errors import EngineError
from aitax_ray.index.shards import THUMBNAILS
from aitax_ray.storage import Storage
from tests.engines import COLOURS, NAMES, describe_again, write_small_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_engine(tmp_path / "engines" / "colours-1")


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def load(engine: Engine) -> None:
    """Load what a service loads."""
    engine.classifier()
    engine.index()
    assert engine.taxa


def test_engine_json_lists_every_other_file(folder: Path) -> None:
    info = open_engine(str(folder)).info
    assert sorted([*info.files, INFO]) == files_of(folder)
    assert info.num_bytes == sum((folder / name).stat().st_size for name in info.files)


def test_opened_engine_classifies_and_searches(folder: Path) -> None:
    engine = open_engine(str(folder))
    pixels = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in COLOURS.values()])
    embeddings, logits = engine.classifier().predict(pixels)
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    index = engine.index()
    neighbors, similarities = index.search(embeddings, 4)
    assert index.classes_of(neighbors).tolist() == [[0] * 4, [1] * 4, [2] * 4]
    assert np.all(np.diff(similarities) <= 0)
    assert [taxon.name for taxon in engine.taxa] == engine.info.names == list(NAMES.values())
    assert engine.image_ids().to_pylist() == index.shards[0].rows["image_id"].to_pylist()


def test_taxa_have_their_names_by_language(folder: Path) -> None:
    assert [taxon.vernacular_names for taxon in open_engine(str(folder)).taxa] == [
        (("fra", "le rouge"),),
        (),
        (),
    ]


def test_engine_moves_by_plain_copy(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    load(open_engine(str(tmp_path / "elsewhere")))


def test_engine_that_nobody_may_write_to_is_loaded_and_stays_as_it_is(folder: Path) -> None:
    before = files_of(folder)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        engine = open_engine(str(folder))
        load(engine)
        assert engine.index().search(np.eye(3, dtype=np.float32), 2)[0].shape == (3, 2)
        assert engine.find_problems() == []
        assert files_of(folder) == before
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)


def test_engine_is_found_by_its_folder_by_current_and_by_the_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "engines" / "current").write_text("colours-1\n")
    for location in (folder, tmp_path / "engines", tmp_path / "engines" / "current", tmp_path, f"{tmp_path}/"):
        assert open_engine(str(location)).info.version == "colours-1"
    assert open_engine(f"file://{tmp_path}").info.version == "colours-1"


def test_engine_on_another_storage_is_copied_here_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(folder), "/there/engine", recursive=True)
    fetched: list[str] = []
    fetch = Storage.fetch
    monkeypatch.setattr(Storage, "fetch", lambda self, path, to: (fetched.append(path), fetch(self, path, to))[1])
    engine = open_engine("memory://there/engine")
    assert list(engine.folder.iterdir()) == []  # nothing is copied before it is needed
    assert len(engine.taxa) == 3
    assert fetched == [TAXA]
    for _ in range(2):
        load(engine)
    assert sorted(fetched) == sorted(name for name in engine.info.files if name.startswith((ONNX, TAXA, SHARDS)))
    assert engine.find_problems() == []
    copy = engine.folder
    del engine
    assert not copy.exists()


def test_a_check_of_an_engine_reads_every_file_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    sha256 = Storage.sha256
    monkeypatch.setattr(Storage, "sha256", lambda self, path: (read.append(path), sha256(self, path))[1])
    engine = open_engine(str(folder))
    assert engine.find_problems() == []
    load(engine)
    assert sorted(read) == sorted(engine.info.files)


def break_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_in_any_file_is_found(folder: Path) -> None:
    for name in open_engine(str(folder)).info.files:
        content = (folder / name).read_bytes()
        break_byte(folder / name)
        engine = open_engine(str(folder))
        with pytest.raises(EngineError, match=rf"cannot be used, {name} has changed.*sha256 differs.*copy or publish"):
            engine.verify()
        assert len(engine.find_problems()) == 1
        if name.startswith((ONNX, TAXA, SHARDS)) and not name.endswith(THUMBNAILS):
            with pytest.raises(EngineError, match=name):
                load(engine)
        (folder / name).write_bytes(content)
    open_engine(str(folder)).verify()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"has [\d,]+ bytes instead of [\d,]+"),
    ],
    ids=["missing", "half"],
)
def test_an_engine_that_was_copied_in_part_is_refused_when_it_is_opened(
    folder: Path, damage: Callable[[Path], Any], problem: str
) -> None:
    for name in open_engine(str(folder)).info.files:
        content = (folder / name).read_bytes()
        if content:
            damage(folder / name)
            with pytest.raises(EngineError, match=rf"{folder} cannot be used, {name} {problem}: copy or publish it"):
                open_engine(str(folder))
            (folder / name).write_bytes(content)
    for name in (ONNX, TAXA):
        damage(folder / name)
    with pytest.raises(EngineError, match=r"\(and 1 more\)"):
        open_engine(str(folder))


def test_thumbnails_are_read_by_verify_only(folder: Path) -> None:
    name = f"{SHARDS}/00000/{THUMBNAILS}"
    size = (folder / name).stat().st_size
    break_byte(folder / name)
    engine = open_engine(str(folder))
    load(engine)
    engine.verify(thumbnails=False)
    with pytest.raises(EngineError, match="sha256 differs"):
        engine.verify()
    (folder / name).write_bytes(b"picture")
    with pytest.raises(EngineError, match=f"has 7 bytes instead of {size:,}"):
        open_engine(str(folder))


def wrong_vectors(folder: Path) -> None:
    path = folder / SHARDS / "00000" / "vectors.npy"
    np.save(path, np.load(path)[:, :2])


def fewer_vectors(folder: Path) -> None:
    path = folder / SHARDS / "00000" / "vectors.npy"
    np.save(path, np.load(path)[:-1])


def other_classifier(folder: Path) -> None:
    (folder / ONNX).write_bytes(b"of something else")


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (None, {"embedding_size": 4}, "classifier of another engine: its embeddings have 3 numbers"),
        (None, {"classes": ["11", "22"]}, "classifier of another engine: .* it knows 3 species, .* says 3 and 2"),
        (None, {"classes": ["11", "33", "22"]}, "does not hold the classes"),
        (None, {"num_indexed": 13}, "has 12 photographs, engine.json says 13: copy it again, or publish it again"),
        (wrong_vectors, {}, "of another engine: its vectors have 2 numbers, the embeddings of the classifier 3"),
        (fewer_vectors, {}, "12 rows and 11 vectors"),
        (other_classifier, {}, "does not classify photographs of 8 px"),
    ],
    ids=["embedding", "classes", "order", "count", "vectors", "rows", "no-onnx"],
)
def test_parts_of_another_engine_are_refused(
    folder: Path, damage: Callable[[Path], None] | None, changes: dict[str, Any], message: str
) -> None:
    if damage is not None:
        damage(folder)
    describe_again(folder, **changes)
    engine = open_engine(str(folder))
    with pytest.raises(EngineError, match=message):
        load(engine)
    assert len(engine.find_problems()) == 1


def test_species_of_another_engine_in_the_rows_are_refused(folder: Path) -> None:
    content = json.loads((folder / INFO).read_text())
    describe_again(folder, classes=content["classes"][:2])
    with pytest.raises(EngineError, match=r"has species that engine\.json does not have"):
        open_engine(str(folder)).index()


@pytest.mark.parametrize("version", ["gone", "", "../elsewhere"])
def test_a_current_engine_that_is_not_there_is_named_with_the_remedy(tmp_path: Path, version: str) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "current").write_text(f"{version}\n")
    with pytest.raises(EngineError, match=rf"engines/current names the engine '{version}', which .*engines rollback"):
        open_engine(str(tmp_path))


def test_a_folder_without_an_engine_is_an_error_that_names_engine_json(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.json"):
        open_engine(str(tmp_path))


def test_an_engine_that_fails_its_check_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    info = open_engine(str(folder)).info.model_dump(exclude={"files"})
    seen = []

    def refuse(engine: Engine) -> None:
        seen.append(sorted(files_of(engine.folder)))
        raise EngineError("not good enough")

    storage = Storage(str(tmp_path))
    storage.write_bytes("source", b"22")
    with pytest.raises(EngineError, match="not good enough"):
        write_bundle(storage, "new", {"one": b"1", "two": "source"}, info, refuse)
    assert seen == [["one", "two"]]  # all but engine.json
    assert not storage.exists("new")
    written = write_bundle(storage, "new", {"one": b"1", "two": "source"}, info, lambda engine: None)
    assert isinstance(written, EngineInfo)
    assert written.files["two"].size == 2


def test_a_file_that_is_not_what_was_to_be_written_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = open_engine(str(folder)).info
    write = Storage.write_bytes
    monkeypatch.setattr(Storage, "write_bytes", lambda self, path, data: write(self, path, data.replace(b"6", b"7")))
    with pytest.raises(EngineError, match=r"one has changed"):
        write_bundle(Storage(str(tmp_path)), "new", {"one": b"66"}, info.model_dump(exclude={"files"}))
    assert not (tmp_path / "new" / "one").exists()
