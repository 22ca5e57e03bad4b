"""The classifier of an engine: ONNX on onnxruntime, without torch."""

import numpy as np

from aitax_ray.training.transforms import EvalTransform


class OnnxClassifier:
    """The classifier on onnxruntime."""

    def __init__(self, model: bytes, transform: EvalTransform, num_threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if num_threads:
            options.intra_op_num_threads = num_threads
        preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        self._transform = transform

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map pixels uint8 (N, H, W, 3) to embeddings of unit length (N, D) and logits (N, K), both float32."""
        inputs = {"pixels": self._transform.normalize(pixels)}
        embedding, logits = self._session.run(["embedding", "logits"], inputs)
        return embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12), logits
