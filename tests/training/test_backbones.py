from collections.abc import Iterator

import pytest
import timm
import torch
import torchvision
from torch import nn

from aitax_ray.errors import ArchitectureError, SettingsError
from aitax_ray.training.backbones import (
    build_backbone,
    check_arch,
    timm_architectures,
    torchvision_architectures,
    transform_for,
)
from tests.small import one_thread

# A network of each family, and the side in px of about the smallest photograph that it takes.
FAMILIES = {
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 80,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
}
# Networks that are large or take only one size are built on torch's meta device, which has shapes but no numbers.
LARGE_FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "maxvit_t": 224,
    "swin_t": 32,
    "swin_v2_t": 64,
    "vgg11": 32,
    "vit_b_16": 224,
    "wide_resnet50_2": 32,
}

# Of timm, convolutional networks and transformers; among them towers of CLIP and SigLIP, DINOv2, DINOv3 and EVA-02.
TIMM_FAMILIES = {
    "timm/convnext_atto": 32,
    "timm/edgenext_xx_small": 32,
    "timm/eva02_tiny_patch14_224": 28,
    "timm/fastvit_t8": 64,
    "timm/ghostnet_100": 32,
    "timm/levit_128s": 224,
    "timm/mobilenetv4_conv_small_035": 32,
    "timm/resnet10t": 32,
    "timm/tf_efficientnet_lite0": 32,
    "timm/vit_tiny_patch16_224": 32,
}
LARGE_TIMM_FAMILIES = {
    "timm/swin_tiny_patch4_window7_224": 224,
    "timm/vit_base_patch16_clip_224": 224,
    "timm/vit_base_patch16_siglip_224": 224,
    "timm/vit_small_patch14_dinov2": 28,
    "timm/vit_small_patch16_dinov3": 32,
}

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def check_forward_and_backward(backbone: nn.Module, embedding_size: int, crop_size: int) -> None:
    output = backbone.train()(torch.randn(2, 3, crop_size, crop_size))
    embedding = output if isinstance(output, torch.Tensor) else output[0]
    assert embedding.shape == (2, embedding_size)
    embedding.sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad != (p.grad is not None)] == []
    learned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert learned > 0.98 * sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize(("arch", "crop_size"), (FAMILIES | TIMM_FAMILIES).items(), ids=FAMILIES | TIMM_FAMILIES)
def test_every_family_gives_an_embedding(arch: str, crop_size: int) -> None:
    backbone, embedding_size = build_backbone(arch, crop_size)
    assert backbone.training
    check_forward_and_backward(backbone, embedding_size, crop_size)
    with torch.no_grad():
        embedding = backbone.eval()(torch.randn(2, 3, crop_size, crop_size))
    assert not torch.equal(embedding[0], embedding[1])


@pytest.mark.parametrize(
    ("arch", "crop_size"), (LARGE_FAMILIES | LARGE_TIMM_FAMILIES).items(), ids=LARGE_FAMILIES | LARGE_TIMM_FAMILIES
)
def test_every_large_family_gives_an_embedding(arch: str, crop_size: int) -> None:
    with torch.device("meta"):
        check_forward_and_backward(*build_backbone(arch, crop_size), crop_size)


def test_no_family_is_forgotten() -> None:
    def family(builder: str) -> str:
        return torchvision.models.get_model_builder(builder).__module__

    tested = {family(arch) for arch in (*FAMILIES, *LARGE_FAMILIES)}
    assert {family(arch) for arch in torchvision_architectures()} == tested


def test_the_vector_before_the_head_is_what_torchvision_gives_its_own() -> None:
    backbone, _ = build_backbone("resnet18", 64)
    reference = torchvision.models.resnet18()
    reference.load_state_dict(backbone.eval().state_dict(), strict=False)
    reference.eval().fc = torch.nn.Identity()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels), reference(pixels))


def test_a_wrong_crop_size_names_the_right_one() -> None:
    with torch.device("meta"), pytest.raises(ArchitectureError, match=r"vit_b_32.*200 px.*--crop-size 224"):
        build_backbone("vit_b_32", 200)


@pytest.mark.parametrize(
    ("arch", "near"),
    [
        ("resnet19", "resnet18"),
        ("convnext-tiny", "convnext_tiny"),
        ("timm/convnext_atmo", "timm/convnext_atto"),
        ("timm/resnet18.nobody", "timm/resnet18.a1_in1k"),
        ("timm/resnet18.", "timm/resnet18.a1_in1k"),
    ],
)
def test_an_unknown_architecture_names_near_ones(arch: str, near: str) -> None:
    with pytest.raises(ArchitectureError, match=rf"--arch {arch}.*{near}"):
        build_backbone(arch, 32)


def test_what_is_no_architecture_at_all_names_good_ones() -> None:
    with pytest.raises(SettingsError, match=r"convnext_tiny, resnet18\?"):
        check_arch("0123456789")


@pytest.mark.parametrize("arch", ["efficientnet_b0", "inception_v3", "swin_v2_t", "vgg11"])
def test_the_transform_is_that_of_the_published_weights(arch: str) -> None:
    preset = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    transform = transform_for(arch, None)
    assert (transform.crop_size, transform.resize_size) == (preset.crop_size[0], preset.resize_size[0])
    assert (list(transform.mean), list(transform.std)) == (preset.mean, preset.std)
    assert transform.interpolation == preset.interpolation.value


def test_the_resize_grows_with_the_crop() -> None:
    assert transform_for("resnet18", None).resize_size == 256
    half = transform_for("resnet18", 112)
    assert (half.crop_size, half.resize_size) == (112, 128)


def test_every_architecture_has_a_transform_that_is_large_enough_for_its_crop() -> None:
    for arch in torchvision_architectures():
        transform = transform_for(arch, None)
        assert transform.resize_size >= transform.crop_size, arch


def test_the_transform_of_timm_is_that_of_its_weights() -> None:
    for arch in timm_architectures():
        name = arch.removeprefix("timm/")
        config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
        transform = transform_for(arch, None)
        assert transform.resize_size >= transform.crop_size == max(config["input_size"]), arch
        assert (transform.crop_mode, transform.interpolation) == (config["crop_mode"], config["interpolation"]), arch
        if arch != "timm/tf_efficientnet_lite0":  # its weights come from elsewhere
            assert transform.mean == config["mean"], arch


@pytest.mark.parametrize(
    "arch", ["timm/vit_base_patch16_siglip_224", "timm/vit_base_patch16_siglip_256", "timm/resnet18"]
)
def test_pixels_are_prepared_as_timm_prepares_them(arch: str) -> None:
    rng = torch.Generator().manual_seed(1)
    photo = torchvision.transforms.functional.to_pil_image(torch.rand(3, 300, 400, generator=rng))
    config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(arch[5:]).to_dict())
    theirs = timm.data.create_transform(**config, is_training=False)(photo).numpy()
    transform = transform_for(arch, None)
    ours = transform.normalize(transform.pixels(photo)[None])[0]
    assert abs(ours - theirs).max() < 1e-5
