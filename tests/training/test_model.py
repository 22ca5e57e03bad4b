from collections.abc import Iterator

import pytest
import torch
import torchvision

from aitax_ray.errors import ArchitectureError, SettingsError
from aitax_ray.training.model import (
    Classifier,
    ClassifierInfo,
    build_classifier,
    check_arch,
    known_architectures,
    load_classifier,
    transform_for,
)
from tests.small import one_thread

# A member of each family, and the side of the smallest photograph it takes (or nearly so), px.
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
# Those that are large or take one size only are built on torch's meta device: all but the numbers.
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

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def check_forward_and_backward(classifier: Classifier, crop_size: int, num_classes: int) -> None:
    embedding, logits = classifier.train()(torch.randn(2, 3, crop_size, crop_size))
    assert embedding.shape == (2, classifier.head.in_features) == (2, classifier.embedding_size)
    assert logits.shape == (2, num_classes)
    (through_head,) = torch.autograd.grad(logits.sum(), embedding, retain_graph=True)
    assert through_head.shape == embedding.shape
    logits.sum().backward()
    missing = [name for name, p in classifier.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.requires_grad for p in classifier.parameters())


@pytest.mark.parametrize(("arch", "crop_size"), FAMILIES.items(), ids=FAMILIES)
def test_every_family_gives_an_embedding_and_logits_that_depend_on_it(arch: str, crop_size: int) -> None:
    classifier = build_classifier(arch, 7, crop_size)
    assert classifier.training
    check_forward_and_backward(classifier, crop_size, 7)
    with torch.no_grad():
        embedding, logits = classifier(torch.randn(2, 3, crop_size, crop_size))
    assert not torch.equal(embedding[0], embedding[1])
    torch.testing.assert_close(logits, embedding @ classifier.head.weight.T + classifier.head.bias)


@pytest.mark.parametrize(("arch", "crop_size"), LARGE_FAMILIES.items(), ids=LARGE_FAMILIES)
def test_every_large_family_gives_an_embedding_and_logits_that_depend_on_it(arch: str, crop_size: int) -> None:
    with torch.device("meta"):
        check_forward_and_backward(build_classifier(arch, 7, crop_size), crop_size, 7)


def test_no_family_is_forgotten() -> None:
    def family(builder: str) -> str:
        return torchvision.models.get_model_builder(builder).__module__

    tested = {family(arch) for arch in (*FAMILIES, *LARGE_FAMILIES)}
    assert {family(arch) for arch in known_architectures()} == tested


def test_the_vector_before_the_head_is_what_torchvision_gives_its_own() -> None:
    classifier = build_classifier("resnet18", 3, 64).eval()
    reference = torchvision.models.resnet18()
    reference.load_state_dict(classifier.backbone.state_dict(), strict=False)
    reference.eval().fc = torch.nn.Identity()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier(pixels)[0], reference(pixels))


def test_a_wrong_crop_size_names_the_right_one() -> None:
    with torch.device("meta"), pytest.raises(ArchitectureError, match=r"vit_b_32.*200 px.*--crop-size 224"):
        build_classifier("vit_b_32", 3, 200)


@pytest.mark.parametrize(("arch", "near"), [("resnet19", "resnet18"), ("convnext-tiny", "convnext_tiny")])
def test_an_unknown_architecture_names_near_ones(arch: str, near: str) -> None:
    with pytest.raises(ArchitectureError, match=rf"--arch {arch}.*did you mean.*{near}"):
        build_classifier(arch, 3, 32)


def test_what_is_no_architecture_at_all_names_good_ones() -> None:
    with pytest.raises(SettingsError, match=r"convnext_tiny, resnet18\?"):
        check_arch("0123456789")


def test_weights_that_cannot_be_fetched_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", unreachable)
    with pytest.raises(ArchitectureError, match=r"resnet18 cannot be fetched.*not known.*--no-pretrained"):
        build_classifier("resnet18", 3, 32, pretrained=True)


def info_of(classifier: Classifier, arch: str, crop_size: int, num_classes: int) -> ClassifierInfo:
    return ClassifierInfo(
        arch=arch,
        classes=[f"s{index}" for index in range(num_classes)],
        embedding_size=classifier.embedding_size,
        transform=transform_for(arch, crop_size),
        epoch=1,
        versions={},
    )


@pytest.mark.parametrize(("arch", "pretrained"), [("mobilenet_v3_small", False), ("googlenet", True)])
def test_a_loaded_classifier_says_what_the_saved_one_said(
    arch: str, pretrained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pretrained:  # googlenet with weights has no auxiliary heads and another input than without
        like_torchvisions = torchvision.models.get_model(arch, aux_logits=True, init_weights=False)
        monkeypatch.setattr(
            torchvision.models._api.WeightsEnum, "get_state_dict", lambda *_, **__: like_torchvisions.state_dict()
        )
    classifier = build_classifier(arch, 4, 64, pretrained)
    pixels = torch.randn(4, 3, 64, 64)
    classifier(pixels)  # moves the running statistics away from where they begin
    classifier.eval()
    loaded = load_classifier(info_of(classifier, arch, 64, 4), classifier.state_dict())
    assert not loaded.training
    with torch.no_grad():
        for given, expected in zip(loaded(pixels), classifier(pixels), strict=True):
            torch.testing.assert_close(given, expected, rtol=0, atol=0)


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
    for arch in known_architectures():
        transform = transform_for(arch, None)
        assert transform.resize_size >= transform.crop_size, arch
