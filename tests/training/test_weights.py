import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from aitax_ray.errors import ArchitectureError
from aitax_ray.training.backbones import build_backbone
from aitax_ray.training.model import Classifier
from aitax_ray.training.packaged import PACKAGED
from aitax_ray.training.weights import load_backbone, read_state, start_classifier, start_transform
from aitax_ray.workspace import WEIGHTS, Workspace
from tests.small import ARCH, CROP, KEYS, one_thread, write_model, write_root

PIXELS = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def start(
    arch: str, weights: str | None = None, *, classes: tuple[str, ...] = ("a", "b"), **changes: Any
) -> Classifier:
    given = {"crop_size": 64, "head": "linear", "pretrained": False, **changes}
    return start_classifier(arch, list(classes), weights=weights, **given)


def embed(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        output = network.eval()(PIXELS)
    return output if isinstance(output, torch.Tensor) else output[0]


def saved(folder: Path, state: Any, name: str = "weights.pth") -> str:
    path = folder / name
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return str(path)


def test_each_packaged_tensor_has_its_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    arch = "timm/tf_efficientnet_lite0"
    ours = start(arch, pretrained=True).backbone.state_dict()
    theirs = read_state(PACKAGED[arch].path().read_bytes(), "weights.pth")
    assert "245 tensors loaded\n" in caplog.text
    loaded = [tensor for name, tensor in ours.items() if "num_batches" not in name]
    packaged = [tensor for name, tensor in theirs.items() if "num_batches" not in name]
    assert [tensor.shape for tensor in packaged[len(loaded) :]] == [(1000, 1280), (1000,)]  # the classifier
    assert all(map(torch.equal, loaded, packaged))


@pytest.mark.parametrize(
    ("arch", "theirs", "name"),
    [
        ("resnet18", lambda: torchvision.models.resnet18(num_classes=5), "weights.pth"),
        ("timm/resnet10t", lambda: timm.create_model("resnet10t", num_classes=5), "weights.safetensors"),
        ("timm/convnext_atto", lambda: timm.create_model("convnext_atto", num_classes=5), "weights.pt"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "visual.trunk."])
def test_a_file_is_loaded_whatever_stands_before_its_names(
    tmp_path: Path, arch: str, theirs: Any, name: str, prefix: str
) -> None:
    network = theirs()
    state = {prefix + key: value for key, value in network.state_dict().items()}
    loaded = start(arch, saved(tmp_path, state, name))
    if arch == "resnet18":
        network.fc = nn.Identity()
    else:
        network.reset_classifier(0)
    torch.testing.assert_close(embed(loaded.backbone), embed(network))


@pytest.mark.parametrize("container", ["state_dict", "model", "state_dict_ema", "teacher"])
def test_the_state_is_found_in_what_training_programs_save(tmp_path: Path, container: str) -> None:
    network = torchvision.models.resnet18()
    content = {container: network.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    file = saved(tmp_path, content, "model_best.pth.tar")
    network.fc = nn.Identity()
    torch.testing.assert_close(embed(start("resnet18", file).backbone), embed(network))


def test_a_tower_of_open_clip_is_translated_by_timm(tmp_path: Path) -> None:
    """OpenAI's layout, which open_clip kept: one matrix for q, k and v, `resblocks`, `ln_pre`."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, pre_norm=True)
    width, state = 192, {}
    for name, value in network.state_dict().items():
        for ours, theirs in (
            ("blocks.", "transformer.resblocks."),
            ("attn.qkv.", "attn.in_proj_"),
            ("attn.proj.", "attn.out_proj."),
            ("norm1", "ln_1"),
            ("norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("norm_pre.", "ln_pre."),
            ("patch_embed.proj", "conv1"),
        ):
            name = name.replace(ours, theirs)
        name = {"cls_token": "class_embedding", "pos_embed": "positional_embedding"}.get(name, name)
        if name.startswith("norm."):
            name = name.replace("norm.", "ln_post.")
        state[f"visual.{name}"] = value.reshape(-1, width) if name == "positional_embedding" else value
    state["visual.class_embedding"] = state["visual.class_embedding"].reshape(width)
    state["visual.proj"] = torch.randn(width, 64)
    state["text.token_embedding.weight"] = torch.randn(10, 64)
    other = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, pre_norm=True)
    fit = load_backbone(other, state, "clip.pt")
    assert not fit.missing
    torch.testing.assert_close(embed(other), embed(network))


def test_tensors_without_known_names_are_taken_in_their_order() -> None:
    backbone, _ = build_backbone("timm/resnet10t", 64)
    other, _ = build_backbone("timm/resnet10t", 64)
    tensors = [value for name, value in other.state_dict().items() if "num_batches" not in name]
    parts = [name.rpartition(".")[2] for name in other.state_dict() if "num_batches" not in name]
    names = [f"layer{n:03}.{part}" for n, part in enumerate(parts)]
    load_backbone(backbone, dict(zip(names, tensors, strict=True)), "file")
    torch.testing.assert_close(embed(backbone), embed(other))


def test_tensors_in_the_order_of_their_names_are_not_taken_for_others_of_the_same_shape() -> None:
    """As a .safetensors file holds them: bias comes before weight, and both have one shape in a normalization."""
    norms = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    state = {f"layer{name}": value for name, value in sorted(norms.state_dict().items())}
    with pytest.raises(ArchitectureError, match="not those of --arch"):
        load_backbone(norms, state, "file")


def test_what_does_not_fit_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    state = torchvision.models.resnet18().state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    del state["bn1.weight"]
    start("resnet18", saved(tmp_path, state))
    assert "1 missing (bn1.weight)" in caplog.text
    assert "1 of another shape (conv1.weight)" in caplog.text
    assert "2 left out (fc.weight, fc.bias)" in caplog.text


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, torchvision.models.mobilenet_v3_small().state_dict())
    with pytest.raises(ArchitectureError, match=r"weights\.pth are not those of --arch"):
        start("resnet18", file)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


@pytest.mark.parametrize(("content", "name"), [({"a": 1}, "w.pth"), ([1], "w.pt"), ({"model": Evil()}, "w.pth")])
def test_what_holds_no_tensors_or_runs_code_is_refused(
    tmp_path: Path, content: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArchitectureError, match=f"{name} (holds no tensors|holds more than tensors)"):
        read_state(Path(saved(tmp_path, content, name)).read_bytes(), name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "named"), [(nn.Linear(2, 2), "torch.nn.modules.linear.Linear"), ({"f1": np.float64(0.5)}, "scalar")]
)
def test_the_reason_is_named_when_a_file_holds_more_than_tensors(tmp_path: Path, content: Any, named: str) -> None:
    file = Path(saved(tmp_path, content))
    with pytest.raises(ArchitectureError, match=rf"w\.pth holds more than tensors \(.*{named}\).*state dict alone"):
        read_state(file.read_bytes(), "w.pth")


def test_garbage_is_refused() -> None:
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(ArchitectureError, match="cannot be read as weights"):
            read_state(b"garbage", name)


@pytest.mark.parametrize("arch", ["resnet18", "timm/resnet18"])
def test_an_unreachable_hub_names_the_way_out(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", unreachable)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", unreachable)
    way_out = r"cannot be fetched from .* \(Name or service not known\): use --weights FILE, or --arch timm/tf_eff"
    with pytest.raises(ArchitectureError, match=way_out):
        start(arch, pretrained=True)


@pytest.mark.parametrize("arch", ["vit_b_32", "timm/levit_128s"])
def test_a_wrong_size_is_found_before_weights_are_fetched(arch: str) -> None:
    with pytest.raises(ArchitectureError, match=f"{arch} does not take photographs of 100 px.*--crop-size 224"):
        start(arch, pretrained=True, crop_size=100)


def test_an_architecture_without_published_weights_says_so() -> None:
    with pytest.raises(ArchitectureError, match="there are no published weights of timm/seresnet18"):
        start("timm/seresnet18", pretrained=True)


@pytest.mark.parametrize("place", ["{root}", "{root}/model", "{root}/model/"])
def test_an_earlier_engine_gives_its_backbone_and_the_rows_of_the_species_that_both_know(
    tmp_path: Path, place: str
) -> None:
    ws = write_root(tmp_path)
    earlier = write_model(ws)
    new = start(ARCH, place.format(root=tmp_path), classes=("new", *reversed(KEYS)), crop_size=CROP)
    torch.testing.assert_close(embed(new.backbone), embed(earlier.backbone))
    assert torch.equal(new.head.weight[1:], earlier.head.weight.flip(0))
    assert torch.equal(new.head.bias[1:], earlier.head.bias.flip(0))
    assert not torch.equal(new.head.weight[0], new.head.weight[1])


def test_the_weights_of_an_engine_describe_themselves(tmp_path: Path) -> None:
    earlier = write_model(write_root(tmp_path))
    new = start(ARCH, str(tmp_path / WEIGHTS), classes=("new", *reversed(KEYS)), crop_size=CROP)
    torch.testing.assert_close(embed(new.backbone), embed(earlier.backbone))
    assert torch.equal(new.head.weight[1:], earlier.head.weight.flip(0))
    with pytest.raises(ArchitectureError, match=f"add --arch {ARCH}"):
        start("resnet18", str(tmp_path / WEIGHTS))


def test_a_head_of_another_kind_gives_no_rows(tmp_path: Path) -> None:
    earlier = write_model(write_root(tmp_path), head="prototype")
    torch.manual_seed(1)
    linear = start(ARCH, str(tmp_path), classes=tuple(KEYS), crop_size=CROP)
    torch.testing.assert_close(embed(linear.backbone), embed(earlier.backbone))
    assert not torch.equal(linear.head.weight, earlier.head.weight)


@pytest.mark.parametrize("place", ["", "/model", f"/{WEIGHTS}"])
def test_the_transform_is_that_of_an_earlier_engine(tmp_path: Path, place: str) -> None:
    write_model(write_root(tmp_path))
    transform = start_transform(ARCH, None, f"{tmp_path}{place}")
    assert transform.crop_size == CROP
    double = start_transform(ARCH, 2 * CROP, f"{tmp_path}{place}")
    assert (double.crop_size, double.resize_size) == (2 * CROP, 2 * transform.resize_size)


def test_an_earlier_engine_of_another_architecture_is_refused(tmp_path: Path) -> None:
    write_model(write_root(tmp_path))
    with pytest.raises(ArchitectureError, match=f"add --arch {ARCH}"):
        start("resnet18", str(tmp_path))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert not Workspace(str(tmp_path)).storage.exists("model")
    with pytest.raises(ArchitectureError, match=r"no weights in .*: give a file \(.safetensors"):
        start("resnet18", str(tmp_path))
