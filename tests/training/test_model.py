from collections.abc import Iterator

import pytest
import torch
import torchvision

from aitax_ray.training.backbones import build_backbone, transform_for
from aitax_ray.training.model import Classifier, ClassifierInfo, HeadKind, build_classifier, load_classifier
from tests.small import one_thread

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("arch", ["resnet18", "timm/convnext_atto"])
def test_logits_are_a_linear_function_of_the_embedding(arch: str) -> None:
    classifier = build_classifier(arch, 7, 32).eval()
    with torch.no_grad():
        embedding, logits = classifier(torch.randn(2, 3, 32, 32))
    assert embedding.shape == (2, classifier.embedding_size)
    torch.testing.assert_close(logits, embedding @ classifier.head.weight.T + classifier.head.bias)


def test_logits_of_prototypes_do_not_depend_on_the_length_of_the_embedding() -> None:
    classifier = build_classifier("mobilenet_v3_small", 7, 32, "prototype").eval()
    embedding = torch.randn(2, classifier.embedding_size)
    logits = classifier.head(embedding)
    torch.testing.assert_close(classifier.head(10 * embedding), logits)
    nearest = classifier.head(classifier.head.weight.detach())
    assert nearest.argmax(1).tolist() == list(range(7))
    torch.testing.assert_close(nearest.diagonal(), classifier.head.scale.expand(7))


def info_of(
    classifier: Classifier, arch: str, crop_size: int, num_classes: int, head: HeadKind = "linear"
) -> ClassifierInfo:
    return ClassifierInfo(
        arch=arch,
        head=head,
        classes=[f"s{index}" for index in range(num_classes)],
        embedding_size=classifier.embedding_size,
        transform=transform_for(arch, crop_size),
        epoch=1,
        versions={},
    )


@pytest.mark.parametrize(
    ("arch", "pretrained", "head"),
    [("mobilenet_v3_small", False, "prototype"), ("googlenet", True, "linear"), ("timm/resnet10t", False, "linear")],
)
def test_a_loaded_classifier_says_what_the_saved_one_said(
    arch: str, pretrained: bool, head: HeadKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pretrained:  # googlenet with weights has no auxiliary heads and another input than without
        like_torchvisions = torchvision.models.get_model(arch, aux_logits=True, init_weights=False)
        monkeypatch.setattr(
            torchvision.models._api.WeightsEnum, "get_state_dict", lambda *_, **__: like_torchvisions.state_dict()
        )
    classifier = Classifier(*build_backbone(arch, 64, pretrained), 4, head)
    pixels = torch.randn(4, 3, 64, 64)
    classifier(pixels)  # changes the running statistics from their initial values
    classifier.eval()
    loaded = load_classifier(info_of(classifier, arch, 64, 4, head), classifier.state_dict())
    assert not loaded.training
    with torch.no_grad():
        for given, expected in zip(loaded(pixels), classifier(pixels), strict=True):
            torch.testing.assert_close(given, expected, rtol=0, atol=0)
