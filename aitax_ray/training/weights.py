"""Start weights: fetched from a hub, from an installed package, from a file, or from an earlier training.

Files are .safetensors, or pickles that torch reads with `weights_only=True`, so that a file cannot run code.
"""

import argparse
import contextlib
import inspect
import io
import json
import logging
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from aitax_ray import workspace
from aitax_ray.errors import ArchitectureError
from aitax_ray.storage import Storage
from aitax_ray.training.backbones import PACKAGED_ARCH, TIMM, build_backbone, check_arch, transform_for
from aitax_ray.training.model import Classifier, ClassifierInfo, HeadKind
from aitax_ray.training.packaged import PACKAGED
from aitax_ray.training.transforms import EvalTransform

State = dict[str, Tensor]

# CONTAINERS: keys under which training programs save the weights. PREFIXES: what they write before the name of each
# tensor. `visual.trunk.` is an image tower of timm in a model of open_clip, `visual.` any other image tower of
# open_clip, `module.` is DistributedDataParallel.
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module", "network", "teacher")
PREFIXES = ("module.", "_orig_mod.", "visual.trunk.", "visual.", "backbone.", "encoder.", "trunk.", "model.")
FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
MAX_HEADER = 100_000_000  # bytes: safetensors allows no longer one
FETCH_TIMEOUT_S = 60.0
MIN_SHARE = 0.5  # share of the backbone's tensors; a file with fewer of them is of another architecture

log = logging.getLogger(__name__)


@dataclass
class Fit:
    """Which tensors of a file fit a backbone. Each list has names of tensors."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Tensors of the backbone that the file lacks."""
    unexpected: list[str] = field(default_factory=list)
    """Tensors of the file that the backbone does not have, such as a classifier."""
    of_another_shape: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Give the counts, and examples of tensors that do not fit."""
        parts = [f"{len(self.loaded)} tensors loaded"]
        for names, what in (
            (self.missing, "missing"),
            (self.of_another_shape, "of another shape"),
            (self.unexpected, "left out"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return "; ".join(parts)


def start_classifier(
    arch: str, classes: list[str], crop_size: int, head: HeadKind, pretrained: bool, weights: str | None
) -> Classifier:
    """Build the classifier that training starts from, with the weights that the settings name.

    `weights` has precedence over `pretrained`. The head starts from random numbers, except for species that were in the
    earlier training in `weights`. Raises ArchitectureError when weights cannot be fetched or do not fit.
    """
    check_arch(arch)
    hub = pretrained and weights is None and arch not in PACKAGED
    backbone, embedding_size = _fetched(arch, crop_size) if hub else build_backbone(arch, crop_size)
    classifier = Classifier(backbone, embedding_size, len(classes), head)
    if weights is not None:
        storage, path, info = _find_weights(weights, arch)
        state = read_state(storage.read_bytes(path), path)
        if info is None:
            load_backbone(classifier.backbone, state, weights)
        else:
            _take_model(classifier, info, state, head, classes, weights)
    elif pretrained and arch in PACKAGED:
        file = PACKAGED[arch].path()
        load_backbone(classifier.backbone, read_state(file.read_bytes(), file.name), file.name)
    return classifier


def start_transform(arch: str, crop_size: int | None, weights: str | None) -> EvalTransform:
    """Make the transform of the weights that training starts from, scaled to `crop_size` if that is given.

    That of an earlier training is its own, that of other files is that of the architecture's published weights. Raises
    ArchitectureError as start_classifier does.
    """
    info = None if weights is None else _find_weights(weights, arch)[2]
    return (transform_for(arch, None) if info is None else info.transform).scaled_to(crop_size)


def _fetched(arch: str, crop_size: int) -> tuple[nn.Module, int]:
    with torch.device("meta"):  # without numbers, to see whether the size fits before anything is fetched
        build_backbone(arch, crop_size)
    try:
        with _socket_timeout(FETCH_TIMEOUT_S):
            return build_backbone(arch, crop_size, pretrained=True)
    except Exception as error:  # hubs raise errors of several HTTP libraries
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        own = f"--weights FILE, or --arch {PACKAGED_ARCH}, whose weights are installed"
        if isinstance(error, RuntimeError) and "No pretrained weights" in str(error):
            raise ArchitectureError(
                f"there are no published weights of {arch}: use {own}, or --no-pretrained"
            ) from error
        hub = "Hugging Face's hub" if arch.startswith(TIMM) else "download.pytorch.org"
        raise ArchitectureError(
            f"the weights of {arch} cannot be fetched from {hub} ({reason}): use {own}, "
            "or train from scratch with --no-pretrained"
        ) from error


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set a timeout for all sockets, because torch.hub has none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_state(content: bytes, name: str) -> State:
    """Read the tensors of a file by their names. Raises ArchitectureError when the file has none."""
    try:
        if name.endswith(".safetensors"):
            return load_safetensors(content)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training program stores its flags
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds of errors for files of other formats
        if refused := re.search(r"Unsupported (?:global|class)\S* (?:GLOBAL )?(\S+)", str(error)):
            raise ArchitectureError(
                f"{name} holds more than tensors ({refused[1]}), and so may run code: save its state dict alone"
            ) from error
        raise ArchitectureError(
            f"{name} cannot be read as weights ({' '.join(str(error).split())[:150]}): "
            "give a .safetensors file, or a state dict that torch.save wrote"
        ) from error
    state = _find_state(loaded)
    if state is None:
        raise ArchitectureError(f"{name} holds no tensors: give a state dict")
    return state


def _find_state(loaded: Any) -> State | None:
    """Find the state dict in what a training program saved."""
    if not isinstance(loaded, Mapping):
        return None
    for container in CONTAINERS:
        if isinstance(loaded.get(container), Mapping) and (inner := _find_state(loaded[container])):
            return inner
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)} or None


def load_backbone(backbone: nn.Module, state: State, source: str) -> Fit:
    """Load the tensors that fit, and log those that do not.

    Raises ArchitectureError when less than half of the backbone's tensors are in the file.
    """
    own = backbone.state_dict()
    found = max(_spellings(backbone, state), key=lambda spelled: len(_fitting(own, spelled)))
    fitting = _fitting(own, found)
    fit = Fit(
        loaded=list(fitting),
        missing=[name for name in own if name not in found and not _is_counter(name)],
        unexpected=[name for name in found if name not in own],
        of_another_shape=[name for name in found if name in own and name not in fitting],
    )
    counted = [name for name in own if not _is_counter(name)]
    share = sum(name in fitting for name in counted) / max(len(counted), 1)
    if share < MIN_SHARE:
        raise ArchitectureError(
            f"the weights in {source} are not those of --arch: they have {share:.0%} of its tensors ({fit})"
        )
    backbone.load_state_dict(fitting, strict=False)
    log.info("weights of %s: %s", source, fit)
    return fit


def _is_counter(name: str) -> bool:
    """Whether a tensor is the count of batches of a normalization. Many files do not have these counts."""
    return name.endswith("num_batches_tracked")


def _fitting(own: State, state: State) -> State:
    return {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}


def _spellings(backbone: nn.Module, state: State) -> Iterator[State]:
    """Yield the state with each set of names that may fit the backbone, with and without timm's translation."""
    for names in _without_prefixes(state):
        yield names
        if (translated := _translated(backbone, names)) is not None:
            yield translated
    in_order = _in_order(backbone.state_dict(), state)
    if in_order is not None:
        yield in_order


