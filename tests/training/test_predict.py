import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load, save

from aitax_ray import workspace
from aitax_ray.schemas import EMBEDDINGS, VIEWS
from aitax_ray.training.embeddings import views_of
from aitax_ray.training.feed import decode_for_evaluation
from aitax_ray.training.model import Classifier
from aitax_ray.training.predict import (
    Embedder,
    Predictor,
    ViewEmbedder,
    apply_classifier,
    applying,
    as_lists,
    as_matrix,
    digest_backbone,
    read_classifier,
    read_head,
)
from aitax_ray.workspace import Workspace
from tests.small import ARCH, CROP, KEYS, jpeg, one_thread, photo, write_model, write_root


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Classifier]]:
    """A root with a model, and the classifier it was written from."""
    ws = write_root(tmp_path_factory.mktemp("root"))
    with one_thread():
        yield ws, write_model(ws, onnx=True)


def batch_of(num: int, predictor: Predictor) -> pa.Table:
    table = pa.table(
        {
            "image_id": [f"id{n}" for n in range(num)],
            "class_index": pa.array(range(num), pa.int32()),
            "split": ["test"] * num,
            "jpeg": [jpeg(photo(KEYS[n % 3], n)) for n in range(num)],
        }
    )
    return decode_for_evaluation(table, predictor.info.transform)


def test_what_is_read_is_what_was_written(written: tuple[Workspace, Classifier]) -> None:
    ws, saved = written
    info, classifier = read_classifier(ws)
    assert (info.arch, info.classes, info.embedding_size) == (ARCH, KEYS, 512)
    assert (info.transform.crop_size, info.transform.resize_size) == (CROP, round(CROP * 256 / 224))
    for name, tensor in saved.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], tensor), name


@pytest.mark.parametrize("with_onnx", [True, False])
def test_a_prediction_is_that_of_the_classifier_and_keeps_its_keys(
    written: tuple[Workspace, Classifier], tmp_path: Path, with_onnx: bool
) -> None:
    ws, saved = written
    assert ws.storage.exists(workspace.ONNX)
    if not with_onnx:
        ws = Workspace(str(shutil.copytree(ws.root, tmp_path / "root")))
        ws.storage.delete(workspace.ONNX)
    predictor = Predictor(ws.root)
    batch = batch_of(4, predictor)
    predicted = predictor(batch)
    assert predicted.schema.names == ["image_id", "class_index", "split", "embedding", "logits"]
    assert predicted.select(["image_id", "class_index", "split"]).equals(
        batch.select(["image_id", "class_index", "split"])
    )
    pixels = np.stack([np.frombuffer(p, np.uint8).reshape(CROP, CROP, 3) for p in batch["pixels"].to_pylist()])
    with torch.no_grad():
        embedding, logits = saved(torch.from_numpy(predictor.info.transform.normalize(pixels)))
    np.testing.assert_allclose(as_matrix(predicted["logits"]), logits, atol=1e-4)
    unit = as_matrix(predicted["embedding"])
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    cosine = (unit * embedding.numpy()).sum(1) / embedding.norm(dim=1).numpy()
    np.testing.assert_allclose(cosine, 1, atol=1e-4)


def test_the_company_of_a_photograph_does_not_change_its_prediction(written: tuple[Workspace, Classifier]) -> None:
    ws, _ = written
    predictor = Predictor(ws.root)
    batch = batch_of(5, predictor)
    together, alone = predictor(batch), predictor(batch.slice(3, 1))
    np.testing.assert_allclose(as_matrix(together["logits"])[3], as_matrix(alone["logits"])[0], atol=1e-4)


