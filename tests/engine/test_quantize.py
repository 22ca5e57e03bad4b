"""engine.quantize: int8 files that predict nearly the same, and figures that say what they cost."""

import logging
import shutil
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch

from aitax_ray.engine.quantize import check_loss, choose_quantization, fit_temperature, measure, quantize
from aitax_ray.errors import EngineError
from aitax_ray.evaluation.calibration import TEMPERATURES, at_temperatures, best_temperature
from aitax_ray.training.backbones import transform_for
from aitax_ray.training.model import build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.predict import read_classifier
from aitax_ray.training.sample import Sample, draw_sample
from aitax_ray.workspace import Workspace
from tests.small import one_thread, trained


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("quantize") / "root"
    shutil.copytree(trained(tmp_path_factory), root)
    return Workspace(str(root))


@pytest.fixture(scope="module")
def model(ws: Workspace) -> bytes:
    info, classifier = read_classifier(ws)
    with one_thread():
        return export_onnx(classifier, info.transform)


@pytest.fixture(scope="module")
def static(ws: Workspace, model: bytes) -> bytes:
    return quantize(model, "static", draw(ws, "train"))


def draw(ws: Workspace, side: str) -> Sample:
    return draw_sample(ws, read_classifier(ws)[0].transform, 1000, side)


def types_of(file: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(file).graph.node}


class Answers:
    """A classifier that answers these classes, one photograph after the other."""

    def __init__(self, classes: list[int], embedding: tuple[float, float] = (1, 0)) -> None:
        self._classes, self._embedding = iter(classes), embedding

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.eye(4, dtype=np.float32)[[next(self._classes) for _ in pixels]]
        return np.tile(np.float32(self._embedding), (len(pixels), 1)), logits


def batches(target: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in np.array_split(np.array(target), 2):
        yield np.zeros((len(part), 8, 8, 3), np.uint8), part


def test_a_static_file_is_smaller_and_names_the_same_species(ws: Workspace, model: bytes, static: bytes) -> None:
    assert len(static) < 0.4 * len(model)
    figures = measure(OnnxClassifier(model, 1), OnnxClassifier(static, 1), draw(ws, "test"))
    assert figures["quantization_images"] == len(draw(ws, "test")) == 12
    assert figures["float32_top1"] == 1
    assert min(figures["int8_top1"], figures["int8_same_top1"]) >= 11 / 12  # it learned from 24 photographs
    assert 0.98 < figures["int8_embedding_cosine"] < 0.99999
    assert min(figures["float32_ms_per_image"], figures["int8_ms_per_image"]) > 0


def test_static_quantizes_convolutions_and_weights_per_channel(static: bytes) -> None:
    graph = onnx.load_from_string(static).graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= types_of(static)
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    scaled = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] in kernels]
    assert len(scaled) == len(kernels) > 20
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert all(sizes[node.input[1]] == [sizes[node.input[0]][0]] for node in scaled)


def test_static_depends_on_the_photographs_it_is_calibrated_on(ws: Workspace, model: bytes, static: bytes) -> None:
    assert quantize(model, "static", draw(ws, "train")) == static
    black = [(np.zeros_like(pixels), target) for pixels, target in draw(ws, "train")]
    figures = measure(OnnxClassifier(static), OnnxClassifier(quantize(model, "static", black)), draw(ws, "test"))
    assert figures["int8_embedding_cosine"] < 0.95


def test_dynamic_quantizes_matrix_products_and_leaves_convolutions(model: bytes) -> None:
    file = quantize(model, "dynamic", ())
    assert {"Conv", "MatMulInteger"} <= types_of(file)
    assert types_of(file) & {"ConvInteger", "Gemm", "MatMul"} == set()


def test_what_is_made_of_convolutions_is_quantized_statically(model: bytes) -> None:
    assert choose_quantization(model) == "static"


def test_a_transformer_is_quantized_dynamically_and_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with one_thread():
        torch.manual_seed(0)
        file = export_onnx(
            build_classifier("timm/vit_tiny_patch16_224", 3, 32), transform_for("timm/vit_tiny_patch16_224", 32)
        )
    assert choose_quantization(file) == "dynamic"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    caplog.clear()
    for quantization in ("static", "dynamic"):
        smaller = quantize(file, quantization, [(pixels, np.zeros(8, np.int32))])  # type: ignore[arg-type]
        assert len(smaller) < 0.35 * len(file)
        assert [record.getMessage() for record in caplog.records if record.name == "root"] == []
    logging.getLogger().warning("heard again")
    assert "heard again" in caplog.text


def test_an_int8_file_takes_any_number_of_photographs(static: bytes) -> None:
    classifier = OnnxClassifier(static)
    for num in (1, 3):
        embedding, logits = classifier.predict(np.full((num, 32, 32, 3), 120, np.uint8))
        assert (len(embedding), len(logits)) == (num, num)
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)


def test_the_loss_is_that_of_top1_and_counts_gains_against_losses() -> None:
    target = [0, 1, 2, 3, 0, 1, 2, 3]
    float32, int8 = Answers([0, 1, 2, 3, 0, 1, 0, 0]), Answers([1, 1, 2, 0, 1, 1, 2, 1], (0.8, 0.6))
    figures = measure(float32, int8, batches(target))  # type: ignore[arg-type]
    assert (figures["quantization_images"], figures["float32_top1"], figures["int8_top1"]) == (8, 6 / 8, 4 / 8)
    assert figures["quantization_loss"] == 2 / 8
    assert figures["int8_same_top1"] == 3 / 8
    assert figures["int8_embedding_cosine"] == pytest.approx(0.8)


def figures_of(loss: float, ms: float = 1.0) -> dict[str, float]:
    times = {"float32_ms_per_image": 2.0, "int8_ms_per_image": ms}
    return {"quantization_images": 100, "float32_top1": 0.9, "int8_top1": 0.9 - loss, "quantization_loss": loss} | times


def test_a_loss_above_the_bound_is_refused() -> None:
    check_loss(figures_of(0.02), 0.02)
    check_loss(figures_of(-0.01), 0)
    with pytest.raises(EngineError, match=r"lowers top-1 by 0\.0300 on 100 test photographs, and 0\.02 is allowed"):
        check_loss(figures_of(0.03), 0.02)


def test_int8_that_is_slower_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check_loss(figures_of(0.0), 0.01)
    assert "top-1 0.900 instead of 0.900, 1.0 ms per photograph instead of 2.0" in caplog.text
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == []
    check_loss(figures_of(0.0, ms=4.0), 0.01)
    assert "int8 is slower than float32 on this machine: it has 0.50 times the speed" in caplog.text


def test_the_temperature_is_fitted_on_the_quantized_logits(ws: Workspace, static: bytes) -> None:
    classifier, val = OnnxClassifier(static), draw(ws, "val")
    logits = np.concatenate([classifier.predict(pixels)[1] for pixels, _ in val])
    target = np.concatenate([target for _, target in val])
    expected = TEMPERATURES[best_temperature(at_temperatures(logits, target))]
    assert fit_temperature(classifier, val) == pytest.approx(float(expected))
    assert fit_temperature(classifier, ()) == 1.0
