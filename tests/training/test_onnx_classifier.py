"""training.onnx_classifier: pixels to embeddings and logits on onnxruntime."""

import numpy as np
import pytest

from aitax_ray.errors import EngineError
from aitax_ray.training.onnx_classifier import OnnxClassifier
from tests.engines import COLOURS, colour_classifier


def photographs() -> np.ndarray:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in COLOURS.values()])


@pytest.mark.parametrize("num_threads", [None, 1, 2])
def test_pixels_come_out_as_embeddings_of_unit_length_and_logits(num_threads: int | None) -> None:
    embeddings, logits = OnnxClassifier(colour_classifier(), num_threads).predict(photographs())
    mean = np.array(list(COLOURS.values()), np.float32) / 127.5 - 1
    assert (embeddings.dtype, logits.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(embeddings, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(logits, 5 * mean, atol=1e-5)


def test_the_company_of_a_photograph_does_not_change_its_answer() -> None:
    classifier = OnnxClassifier(colour_classifier())
    together = classifier.predict(photographs())
    for number in range(3):
        alone = classifier.predict(photographs()[number : number + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[number], atol=1e-6)


def test_many_photographs_are_computed_in_parts_that_fit_a_cache() -> None:
    classifier, many = OnnxClassifier(colour_classifier()), np.concatenate([photographs()] * 7)
    embedding, logits = classifier.predict(many)
    assert (len(embedding), len(logits)) == (21, 21)
    np.testing.assert_allclose(logits[-3:], logits[:3], atol=1e-6)
    assert len(classifier.outputs(many[:0], ["logits"])[0]) == 0


def test_without_cuda_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match="pip install onnxruntime-gpu"):
        OnnxClassifier(colour_classifier(), on_gpu=True)


@pytest.mark.gpu
def test_a_gpu_computes_as_a_cpu_does() -> None:
    model, many = colour_classifier(), np.concatenate([photographs()] * 7)
    for ours, theirs in zip(*(OnnxClassifier(model, on_gpu=gpu).predict(many) for gpu in (True, False)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