@pytest.mark.parametrize("views", [1, 2])
def test_an_embedder_gives_the_mean_of_the_views_alone(written: tuple[Workspace, Classifier], views: int) -> None:
    ws, _ = written
    embedder = Embedder(ws.root)
    batch = batch_of(2 * views, embedder)
    pixels = batch["pixels"].to_pylist()
    joined = [b"".join(pixels[at : at + views]) for at in range(0, len(pixels), views)]
    embedded = embedder(pa.table({"image_id": ["a", "b"], "jpeg_sha256": ["c", "d"], "pixels": joined}))
    assert embedded.schema == EMBEDDINGS
    assert embedded.select(["image_id", "jpeg_sha256"]).to_pylist() == [
        {"image_id": "a", "jpeg_sha256": "c"},
        {"image_id": "b", "jpeg_sha256": "d"},
    ]
    mean = as_matrix(Predictor(ws.root)(batch)["embedding"]).reshape(2, views, -1).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(as_matrix(embedded["embedding"]), expected, atol=1e-3)


def test_the_digest_of_a_backbone_is_that_of_its_weights_and_its_transform(
    written: tuple[Workspace, Classifier], tmp_path: Path
) -> None:
    ws = Workspace(str(shutil.copytree(written[0].root, tmp_path / "root")))
    before = digest_backbone(ws)
    assert before == digest_backbone(written[0])
    info, weights = ws.storage.read_json(workspace.CLASSIFIER), ws.storage.read_bytes(workspace.WEIGHTS)
    ws.storage.write_json(workspace.CLASSIFIER, info | {"epoch": 9})
    assert digest_backbone(ws) == before
    ws.storage.write_json(workspace.CLASSIFIER, info | {"transform": info["transform"] | {"crop_mode": "squash"}})
    assert digest_backbone(ws) != before
    ws.storage.write_json(workspace.CLASSIFIER, info)
    for part, is_same in (("head.", True), ("backbone.", False)):
        changed = load(weights)
        next(tensor for name, tensor in sorted(changed.items()) if name.startswith(part)).view(-1)[0] += 1
        ws.storage.write_bytes(workspace.WEIGHTS, save(changed))
        assert (digest_backbone(ws) == before) == is_same


def test_in_bf16_an_embedding_is_nearly_the_same(written: tuple[Workspace, Classifier]) -> None:
    ws, saved = written
    transform = Predictor(ws.root).info.transform
    pixels = np.stack([transform.pixels(photo(KEYS[n % 3], n)) for n in range(4)])
    exact, rounded = (apply_classifier(saved, transform, pixels, bf16=bf16)[0] for bf16 in (False, True))
    assert 0.99 < (exact * rounded).sum(axis=1).min() < 0.999999


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 4)])
def test_matrices_travel_as_columns_of_lists(shape: tuple[int, int]) -> None:
    matrix = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    column = pa.chunked_array([as_lists(matrix)])
    assert len(column) == shape[0]
    back = as_matrix(column)
    assert back.dtype == np.float32
    assert back.tolist() == matrix.tolist()


def test_a_part_of_a_column_is_a_part_of_the_matrix() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    column = pa.chunked_array([as_lists(matrix[:1]), as_lists(matrix[1:])])
    np.testing.assert_array_equal(as_matrix(column), matrix)
    np.testing.assert_array_equal(as_matrix(column.slice(1, 2)), matrix[1:3])
    np.testing.assert_array_equal(as_matrix(column.filter(pa.array([True, False, False, True]))), matrix[[0, 3]])


def test_a_transposed_matrix_is_stored_by_rows() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2).T
    assert as_lists(matrix).to_pylist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_views_keep_what_the_head_needs(head: str, tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    with one_thread():
        write_model(ws, onnx=True, head=head)
        embedder = ViewEmbedder(ws.root)
        predicted, views = Predictor(ws.root)(batch_of(5, embedder)), embedder(batch_of(5, embedder))
        assert views.schema.equals(VIEWS)
        embedding = views_of(views)[:, 0].astype(np.float32) * np.stack(views["length"].to_numpy())
        logits = applying(read_head(ws))(embedding)
    expected = as_matrix(predicted["logits"])
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, atol=0.01 * expected.std())
