"""The deployment that runs the network, on batches of requests which Ray Serve gathers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray import serve

from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions


class Classifier:
    """Runs the network on batches of requests, which Ray Serve gathers."""

    def __init__(self, args: ApplicationArgs) -> None:
        num_threads = max(1, int(args.classifier_cpus))
        self._versions = Versions(args.engine, lambda engine: engine.classifier(num_threads))
        batch: Any = self._gathered
        batch.set_max_batch_size(args.max_batch_size)
        batch.set_batch_wait_timeout_s(args.batch_wait_timeout_s)

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def predict(self, place: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute embeddings (N, D) and logits (N, K) of the N photographs of one request, with the engine there."""
        classifier = await self._versions.get(place)
        result: tuple[np.ndarray, np.ndarray] = await self._gathered((classifier, pixels))
        return result

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _gathered(self, requests: list[tuple[Any, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        return await asyncio.to_thread(predict_batch, requests)


def predict_batch(requests: Sequence[tuple[Any, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Answer several requests with one run of each classifier: one, or two while the engine changes."""
    answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for classifier in dict.fromkeys(classifier for classifier, _ in requests):
        pixels = {number: each for number, (own, each) in enumerate(requests) if own is classifier}
        embeddings, logits = classifier.predict(np.concatenate(list(pixels.values())))
        ends = np.cumsum([len(each) for each in pixels.values()])[:-1]
        answers |= zip(pixels, zip(np.split(embeddings, ends), np.split(logits, ends), strict=True), strict=True)
    return [answers[number] for number in range(len(requests))]
