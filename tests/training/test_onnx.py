"""training.onnx: the file takes any number of photographs as uint8 pixels, and contains no paths of this machine."""

import re
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from aitax_ray.errors import ArchitectureError
from aitax_ray.training.backbones import transform_for
from aitax_ray.training.model import build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.transforms import EvalTransform
from tests.small import one_thread

CROP = 32


@pytest.fixture(scope="module")
def file() -> bytes:
    with one_thread():
        return export_onnx(build_classifier("squeezenet1_1", 5, CROP), transform_for("squeezenet1_1", CROP))


class Means(nn.Module):
    """The mean of each channel as the embedding, ten times that as the logits."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = pixels.mean(dim=(2, 3))
        return embedding, 10 * embedding


class Attention(Means):
    """Attention over 5 axes, as in timm's Hiera and MaxViT, which the exporter knows in its plain form only."""

    def __init__(self) -> None:
        super().__init__()
        self.fused_attn, self.clip = True, nn.ReLU6(inplace=True)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        axes = self.clip(pixels)[:, :, None]
        if self.fused_attn:
            return super().forward(nn.functional.scaled_dot_product_attention(axes, axes, axes)[:, :, 0])
        weights = (axes @ axes.mT / axes.shape[-1] ** 0.5).softmax(-1)
        return super().forward((weights @ axes)[:, :, 0])


class Undecided(Means):
    """It takes another way for each photograph, which no export can hold."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(pixels if pixels.sum() > 0 else -pixels)


def open_session(file: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_the_model_says_what_goes_in_and_what_comes_out(file: bytes) -> None:
    session = open_session(file)
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape[1:]) == ("pixels", "tensor(uint8)", [CROP, CROP, 3])
    assert isinstance(pixels.shape[0], str)  # any number of photographs
    outputs = [(value.name, value.type, value.shape[1:]) for value in session.get_outputs()]
    assert outputs == [("embedding", "tensor(float)", [512]), ("logits", "tensor(float)", [5])]


@pytest.mark.parametrize("num", [1, 2, 7])
def test_the_company_of_a_photograph_does_not_change_its_answer(file: bytes, num: int) -> None:
    pixels = np.random.default_rng(num).integers(0, 256, (num, CROP, CROP, 3), np.uint8)
    session = open_session(file)
    embedding, logits = session.run(["embedding", "logits"], {"pixels": pixels})
    assert (embedding.shape, logits.shape) == ((num, 512), (num, 5))
    last = session.run(["embedding", "logits"], {"pixels": pixels[-1:]})
    np.testing.assert_allclose(last[0][0], embedding[-1], atol=1e-6)
    np.testing.assert_allclose(last[1][0], logits[-1], atol=1e-5)


def test_pixels_are_normalized_inside_and_embeddings_have_unit_length() -> None:
    transform = EvalTransform(crop_size=8, resize_size=8, mean=(0.1, 0.5, 0.8), std=(0.2, 0.25, 0.4))
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    pixels[1], pixels[2] = (255, 128, 0), (10, 20, 30)
    embedding, logits = open_session(export_onnx(Means(), transform)).run(["embedding", "logits"], {"pixels": pixels})
    means = transform.normalize(pixels).mean(axis=(2, 3))
    np.testing.assert_allclose(logits, 10 * means, atol=1e-4)
    np.testing.assert_allclose(embedding, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)


def test_embeddings_keep_their_lengths_where_a_head_is_trained_on_them() -> None:
    transform = EvalTransform(crop_size=8, resize_size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    (embedding,) = open_session(export_onnx(Means(), transform, unit_length=False)).run(
        ["embedding"], {"pixels": pixels}
    )
    np.testing.assert_allclose(embedding, transform.normalize(pixels).mean(axis=(2, 3)), atol=1e-5)


def test_an_embedding_of_no_length_stays_finite() -> None:
    transform = EvalTransform(crop_size=8, resize_size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    session = open_session(export_onnx(Means(), transform))
    (embedding,) = session.run(["embedding"], {"pixels": np.zeros((1, 8, 8, 3), np.uint8)})
    assert embedding.tolist() == [[0.0, 0.0, 0.0]]


def test_fused_attention_that_the_exporter_does_not_know_is_exported_in_its_plain_form() -> None:
    network, transform = Attention(), EvalTransform(crop_size=8, resize_size=8)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    (logits,) = open_session(export_onnx(network, transform)).run(["logits"], {"pixels": pixels})
    assert network.fused_attn
    assert network.clip.inplace
    expected = network(torch.from_numpy(transform.normalize(pixels)))[1]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"cannot be exported to ONNX.*take another --arch"):
        export_onnx(Undecided(), EvalTransform(crop_size=8, resize_size=8))


def test_the_file_holds_no_path_of_the_machine_that_made_it(file: bytes) -> None:
    assert re.findall(rb"/[\w./-]+\.py|stack_trace", file) == []
    assert sys.prefix.encode() not in file
