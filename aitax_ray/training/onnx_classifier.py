"""Runs a classifier in ONNX format on onnxruntime, without torch. On CPUs it is several times faster than torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aitax_ray.errors import EngineError

# Batch size on a CPU. The layers of 4 photographs of 224 px fit into its cache. Batches of 8 are up to 16 % slower.
PROCESSOR_BATCH = 4

NO_CUDA = (
    "the onnxruntime here does not compute on GPUs: `pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`, "
    "or take --classifier-gpus 0"
)
# On a GPU as exact as on a CPU, and without a search for the fastest convolution at each new size of a batch.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
CPU = "CPUExecutionProvider"


class OnnxClassifier:
    """The classifier on onnxruntime. Raises EngineError when it shall compute on a GPU and onnxruntime cannot."""

    def __init__(self, model: bytes, num_threads: int | None = None, on_gpu: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if num_threads:
            options.intra_op_num_threads = num_threads
        providers: list[Any] = [CPU]
        if on_gpu:
            if CUDA[0] not in onnxruntime.get_available_providers():
                raise EngineError(NO_CUDA)
            onnxruntime.preload_dlls()  # those of CUDA, where torch has brought them
            providers = [CUDA, CPU]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        if on_gpu and CUDA[0] not in self._session.get_providers():  # it would go on with the CPU
            raise EngineError(f"onnxruntime finds no GPU, or no CUDA that it can use. {NO_CUDA}")
        self._batch = None if on_gpu else PROCESSOR_BATCH

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map pixels uint8 (N, H, W, 3) to embeddings (N, D) and logits (N, K), both float32."""
        embedding, logits = self.outputs(pixels, ("embedding", "logits"))
        return embedding, logits

    def outputs(self, pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        """Compute only the outputs with these names."""
        step = self._batch or max(1, len(pixels))
        parts = [
            self._session.run(list(names), {"pixels": pixels[at : at + step]})
            for at in range(0, max(1, len(pixels)), step)
        ]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]
