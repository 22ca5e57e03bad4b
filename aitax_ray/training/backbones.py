"""Backbones: networks of torchvision (by name) and of timm (`timm/NAME`), without their classifier.

A backbone maps normalized pixels (N, 3, H, W) to embeddings (N, D). To find its classifier and its unused parts, for
any architecture, it is run on one photograph of zeros, and the gradient is computed.
"""

import difflib
from typing import Any, Literal, cast

import timm
import torch
import torchvision
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from aitax_ray.errors import ArchitectureError
from aitax_ray.settings import flag
from aitax_ray.training.packaged import PACKAGED
from aitax_ray.training.transforms import EvalTransform

TIMM = "timm/"


def torchvision_architectures() -> list[str]:
    """List torchvision's classification architectures."""
    return cast(list[str], torchvision.models.list_models(module=torchvision.models))


def timm_architectures() -> list[str]:
    """List timm's architectures, each with `timm/` before its name."""
    return [TIMM + name for name in timm.list_models()]


def check_arch(arch: str) -> str:
    """Return the name. Raises ArchitectureError with the most similar names when it is not known.

    Names of timm may end in a dot and the tag of a set of weights, as in timm/convnext_tiny.in12k_ft_in1k.
    """
    name, dot, tag = arch.removeprefix(TIMM).partition(".")
    of_timm = arch.startswith(TIMM)
    known = timm_architectures() if of_timm else torchvision_architectures()
    if (TIMM + name if of_timm else arch) not in known:
        fallback = [PACKAGED_ARCH] if of_timm else ["convnext_tiny", "resnet18"]
        near = difflib.get_close_matches(arch, known, n=4, cutoff=0.4) or fallback
        where = f"timm's {len(known):,}" if of_timm else f"torchvision's {len(known)} (timm's are called timm/NAME)"
        raise ArchitectureError(f"{flag('arch')} {arch} is not one of {where}: did you mean {', '.join(near)}?")
    if dot and f"{name}.{tag}" not in (tagged := timm.list_pretrained(f"{name}.*")):
        raise ArchitectureError(
            f"{flag('arch')} {arch}: timm has {', '.join(TIMM + t for t in tagged) or 'no weights'}"
        )
    return arch


PACKAGED_ARCH = next(iter(PACKAGED))


def transform_for(arch: str, crop_size: int | None) -> EvalTransform:
    """Make the transform of the architecture's published weights, scaled to `crop_size` if that is given."""
    transform = _timm_transform(arch) if arch.startswith(TIMM) else _torchvision_transform(arch)
    return transform.scaled_to(crop_size)


def _torchvision_transform(arch: str) -> EvalTransform:
    preset = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    return EvalTransform(
        crop_size=int(preset.crop_size[0]),
        resize_size=int(preset.resize_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=_interpolation(preset.interpolation.value),
    )


def _timm_transform(arch: str) -> EvalTransform:
    config = resolve_data_config(pretrained_cfg=_timm_config(arch).to_dict())
    crop_size = max(config["input_size"][1:])
    mean_std = {"mean": config["mean"], "std": config["std"]}
    if arch in PACKAGED:
        mean_std = {"mean": PACKAGED[arch].mean, "std": PACKAGED[arch].std}
    return EvalTransform(
        crop_size=crop_size,
        resize_size=max(crop_size, int(crop_size / config["crop_pct"])),
        interpolation=_interpolation(config["interpolation"]),
        crop_mode=config["crop_mode"],
        **mean_std,
    )


def _timm_config(arch: str) -> Any:
    """Read timm's description of the weights of an architecture. Without a tag these are its first weights."""
    return timm.models.get_pretrained_cfg(arch.removeprefix(TIMM)) or timm.models.PretrainedCfg()


def _interpolation(name: str) -> Literal["bilinear", "bicubic"]:
    return "bicubic" if name == "bicubic" else "bilinear"


def build_backbone(arch: str, crop_size: int, pretrained: bool = False) -> tuple[nn.Module, int]:
    """Build a backbone for photographs of `crop_size` px. Returns it and the number of elements of an embedding.

    `pretrained` fetches published weights. Parts that do not contribute to the embedding, such as auxiliary heads, are
    removed: distributed training would wait for their gradients.

    Raises ArchitectureError when the architecture does not take the size. Errors of the download are raised unchanged.
    """
    check_arch(arch)
    try:
        build = _build_timm if arch.startswith(TIMM) else _build_torchvision
        network = build(arch, crop_size, pretrained)
        embedding = main_output(network.eval()(torch.zeros(1, 3, crop_size, crop_size)))
        if embedding.ndim != 2:
            raise ArchitectureError(f"{arch} gives no embedding: choose an architecture for classification")
        embedding.sum().backward()
    except (RuntimeError, ValueError, AssertionError) as error:
        if pretrained:
            raise
        preset = transform_for(arch, None).crop_size
        raise ArchitectureError(
            f"{arch} does not take photographs of {crop_size} px ({' '.join(str(error).split())[:120]}): "
            f"try --crop-size {preset}"
        ) from error
    _remove_unused_parts(network)
    network.zero_grad(set_to_none=True)
    return network.train(), embedding.shape[1]


def _build_timm(arch: str, crop_size: int, pretrained: bool) -> nn.Module:
    sized: dict[str, Any] = {"img_size": crop_size} if _timm_config(arch).fixed_input_size else {}
    return timm.create_model(arch.removeprefix(TIMM), pretrained=pretrained, num_classes=0, **sized)


def _build_torchvision(arch: str, crop_size: int, pretrained: bool) -> nn.Module:
    """Build a network of torchvision. The layer that is called last, its head, is replaced by an identity."""
    network: Any = torchvision.models.get_model(arch, weights="DEFAULT" if pretrained else None)
    if hasattr(network, "transform_input"):
        # Inception's own normalization. torchvision turns it on only with its own weights, and a state dict lacks it.
        network.transform_input = True
    network.set_submodule(_name_of_head(network, torch.zeros(1, 3, crop_size, crop_size)), nn.Identity())
    return cast(nn.Module, network)


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


def _remove_unused_parts(network: nn.Module) -> None:
    """Remove the parts without a gradient, and freeze single parameters without one."""
    for name, part in list(network.named_children()):
        if any(True for _ in part.parameters()) and all(p.grad is None for p in part.parameters()):
            setattr(network, name, None)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)


def main_output(output: Any) -> Tensor:
    """Take the main output, which is the first of the tuple that a network with auxiliary heads returns in training."""
    return cast(Tensor, output if isinstance(output, Tensor) else output[0])
