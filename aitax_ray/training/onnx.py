"""The trained classifier as ONNX, with the outputs `embedding` and `logits`, for services without torch."""

import logging
import tempfile
import warnings
from pathlib import Path

import torch

from aitax_ray.training.model import Classifier, ClassifierInfo


def export_onnx(info: ClassifierInfo, classifier: Classifier) -> bytes:
    """Export to ONNX: input `pixels` float32 (N, 3, H, W), outputs `embedding` (N, D) and `logits` (N, K); any N."""
    size = info.transform.crop_size
    # Two and not one: a dimension of one would be taken for a constant.
    example = torch.zeros(2, 3, size, size)
    for name in ("onnx_ir", "onnxscript"):  # they tell each of their passes
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says of its own future
        target = Path(folder) / "classifier.onnx"
        torch.onnx.export(
            classifier.eval(),
            (example,),
            target,
            input_names=["pixels"],
            output_names=["embedding", "logits"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        return target.read_bytes()
