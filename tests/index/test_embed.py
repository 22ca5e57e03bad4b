import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import StorageError
from aitax_ray.index import embed as module
from aitax_ray.index.embed import embed
from aitax_ray.index.embeddings import Embeddings
from aitax_ray.index.settings import IndexSettings
from aitax_ray.storage import Storage
from aitax_ray.training.feed import read_labels
from aitax_ray.training.predict import Embedder, as_matrix
from aitax_ray.workspace import Workspace
from tests.small import PredictedHere, jpeg, photo, write_model, write_root

SIDES = ("train",) * 4 + ("val", "test")
NUM = 3 * SIDES.count("train")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a model."""
    root = tmp_path_factory.mktemp("made") / "root"
    write_model(write_root(root, SIDES))
    return root


@pytest.fixture
def ws(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of it; embeddings are computed in this process, and a file holds 5 at most."""
    monkeypatch.setattr(module, "predictions", PredictedHere)
    monkeypatch.setattr(module, "MIN_ROWS", 5)
    return Workspace(str(shutil.copytree(made, tmp_path / "root")))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that the network was asked about since the list was cleared."""
    asked: list[str] = []
    apply = Embedder.__call__

    def count(self: Embedder, batch: pa.Table) -> pa.Table:
        asked.extend(batch["image_id"].to_pylist())
        return apply(self, batch)

    monkeypatch.setattr(Embedder, "__call__", count)
    return asked


def run(ws: Workspace, sides: tuple[str, ...] = ("train",), **settings: Any) -> Embeddings:
    return embed(ws, IndexSettings(root=ws.root, **settings), read_labels(ws, *sides))


def table_of(embeddings: Embeddings) -> pa.Table:
    return pa.concat_tables(embeddings.batches()).sort_by("image_id")


def train_ids(ws: Workspace) -> list[str]:
    return [key.decode() for key in read_labels(ws, "train").image_ids]


def change_photograph(ws: Workspace, image_id: str) -> None:
    """Store a photograph again, with other pixels. All others get the hash of what is stored."""
    for file in ws.storage.files(workspace.IMAGES, ".parquet"):
        rows = ws.storage.read_table(file.path).to_pylist()
        for row in rows:
            row["jpeg"] = jpeg(photo("Z9", 77)) if row["image_id"] == image_id else row["jpeg"]
            row["jpeg_sha256"] = hashlib.sha256(row["jpeg"]).hexdigest()
        ws.storage.write_table(file.path, pa.Table.from_pylist(rows, schemas.IMAGES))


def test_each_photograph_of_these_sides_has_one_embedding(ws: Workspace) -> None:
    rows = table_of(run(ws))
    assert rows.schema == schemas.EMBEDDINGS
    assert rows["image_id"].to_pylist() == train_ids(ws)
    images = ws.storage.read_table(workspace.IMAGES)
    hashes = {row["image_id"]: hashlib.sha256(row["jpeg"]).hexdigest() for row in images.to_pylist()}
    assert rows["jpeg_sha256"].to_pylist() == [hashes[key] for key in train_ids(ws)]
    assert np.linalg.norm(as_matrix(rows["embedding"]), axis=1) == pytest.approx([1] * NUM, abs=1e-3)


def test_files_have_a_bounded_number_of_rows(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [table.num_rows for table in run(ws).batches()].count(5) == 2
    ws.storage.delete(workspace.EMBEDDINGS)
    monkeypatch.setattr(module, "MIN_ROWS", 1)
    monkeypatch.setattr(module, "NUM_FILES", 4)
    assert [table.num_rows for table in run(ws).batches()] == [3] * 4
    ws.storage.delete(workspace.EMBEDDINGS)
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    assert [table.num_rows for table in run(ws).batches()] == [2] * 6


def test_more_sides_need_only_what_they_add_and_fewer_need_nothing(ws: Workspace, computed: list[str]) -> None:
    run(ws)
    computed.clear()
    rows = table_of(run(ws, ("train", "val", "test")))
    assert sorted(computed) == [key.decode() for key in read_labels(ws, "val", "test").image_ids]
    assert rows.num_rows == 3 * len(SIDES)
    computed.clear()
    assert table_of(run(ws)) == rows
    assert computed == []


def test_a_run_that_failed_continues_and_ends_like_one_that_did_not(
    ws: Workspace, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = table_of(run(ws))
    ws.storage.delete(workspace.EMBEDDINGS)
    write, calls = Storage.write_table, 0

    def fail(self: Storage, path: str, table: pa.Table, plain: Any = ()) -> None:
        nonlocal calls
        calls += path.startswith(workspace.EMBEDDINGS)
        if calls == 2:
            raise StorageError("the disk is full")
        write(self, path, table, plain)

    monkeypatch.setattr(Storage, "write_table", fail)
    with pytest.raises(StorageError):
        run(ws)
    computed.clear()
    assert table_of(run(ws)) == complete
    assert len(computed) == NUM - 5


KILLED = """
import os, signal, sys
import pyarrow.parquet as pq
from aitax_ray.index import embed as module
from aitax_ray.index.settings import IndexSettings
from aitax_ray.training.feed import read_labels
from aitax_ray.workspace import Workspace
from tests.small import PredictedHere

write, calls = pq.write_table, 0

def write_table(table, where, **options):
    global calls
    calls += 1
    write(table, where, **options)
    if calls == 2:  # before the file gets its name
        os.kill(os.getpid(), signal.SIGKILL)

