"""The stage as a whole, on the tiny root."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import workspace
from aitax_ray.errors import DataError, MissingArtifactError, StorageError
from aitax_ray.index.embeddings import PhotographRows
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import open_index, read_rows
from aitax_ray.training.predict import as_matrix
from aitax_ray.workspace import Workspace
from tests.small import SIDES, PredictedHere, trained, write_model, write_root


@pytest.fixture
def root(ray_session: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained(tmp_path_factory), tmp_path / "root"))


def test_every_training_photograph_is_indexed_once_with_what_is_known_of_it(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.index.embed.MIN_ROWS", 10)
    caplog.set_level(logging.INFO, "aitax_ray.progress")
    ws = Workspace(str(root))
    report = index(IndexSettings(root=str(root), inference_batch_size=5))
    num = 3 * SIDES.count("train")
    assert report.counts == {"images": num, "shards": 1}
    for work in ("embeddings", "thumbnails"):
        assert any(message.startswith(f"{work}: {num} of {num} photographs") for message in caplog.messages)

    embeddings = ws.storage.read_table(workspace.EMBEDDINGS).sort_by("image_id")
    split = {r["image_id"]: r for r in ws.storage.read_table(workspace.SPLIT).to_pylist()}
    expected = sorted(key for key, row in split.items() if row["split"] == "train")
    assert embeddings["image_id"].to_pylist() == expected
    vectors = as_matrix(embeddings["embedding"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)

    rows = read_rows(ws.storage).to_pylist()
    assert [row["image_id"] for row in rows] == sorted(expected, key=lambda key: (split[key]["class_index"], key))
    media = {r["image_id"]: r for r in ws.storage.read_table(workspace.MEDIA).to_pylist()}
    for row in rows:
        key = row["image_id"]
        for name in ("class_index", "species_key", "split"):
            assert row[name] == split[key][name]
        for name in ("url", "creator", "gbif_id", "license", "references"):
            assert row[name] == media[key][name]

    with open_index(ws.storage) as found:
        vectors = found.shards[0].vectors.astype(np.float32)
        neighbors, similarities = found.search(vectors, 4)
        assert neighbors[:, 0].tolist() == list(range(num))
        np.testing.assert_allclose(similarities[:, 0], 1, atol=2e-3)
        # Most neighbours are of the same species: the model was trained to tell species apart.
        classes = found.shards[0].class_index
        assert (found.classes_of(neighbors) == classes[:, None]).mean() > 0.7
    assert index(IndexSettings(root=str(root), num_classifiers=2)) == report

    # Another search needs no new embeddings.
    files = ws.storage.files(workspace.EMBEDDINGS)
    assert [ws.storage.read_table(file.path).num_rows for file in files].count(10) == 2
    monkeypatch.setattr("aitax_ray.index.embed.predictions", lambda *_: pytest.fail("the classifier is not needed"))
    assert index(IndexSettings(root=str(root), reorder=50)).counts == report.counts
    assert ws.storage.files(workspace.EMBEDDINGS) == files
    assert len(read_rows(ws.storage)) == num


def test_a_run_that_stopped_keeps_its_embeddings_even_if_the_next_one_searches_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.index.embed.predictions", PredictedHere)
    monkeypatch.setattr("aitax_ray.index.embed.MIN_ROWS", 10)
    write_model(write_root(tmp_path))
    add = PhotographRows.add

    def fail(self: PhotographRows, rows: pa.Table) -> None:
        add(self, rows)
        raise StorageError("the disk is full")

    monkeypatch.setattr(PhotographRows, "add", fail)
    with pytest.raises(StorageError):
        index(IndexSettings(root=str(tmp_path), thumbnails=False))
    written: list[int] = []
    monkeypatch.setattr(PhotographRows, "add", lambda self, rows: (written.append(len(rows)), add(self, rows)))
    other = IndexSettings(root=str(tmp_path), thumbnails=False, reorder=50)
    assert index(other).counts == {"images": 24, "shards": 1}
    assert written == [10, 4]
    assert index(other.model_copy(update={"force": True})).counts == {"images": 24, "shards": 1}
    assert written[2:] == [10, 10, 4]


def test_a_single_photograph_is_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitax_ray.index.embed.predictions", PredictedHere)
    ws = write_root(tmp_path, {"7K3": ["train", "test"], "A12": ["val"], "Z9": ["test"]})
    write_model(ws)
    assert index(IndexSettings(root=str(tmp_path), thumbnails=False)).counts == {"images": 1, "shards": 1}
    vectors = as_matrix(ws.storage.read_table(workspace.EMBEDDINGS)["embedding"])
    assert len(vectors) == 1
    with open_index(ws.storage) as found:
        neighbors, similarities = found.search(vectors, 10)
    assert neighbors.tolist() == [[0]]
    assert similarities[0, 0] == pytest.approx(1, abs=2e-3)


def test_without_photographs_there_is_no_index_and_the_error_names_the_remedy(tmp_path: Path) -> None:
    write_model(write_root(tmp_path, {"7K3": ["val", "test"], "A12": ["val"], "Z9": ["test"]}))
    with pytest.raises(DataError, match="nothing to index: run `aitax split` again"):
        index(IndexSettings(root=str(tmp_path)))


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    write_root(tmp_path)
    with pytest.raises(MissingArtifactError, match="aitax train"):
        index(IndexSettings(root=str(tmp_path)))
