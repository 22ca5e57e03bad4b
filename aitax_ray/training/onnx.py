"""The trained classifier as ONNX, with the outputs `embedding` and `logits`, for services without torch."""

import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import torch

from aitax_ray.training.model import Classifier, ClassifierInfo


def export_onnx(info: ClassifierInfo, classifier: Classifier) -> bytes:
    """Export to ONNX: input `pixels` float32 (N, 3, H, W), outputs `embedding` (N, D) and `logits` (N, K); any N."""
    size = info.transform.crop_size
    # Two and not one: a dimension of one would be taken for a constant.
    example = torch.zeros(2, 3, size, size)
    for name in ("onnx_ir", "onnxscript"):  # they log each of their passes
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
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
        model = onnx.load(target)
    _remove_traces(model)
    return bytes(model.SerializeToString())


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they hold stack traces, and so paths of the machine that exported."""
    model.ClearField("metadata_props")
    graphs = [model.graph]
    for graph in graphs:
        nodes = [*graph.node, *(node for function in model.functions for node in function.node)]
        for part in (graph, *nodes, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        graphs += [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
