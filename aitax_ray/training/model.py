"""The network: any classification architecture of torchvision, its last linear layer replaced for our classes."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
import torchvision
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from aitax_ray.errors import ArchitectureError
from aitax_ray.settings import flag
from aitax_ray.training.transforms import EvalTransform


class ClassifierInfo(BaseModel):
    """What is needed to use the weights: `classifier.json`."""

    model_config = ConfigDict(frozen=True)

    arch: str
    classes: list[str]
    """The species keys in the order of `class_index`."""
    embedding_size: int
    transform: EvalTransform
    epoch: int
    """The epoch of these weights, from 1."""
    versions: dict[str, str]


class Classifier(nn.Module):
    """`backbone` computes the embedding, `head` the logits."""

    def __init__(self, backbone: nn.Module, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(embedding_size, num_classes)
        self.embedding_size = embedding_size

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalized pixels (N, 3, H, W) to embeddings (N, D) and logits (N, K)."""
        embedding = _main_output(self.backbone(pixels))
        return embedding, self.head(embedding)


def known_architectures() -> list[str]:
    """List torchvision's classification architectures."""
    return cast(list[str], torchvision.models.list_models(module=torchvision.models))


def check_arch(arch: str) -> str:
    """Return the name, or raise ArchitectureError with the nearest known ones."""
    known = known_architectures()
    if arch not in known:
        near = difflib.get_close_matches(arch, known, n=4, cutoff=0.4) or ["convnext_tiny", "resnet18"]
        raise ArchitectureError(
            f"{flag('arch')} {arch} is not one of torchvision's {len(known)}: did you mean {', '.join(near)}?"
        )
    return arch


def transform_for(arch: str, crop_size: int | None) -> EvalTransform:
    """Make the transform of the architecture's published weights, scaled to `crop_size` if that is given."""
    preset = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    crop, resize = int(preset.crop_size[0]), int(preset.resize_size[0])
    size = crop_size or crop
    interpolation: Literal["bicubic", "bilinear"] = "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    return EvalTransform(
        crop_size=size,
        resize_size=round(size * resize / crop),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=interpolation,
    )


def build_classifier(arch: str, num_classes: int, crop_size: int, pretrained: bool = False) -> Classifier:
    """Build an architecture for `num_classes` classes and photographs of `crop_size` px.

    One image is run through the network to find the linear layer (or convolution) that is called last. An identity
    replaces it, so the network returns the vector before the head: the embedding. Parts that do not contribute to the
    embedding (auxiliary heads) are removed: distributed training waits for the gradient of every parameter.

    Raises ArchitectureError when the weights cannot be fetched or the architecture does not take the size.
    """
    try:
        network = torchvision.models.get_model(check_arch(arch), weights="DEFAULT" if pretrained else None)
    except OSError as error:
        raise ArchitectureError(
            f"the weights of {arch} cannot be fetched ({error}): put the file into {torch.hub.get_dir()}/checkpoints, "
            "or train from scratch with --no-pretrained"
        ) from error
    if hasattr(network, "transform_input"):
        # Inception's own normalization. torchvision turns it on for its own weights only, and no state records it.
        network.transform_input = True
    image = torch.zeros(1, 3, crop_size, crop_size)
    try:
        network.set_submodule(_name_of_head(network, image), nn.Identity())
        embedding = _main_output(network.eval()(image))
        embedding.sum().backward()
    except (RuntimeError, ValueError, AssertionError) as error:
        preset = transform_for(arch, None).crop_size
        raise ArchitectureError(
            f"{arch} does not take photographs of {crop_size} px ({' '.join(str(error).split())[:120]}): "
            f"try --crop-size {preset}"
        ) from error
    for name, part in list(network.named_children()):
        if any(True for _ in part.parameters()) and all(p.grad is None for p in part.parameters()):
            setattr(network, name, None)
    network.zero_grad(set_to_none=True)
    return Classifier(network.train(), embedding.shape[1], num_classes)


def load_classifier(info: ClassifierInfo, state: Mapping[str, Tensor]) -> Classifier:
    """Rebuild a trained classifier from its description and its weights, ready for inference."""
    classifier = build_classifier(info.arch, len(info.classes), info.transform.crop_size)
    classifier.load_state_dict(state)
    return classifier.eval()


def _name_of_head(network: nn.Module, image: Tensor) -> str:
    called: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return called[-1]


def _main_output(output: Any) -> Tensor:
    """Take the main output: networks with auxiliary heads return a tuple in training, with the main output first."""
    return cast(Tensor, output if isinstance(output, Tensor) else output[0])
