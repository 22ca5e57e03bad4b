"""Runs a classifier in ONNX format on onnxruntime, without torch. On CPUs it is several times faster than torch."""

from collections.abc import Sequence

import numpy as np

# Batch size on a CPU. The layers of 4 photographs of 224 px fit into its cache. Batches of 8 are up to 16 % slower.
PROCESSOR_BATCH = 4


class OnnxClassifier:
    """The classifier on onnxruntime: on a GPU if onnxruntime supports it, else on the CPU."""

    def __init__(self, model: bytes, num_threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if num_threads:
            options.intra_op_num_threads = num_threads
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        self._batch = PROCESSOR_BATCH if providers == ["CPUExecutionProvider"] else None

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