pq.write_table = write_table
module.predictions, module.MIN_ROWS = PredictedHere, 5
ws = Workspace(sys.argv[1])
module.embed(ws, IndexSettings(root=ws.root), read_labels(ws, "train"))
"""


def test_a_run_that_was_killed_while_it_wrote_loses_only_that_file(
    ws: Workspace, computed: list[str], tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, ws.root], env=environment, timeout=120, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    (folder,) = ws.storage.entries(workspace.EMBEDDINGS)
    assert sorted(path.rsplit("/", 1)[-1][0] for path in ws.storage.entries(folder)) == [".", "p"]
    rows = table_of(run(ws))
    assert len(computed) == NUM - 5
    assert [path.rsplit("/", 1)[-1][0] for path in ws.storage.entries(folder)] == ["p"] * 3
    ws.storage.delete(workspace.EMBEDDINGS)
    assert table_of(run(ws)) == rows


def test_rows_that_a_repeated_task_wrote_twice_are_there_once(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module._write
    monkeypatch.setattr(module, "_write", lambda *given: (write(*given), write(*given))[0])
    assert table_of(run(ws))["image_id"].to_pylist() == train_ids(ws)


def test_a_photograph_that_was_stored_anew_is_embedded_again_and_no_other(ws: Workspace, computed: list[str]) -> None:
    before = table_of(run(ws))
    changed = train_ids(ws)[7]
    change_photograph(ws, changed)
    computed.clear()
    after = table_of(run(ws))
    assert computed == [changed]
    assert after["image_id"] == before["image_id"]
    is_same = [a == b for a, b in zip(before["embedding"].to_pylist(), after["embedding"].to_pylist(), strict=True)]
    assert is_same == [number != 7 for number in range(NUM)]


def test_embeddings_of_another_backbone_are_deleted_and_those_of_another_head_are_kept(
    ws: Workspace, computed: list[str]
) -> None:
    first = run(ws)
    state = ws.storage.read_bytes(workspace.WEIGHTS)
    write_model(ws, seed=1)
    computed.clear()
    other = run(ws)
    assert len(computed) == NUM
    assert ws.storage.entries(workspace.EMBEDDINGS) == [other.folder] != [first.folder]
    from safetensors.torch import load, save

    weights = load(state)
    weights["head.weight"] += 1
    ws.storage.write_bytes(workspace.WEIGHTS, save(weights))
    assert run(ws).folder == first.folder


def write_stored_views(ws: Workspace, image_ids: list[str], **changed: str) -> None:
    """Write embeddings as training with a frozen backbone stores them: two views of 512 numbers."""
    images = {row["image_id"]: row["jpeg"] for row in ws.storage.read_table(workspace.IMAGES).to_pylist()}
    first, second = np.zeros(512, np.float16), np.full(512, 0.5, np.float16)
    first[0] = 1
    rows = {
        "image_id": image_ids,
        "unit": [np.concatenate([first, second])] * len(image_ids),
        "length": [[2.0, 3.0]] * len(image_ids),
        "jpeg_sha256": [changed.get(key, hashlib.sha256(images[key]).hexdigest()) for key in image_ids],
    }
    half = len(image_ids) // 2
    for name, part in (("a", slice(0, half)), ("b", slice(half, None))):
        table = pa.table({column: values[part] for column, values in rows.items()}, schemas.STORED_VIEWS)
        ws.storage.write_table(f"{workspace.VIEWS}/0123/{name}.parquet", table)


def test_embeddings_that_training_stored_are_copied(ws: Workspace, computed: list[str]) -> None:
    ids = train_ids(ws)
    change_photograph(ws, ids[0])  # so that all photographs have hashes
    write_stored_views(ws, ids[:8], **{ids[1]: "of other pixels"})
    rows = table_of(run(ws))
    assert sorted(computed) == [ids[1], *ids[8:]]
    assert rows["image_id"].to_pylist() == ids
    vectors = as_matrix(rows["embedding"])
    is_copied = (vectors == np.eye(1, 512)).all(axis=1)
    assert is_copied.tolist() == [number in (0, *range(2, 8)) for number in range(NUM)]
    ws.storage.delete(workspace.VIEWS)
    computed.clear()
    assert table_of(run(ws)) == rows
    assert computed == []


def test_embeddings_of_one_view_do_not_stand_for_the_mean_of_several(ws: Workspace, computed: list[str]) -> None:
    write_stored_views(ws, train_ids(ws))
    one = run(ws)
    assert computed == []
    several = run(ws, views=2)
    assert len(computed) == NUM
    assert several.folder != one.folder


@pytest.mark.parametrize("views", [2, 4])
def test_several_views_are_averaged(ws: Workspace, views: int) -> None:
    from aitax_ray.training.views import decode_averaged_views

    rows = table_of(run(ws, views=views))
    embedder = Embedder(ws.root)
    images = read_labels(ws, "train")(ws.storage.read_table(workspace.IMAGES)).sort_by("image_id")
    decoded = decode_averaged_views(images, embedder.info.transform, views)
    size = embedder.info.transform.crop_size
    pixels = np.frombuffer(b"".join(decoded["pixels"].to_pylist()), np.uint8).reshape(-1, size, size, 3)
    mean = embedder._predict(pixels)[0].reshape(NUM, views, -1).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert as_matrix(rows["embedding"]) == pytest.approx(expected, abs=1e-3)
    assert as_matrix(rows["embedding"]) != pytest.approx(as_matrix(table_of(run(ws))["embedding"]), abs=1e-3)


def test_the_driver_only_counts(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    returned = []
    batches = PredictedHere.iter_batches

    def watch(self: PredictedHere, **options: object) -> Any:
        for batch in batches(self, **options):
            returned.append(batch)
            yield batch

    monkeypatch.setattr(PredictedHere, "iter_batches", watch)
    run(ws)
    assert [batch.to_pylist() for batch in returned] == [[{"num_rows": 5}], [{"num_rows": 5}], [{"num_rows": 2}]]
