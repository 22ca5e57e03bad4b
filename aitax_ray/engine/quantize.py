"""Quantizes an exported classifier to 8-bit integers, and measures the change of accuracy and time.

`static` computes the scale of activations once, from their smallest and largest values on training photographs. It
quantizes all operators. `dynamic` computes the scale again for each batch. It quantizes only matrix products, because
onnxruntime has no fast convolution for dynamic scales. Weights are int8 with a scale per channel.

docs/engine.md has the measurements that led to these choices. Ranges by entropy or percentiles take longer, need
gigabytes of memory and are not better. One scale for all channels is much worse.
"""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.training.onnx_classifier import OnnxClassifier

log = logging.getLogger(__name__)

Quantization = Literal["static", "dynamic"]
Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # pixels uint8 (N, H, W, 3) and class_index (N,)

NUM_CALIBRATION_IMAGES = 128  # of the train side; 32 or 512 give about the same accuracy
NUM_MEASURED_IMAGES = 2048  # of the test side, and of the val side for the temperature


def choose_quantization(model: bytes) -> Quantization:
    """Choose `dynamic` where matrix products outnumber convolutions, as in transformers and ConvNeXt, else `static`."""
    import onnx

    types = [node.op_type for node in onnx.load_from_string(model).graph.node]
    return "dynamic" if types.count("MatMul") + types.count("Gemm") > types.count("Conv") else "static"


def quantize(model: bytes, quantization: Quantization, photographs: Batches) -> bytes:
    """Quantize an ONNX file; `static` calibrates on the photographs."""
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    weights: dict[str, Any] = {"per_channel": True, "weight_type": ort.QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder, _quiet_root_logger():
        source, prepared, target = (Path(folder) / name for name in ("model.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if quantization == "dynamic":
            ort.quantize_dynamic(prepared, target, op_types_to_quantize=["MatMul", "Gemm"], **weights)
        else:  # the defaults are the QDQ format, and ranges from the smallest to the largest value
            ort.quantize_static(prepared, target, _reader(photographs), activation_type=ort.QuantType.QUInt8, **weights)
        return target.read_bytes()


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Drop messages of the root logger itself: onnxruntime's quantizer logs a warning there for each layer norm."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logging.root.addFilter(drop)
    try:
        yield
    finally:
        logging.root.removeFilter(drop)


def _reader(photographs: Batches) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """Gives onnxruntime one batch after the other."""

        def __init__(self) -> None:
            self._batches = iter(photographs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"pixels": batch[0]}

    return Reader()


def measure(unquantized: OnnxClassifier, quantized: OnnxClassifier, photographs: Batches) -> dict[str, float]:
    """Run both classifiers in turns on the same batches, and return figures.

    Times are in ms per photograph: the median over the batches, with as many threads as onnxruntime uses by default.
    """
    hits, other_hits, same, num, cosines = 0, 0, 0, 0, 0.0
    times, other_times = [], []
    for pixels, target in photographs:
        embedding, best, ms = _predict_timed(unquantized, pixels)
        other_embedding, other_best, other_ms = _predict_timed(quantized, pixels)
        times.append(ms)
        other_times.append(other_ms)
        hits += int((best == target).sum())
        other_hits += int((other_best == target).sum())
        same += int((best == other_best).sum())
        cosines += float((embedding * other_embedding).sum())
        num += len(pixels)
    return {
        "quantization_images": num,
        "float32_top1": hits / num,
        "int8_top1": other_hits / num,
        "quantization_loss": (hits - other_hits) / num,
        "int8_same_top1": same / num,
        "int8_embedding_cosine": cosines / num,
        "float32_ms_per_image": float(np.median(times)),
        "int8_ms_per_image": float(np.median(other_times)),
    }


def _predict_timed(classifier: OnnxClassifier, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Give the embeddings (N, D), the best class of each photograph (N,), and the ms per photograph."""
    begin = time.perf_counter()
    embedding, logits = classifier.predict(pixels)
    return embedding, logits.argmax(axis=1), 1000 * (time.perf_counter() - begin) / len(pixels)


def fit_temperature(classifier: OnnxClassifier, photographs: Batches) -> float:
    """Fit the temperature of a classifier without the vote of neighbours; 1 without photographs."""
    from aitax_ray.evaluation.calibration import TEMPERATURES, at_temperatures, best_temperature

    nll = [at_temperatures(classifier.predict(pixels)[1], target) for pixels, target in photographs]
    return float(TEMPERATURES[best_temperature(np.concatenate(nll))]) if nll else 1.0


def check_loss(figures: dict[str, float], max_loss: float) -> None:
    """Raise EngineError when the loss of top-1 is above `max_loss`. Warn when int8 is slower than float32."""
    loss, num = figures["quantization_loss"], int(figures["quantization_images"])
    faster = figures["float32_ms_per_image"] / figures["int8_ms_per_image"]
    log.info(
        "int8 on %s test photographs: top-1 %.3f instead of %.3f, %.1f ms per photograph instead of %.1f",
        f"{num:,}", figures["int8_top1"], figures["float32_top1"], figures["int8_ms_per_image"],
        figures["float32_ms_per_image"],
    )  # fmt: skip
    if not loss <= max_loss:
        raise EngineError(
            f"--quantize int8 lowers top-1 by {loss:.4f} on {num:,} test photographs, and {max_loss} is allowed: "
            "try another --quantization, publish with --quantize none, or raise --max-quantization-loss"
        )
    if faster < 1:
        log.warning("int8 is slower than float32 on this machine: it has %.2f times the speed", faster)
