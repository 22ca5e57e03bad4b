"""The deployment that runs the network. The ingress joins the photographs of several requests to a batch."""

import asyncio
import time

import numpy as np

from aitax_ray.serving import metrics
from aitax_ray.serving.replica import equip
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions


class Classifier:
    """Runs the network, one batch after the other."""

    def __init__(self, args: ApplicationArgs) -> None:
        equip(args)
        num_threads, on_gpu = max(1, int(args.classifier_cpus)), args.classifier_gpus > 0
        self._versions = Versions(args.engine, lambda engine: engine.classifier(num_threads, on_gpu))
        self._turn = asyncio.Lock()  # batches at the same time would only take the cores from each other

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def predict(self, place: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Compute embeddings (N, D) and logits (N, K) of N photographs with the engine there, and the seconds taken."""
        classifier = await self._versions.get(place)
        async with self._turn:
            metrics.BATCH_PHOTOGRAPHS.record(len(pixels))
            begin = time.perf_counter()
            embeddings, logits = await asyncio.to_thread(classifier.predict, pixels)
            return embeddings, logits, time.perf_counter() - begin
