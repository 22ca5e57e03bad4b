"""The network: a backbone, which computes embeddings, and a head, which computes a logit per class from them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save
from torch import Tensor, nn

from aitax_ray.training.backbones import build_backbone, main_output
from aitax_ray.training.transforms import EvalTransform

HeadKind = Literal["linear", "prototype"]


class ClassifierInfo(BaseModel):
    """The description of the weights, which is needed to use them: `classifier.json`."""

    model_config = ConfigDict(frozen=True)

    arch: str
    head: HeadKind = "linear"
    classes: list[str]
    """The species keys in the order of `class_index`."""
    embedding_size: int
    transform: EvalTransform
    epoch: int
    """The epoch after which these weights were stored, from 1; 0 if the backbone is that of the start weights."""
    adjustment: float = 0.0
    """Strength of the logit adjustment that the head's bias contains, see long_tail.py."""
    versions: dict[str, str]


class PrototypeHead(nn.Module):
    """Logits from the cosine between the embedding and a prototype of each class.

    weight (K, D) holds the prototypes, center (D) is subtracted from embeddings of unit length, bias is (K), scale ().
    """

    def __init__(self, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.functional.normalize(torch.randn(num_classes, embedding_size)))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.center: Tensor
        self.register_buffer("center", torch.zeros(embedding_size))

    def forward(self, embedding: Tensor) -> Tensor:
        """Map embeddings (N, D) of any length to logits (N, K)."""
        unit = nn.functional.normalize(nn.functional.normalize(embedding) - self.center)
        return self.scale * (unit @ nn.functional.normalize(self.weight).T) + self.bias


Head = nn.Linear | PrototypeHead
HEADS: Mapping[HeadKind, type[Head]] = {"linear": nn.Linear, "prototype": PrototypeHead}


def add_rows(head: Head, weight: np.ndarray, bias: np.ndarray) -> None:
    """Add rows for further classes to a head: weight (M, D), of unit length for prototypes, and bias (M,)."""
    head.weight = nn.Parameter(torch.cat([head.weight.detach(), torch.from_numpy(weight)]))
    head.bias = nn.Parameter(torch.cat([head.bias.detach(), torch.from_numpy(bias)]))
    if isinstance(head, nn.Linear):
        head.out_features = len(head.weight)


class Classifier(nn.Module):
    """`backbone` computes the embedding, `head` the logits."""

    def __init__(self, backbone: nn.Module, embedding_size: int, num_classes: int, head: HeadKind = "linear") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = HEADS[head](embedding_size, num_classes)
        self.embedding_size = embedding_size

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalized pixels (N, 3, H, W) to embeddings (N, D) and logits (N, K)."""
        embedding = main_output(self.backbone(pixels))
        return embedding, self.head(embedding)


def build_classifier(arch: str, num_classes: int, crop_size: int, head: HeadKind = "linear") -> Classifier:
    """Build an architecture for `num_classes` classes and photographs of `crop_size` px, with random weights.

    Raises ArchitectureError when the architecture is not known or does not take the size.
    """
    backbone, embedding_size = build_backbone(arch, crop_size)
    return Classifier(backbone, embedding_size, num_classes, head)


def serialize(info: ClassifierInfo, classifier: Classifier) -> bytes:
    """Write the weights as safetensors, with their description as metadata."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    return save(weights, metadata={"classifier": info.model_dump_json()})


def load_classifier(info: ClassifierInfo, state: Mapping[str, Tensor]) -> Classifier:
    """Rebuild a trained classifier from its description and its weights, in evaluation mode."""
    classifier = build_classifier(info.arch, len(info.classes), info.transform.crop_size, info.head)
    classifier.load_state_dict(state)
    return classifier.eval()
