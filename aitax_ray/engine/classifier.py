"""The classifier of an engine: ONNX on onnxruntime, without torch."""

import numpy as np


class OnnxClassifier:
    """The classifier on onnxruntime."""

    def __init__(self, model: bytes, num_threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if num_threads:
            options.intra_op_num_threads = num_threads
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map pixels uint8 (N, H, W, 3) to embeddings of unit length (N, D) and logits (N, K), both float32."""
        embedding, logits = self._session.run(["embedding", "logits"], {"pixels": pixels})
        return embedding, logits
