"""serving.classifier: on Ray Serve it runs in test_pipeline.py."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.serving.classifier import Classifier
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.training.onnx_classifier import OnnxClassifier
from tests.engines import COLOURS, write_small_engine


async def test_batches_are_answered_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(ApplicationArgs(engine=str(write_small_engine(tmp_path / "colours-1"))))
    predict, running, most = OnnxClassifier.predict, threading.Semaphore(1), []

    def watched(self: OnnxClassifier, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        most.append(running.acquire(blocking=False))
        try:
            return predict(self, pixels)
        finally:
            running.release()

    monkeypatch.setattr(OnnxClassifier, "predict", watched)
    colours = list(COLOURS.values())
    batches = [np.stack([np.full((8, 8, 3), c, np.uint8) for c in colours[: n + 1]]) for n in range(3)]
    answers = await asyncio.gather(*(classifier.predict("", batch) for batch in batches))
    assert [logits.argmax(axis=1).tolist() for _, logits, _ in answers] == [[0], [0, 1], [0, 1, 2]]
    assert [embeddings.shape for embeddings, _, _ in answers] == [(1, 3), (2, 3), (3, 3)]
    assert all(0 < seconds < 60 for *_, seconds in answers)
    assert most == [True] * 3
