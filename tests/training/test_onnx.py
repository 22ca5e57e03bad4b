import re
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from aitax_ray.training.backbones import transform_for
from aitax_ray.training.model import ClassifierInfo, build_classifier
from aitax_ray.training.onnx import export_onnx


@pytest.fixture(scope="module")
def model_and_file() -> tuple[torch.nn.Module, bytes]:
    torch.manual_seed(0)
    classifier = build_classifier("resnet18", 5, 32)
    classifier(torch.randn(4, 3, 32, 32))  # moves the running statistics away from where they begin
    info = ClassifierInfo(
        arch="resnet18",
        classes=list("abcde"),
        embedding_size=512,
        transform=transform_for("resnet18", 32),
        epoch=1,
        versions={},
    )
    return classifier.eval(), export_onnx(info, classifier)


@pytest.fixture(scope="module")
def exported(model_and_file: tuple[torch.nn.Module, bytes]) -> tuple[torch.nn.Module, onnxruntime.InferenceSession]:
    classifier, file = model_and_file
    return classifier, onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("num", [1, 3])
def test_torch_and_onnxruntime_agree(exported: tuple[torch.nn.Module, onnxruntime.InferenceSession], num: int) -> None:
    classifier, session = exported
    pixels = np.random.default_rng(num).normal(size=(num, 3, 32, 32)).astype(np.float32)
    embedding, logits = session.run(["embedding", "logits"], {"pixels": pixels})
    with torch.no_grad():
        expected_embedding, expected_logits = classifier(torch.from_numpy(pixels))
    assert embedding.shape == (num, 512)
    assert logits.shape == (num, 5)
    np.testing.assert_allclose(embedding, expected_embedding, atol=1e-4)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4)


def test_the_model_says_what_goes_in_and_what_comes_out(
    exported: tuple[torch.nn.Module, onnxruntime.InferenceSession],
) -> None:
    _, session = exported
    assert [(value.name, value.shape[1:]) for value in session.get_inputs()] == [("pixels", [3, 32, 32])]
    assert [(value.name, value.shape[1:]) for value in session.get_outputs()] == [("embedding", [512]), ("logits", [5])]
    assert isinstance(session.get_inputs()[0].shape[0], str)  # any number of photographs


def test_the_file_holds_no_path_of_the_machine_that_made_it(model_and_file: tuple[torch.nn.Module, bytes]) -> None:
    _, file = model_and_file
    assert re.findall(rb"/[\w./-]+\.py|stack_trace", file) == []
    assert sys.prefix.encode() not in file