def _without_prefixes(state: State) -> Iterator[State]:
    """Yield the state, and then again without each of PREFIXES and of their combinations."""
    yield state
    for prefix in PREFIXES:
        if inner := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            yield from _without_prefixes(inner)


def _translated(backbone: nn.Module, state: State) -> State | None:
    """Let timm translate the names that other programs use; None if it cannot for this architecture."""
    translate = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return None
    with contextlib.suppress(Exception):  # it raises many kinds of errors for names that it does not expect
        given = (dict(state), backbone)[: len(inspect.signature(translate).parameters)]
        translated = translate(*given)
        return {str(name): value for name, value in translated.items() if isinstance(value, Tensor)}
    return None


def _in_order(own: State, state: State) -> State | None:
    """Give the tensors the names of the backbone's, one after the other.

    All their shapes must agree, and the last parts of their names: weight, bias and the statistics of a normalization
    have one shape, and .safetensors files hold them in the order of their names. The file may have more tensors at its
    end: its classifier.
    """
    names = [name for name in own if not _is_counter(name)]
    values = {name: value for name, value in state.items() if not _is_counter(name)}
    if len(values) < len(names):
        return None
    pairs = list(zip(names, values, strict=False))
    if any(own[n].shape != values[v].shape or _last_part(n) != _last_part(v) for n, v in pairs):
        return None
    return {n: values[v] for n, v in pairs}


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _find_weights(location: str, arch: str) -> tuple[Storage, str, ClassifierInfo | None]:
    """Find a file, or what `aitax train` wrote into ROOT/model, also by ROOT; None for a file that is not ours.

    Our own files describe themselves, also the classifier.safetensors of an engine. Raises ArchitectureError when there
    are no weights, or when ours are of another architecture.
    """
    folder, slash, name = location.rpartition("/")
    if Path(name).suffix in FILES:
        storage = Storage(folder or slash or ".")
        info = _read_description(storage, name) if name.endswith(".safetensors") else None
    else:
        for root in (location.rstrip("/").removesuffix("/model"), location):
            storage, name = Storage(root), workspace.WEIGHTS
            if storage.exists(workspace.CLASSIFIER):
                info = ClassifierInfo.model_validate(storage.read_json(workspace.CLASSIFIER))
                break
        else:
            raise ArchitectureError(
                f"no weights in {location}: give a file ({', '.join(FILES)}), or ROOT/model of a complete `aitax train`"
            )
    if info is not None and info.arch != arch:
        raise ArchitectureError(f"the weights in {location} are those of {info.arch}: add --arch {info.arch}")
    return storage, name, info


def _read_description(storage: Storage, path: str) -> ClassifierInfo | None:
    """Read the description in the header of a .safetensors file; None when the file has none."""
    with contextlib.suppress(OSError, ValueError), storage.fs.open_input_stream(storage.full(path)) as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, MAX_HEADER)))
        described = header.get("__metadata__", {}).get("classifier")
        return None if described is None else ClassifierInfo.model_validate_json(described)
    return None


def _take_model(
    classifier: Classifier, info: ClassifierInfo, state: State, head: HeadKind, classes: list[str], source: str
) -> None:
    """Copy the backbone of an earlier training, and for species that both have the rows of a head of the same kind."""
    prefix = "backbone."
    load_backbone(
        classifier.backbone, {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}, source
    )
    place = {key: row for row, key in enumerate(info.classes)}
    known = [(new, place[key]) for new, key in enumerate(classes) if key in place and info.head == head]
    if known:
        new, old = (list(rows) for rows in zip(*known, strict=True))
        for name, tensor in classifier.head.state_dict().items():
            if name in ("weight", "bias"):
                tensor[new] = state[f"head.{name}"][old]
            else:
                tensor.copy_(state[f"head.{name}"])
    log.info("%d of %d species start from %s", len(known), len(classes), source)
