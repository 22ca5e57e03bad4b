"""Exports the trained classifier to ONNX, for services without torch. The inputs and outputs of the file:

    input   pixels      uint8 (N, H, W, 3): RGB, resized and cropped as EvalTransform.pixels does it
    output  embedding   float32 (N, D), of unit length, as the index holds it
    output  logits      float32 (N, K)

The file itself normalizes the pixels. So every program does it in the same way as training.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from aitax_ray.errors import ArchitectureError
from aitax_ray.training.transforms import EvalTransform

EMBEDDING, RAW_EMBEDDING = "embedding", "raw_embedding"


class _Served(nn.Module):
    """A classifier, with the normalization of the pixels before it and that of the embedding after it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: nn.Module, transform: EvalTransform, unit_length: bool) -> None:
        super().__init__()
        self.classifier, self.unit_length = classifier, unit_length
        # Three numbers per pixel would make an inner loop of three steps, which takes ten times as long. So the numbers
        # are repeated for a row of pixels.
        std = torch.tensor(transform.std).repeat(transform.crop_size)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", torch.tensor(transform.mean).repeat(transform.crop_size) / std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels uint8 (N, H, W, 3) to embeddings (N, D) and logits (N, K)."""
        normalized = pixels.flatten(2).float() * self.scale - self.shift
        embedding, logits = self.classifier(normalized.reshape(pixels.shape).permute(0, 3, 1, 2))
        return nn.functional.normalize(embedding) if self.unit_length else embedding, logits


def export_onnx(classifier: nn.Module, transform: EvalTransform, unit_length: bool = True) -> bytes:
    """Export to ONNX, for any number of photographs.

    `classifier` maps normalized pixels float32 (N, 3, H, W) to embeddings (N, D) and logits (N, K). Without
    `unit_length` the embeddings are not normalized, as the training of a head needs them.

    Raises ArchitectureError when the exporter cannot translate the architecture.
    """
    served = _Served(classifier, transform, unit_length).eval()
    try:
        # Activations in place can cost the exporter a third of its time: it has to derive what they do.
        with _without(served, "inplace"):
            try:
                model = _export(served, transform.crop_size)
            except torch.onnx.OnnxExporterError:
                # It knows torch's fused attention for 4 axes only.
                with _without(served, "fused_attn"):
                    model = _export(served, transform.crop_size)
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ArchitectureError(
            f"this architecture cannot be exported to ONNX, which an engine needs ({reason}): take another --arch"
        ) from error
    _remove_traces(model)
    return bytes(model.SerializeToString())


def _export(served: _Served, crop_size: int) -> onnx.ModelProto:
    # Two photographs, because the exporter takes a dimension of 1 for a constant.
    example = torch.zeros(2, crop_size, crop_size, 3, dtype=torch.uint8)
    for name in ("onnx_ir", "onnxscript"):  # these packages log every pass
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        target = Path(folder) / "classifier.onnx"
        torch.onnx.export(
            served,
            (example,),
            target,
            input_names=["pixels"],
            output_names=[EMBEDDING, "logits"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        return onnx.load(target)


@contextlib.contextmanager
def _without(network: nn.Module, switch: str) -> Iterator[None]:
    """Turn off a switch of the layers that have it."""
    layers = [module for module in network.modules() if getattr(module, switch, False)]
    for layer in layers:
        setattr(layer, switch, False)
    try:
        yield
    finally:
        for layer in layers:
            setattr(layer, switch, True)


def with_head(model: bytes, head: nn.Linear) -> bytes:
    """Put another head into an export without `unit_length`, and give its embeddings unit length.

    So a head that was trained on the embeddings of this file needs no second export, which takes seconds. Raises
    KeyError when the head in the file is not linear.
    """
    loaded = onnx.load_model_from_string(model)
    graph = loaded.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    for name, parameter in head.named_parameters():
        stored = initializers[f"classifier.head.{name}"]
        stored.CopyFrom(onnx.numpy_helper.from_array(parameter.detach().cpu().numpy(), stored.name))
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == EMBEDDING:
                    names[place] = RAW_EMBEDDING
    graph.node.append(onnx.helper.make_node("LpNormalization", [RAW_EMBEDDING], [EMBEDDING], axis=1, p=2))
    return bytes(loaded.SerializeToString())


def _remove_traces(model: onnx.ModelProto) -> None:
    """Remove the notes of the exporter. They contain stack traces with paths of this machine."""
    model.ClearField("metadata_props")
    graphs = [model.graph]
    for graph in graphs:
        nodes = [*graph.node, *(node for function in model.functions for node in function.node)]
        for part in (graph, *nodes, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        graphs += [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
