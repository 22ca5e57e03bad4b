"""engine.parity: an export that does not predict as the trained classifier does is refused."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from aitax_ray.demo.paint import paint
from aitax_ray.demo.species import SPECIES
from aitax_ray.engine.parity import NUM_IMAGES, check_parity
from aitax_ray.errors import EngineError
from aitax_ray.training import onnx
from aitax_ray.training.backbones import transform_for
from aitax_ray.training.model import Classifier, build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform
from tests.small import one_thread
from tests.training.test_backbones import FAMILIES, TIMM_FAMILIES

# Their exports take longest: of these the graph is compared that the exporter translates.
CAPTURED = {
    **{arch: FAMILIES[arch] for arch in ("densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5")},
    **{arch: TIMM_FAMILIES[arch] for arch in ("timm/edgenext_xx_small", "timm/eva02_tiny_patch14_224")},
    "timm/ghostnet_100": TIMM_FAMILIES["timm/ghostnet_100"],
}
TRANSFORMER = {"swin_t": 32}  # torchvision's; those of timm are among TIMM_FAMILIES
EXPORTED = {a: size for a, size in (FAMILIES | TIMM_FAMILIES | TRANSFORMER).items() if a not in CAPTURED}
NUM_CLASSES = 7


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [paint(SPECIES[number % len(SPECIES)], rng, 120, 90) for number in range(NUM_IMAGES)]


def as_batches(photos: list[Image.Image], transform: EvalTransform) -> list[tuple[np.ndarray, np.ndarray]]:
    pixels = np.stack([transform.pixels(photo) for photo in photos])
    return [(part, np.zeros(len(part), np.int32)) for part in np.split(pixels, [1, 33])]


def leave_out_repeated_blocks(network: nn.Module, num_kept: int) -> None:
    """Leave out each block that has the kind and the shapes of the `num_kept` blocks before it.

    The exporter takes its time for each block, and learns nothing new from another one.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential | nn.ModuleList):
            kinds = [(type(block), [(n, t.shape) for n, t in block.state_dict().items()]) for block in module]
            for place in reversed(range(num_kept, len(kinds))):
                is_block = any(True for _ in module[place].children())
                if is_block and all(kinds[before] == kinds[place] for before in range(place - num_kept, place)):
                    del module[place]


def sensitive_classifier(arch: str, crop_size: int, transform: EvalTransform, photos: list[Image.Image]) -> Classifier:
    """Build a classifier that has learned nothing, but names several classes on these photographs.

    Norms get the statistics of the photographs, and the head is scaled to the spread of their embeddings.
    """
    classifier = build_classifier(arch, NUM_CLASSES, crop_size)
    leave_out_repeated_blocks(classifier, num_kept=2 if "swin" in arch else 1)  # every second one shifts its windows
    pixels = torch.from_numpy(transform.normalize(np.concatenate([part for part, _ in as_batches(photos, transform)])))
    for module in classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # take the average
    with torch.no_grad():
        classifier.train()(pixels)
        embedding, _ = classifier.eval()(pixels)
        spread = embedding - embedding.mean(dim=0)
        classifier.head.weight /= (spread @ classifier.head.weight.T).std()
        classifier.head.bias.copy_(-classifier.head.weight @ embedding.mean(dim=0))
    return classifier


@pytest.mark.parametrize(("arch", "crop_size"), EXPORTED.items(), ids=EXPORTED)
@pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")
def test_families_predict_as_before_their_export(arch: str, crop_size: int, photos: list[Image.Image]) -> None:
    transform = transform_for(arch, crop_size)
    classifier = sensitive_classifier(arch, crop_size, transform, photos)
    exported = OnnxClassifier(export_onnx(classifier, transform), 1)
    batches = as_batches(photos, transform)
    figures = check_parity(classifier, transform, exported, batches)
    assert (figures["parity_images"], figures["parity_same_top1"]) == (NUM_IMAGES, 1)
    assert figures["parity_logit_difference"] < 1e-3
    assert len({int(best) for pixels, _ in batches for best in exported.predict(pixels)[1].argmax(axis=1)}) > 2


@pytest.mark.parametrize(("arch", "crop_size"), CAPTURED.items(), ids=CAPTURED)
@pytest.mark.filterwarnings("ignore:The default weight initialization of:FutureWarning")
def test_the_graph_of_every_other_family_predicts_as_the_classifier(
    arch: str, crop_size: int, photos: list[Image.Image]
) -> None:
    transform = transform_for(arch, crop_size)
    classifier = sensitive_classifier(arch, crop_size, transform, photos)
    served = onnx._Served(classifier, transform, unit_length=True).eval()
    example = torch.zeros(2, crop_size, crop_size, 3, dtype=torch.uint8)
    shapes = {"pixels": {0: torch.export.Dim("batch", min=1)}}
    graph = torch.export.export(served, (example,), dynamic_shapes=shapes, strict=False).module()
    pixels = torch.from_numpy(np.concatenate([part for part, _ in as_batches(photos, transform)]))
    with torch.no_grad():
        embedding, logits = graph(pixels)
        expected_embedding, expected_logits = classifier(torch.from_numpy(transform.normalize(pixels.numpy())))
    torch.testing.assert_close(embedding, nn.functional.normalize(expected_embedding), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, expected_logits, atol=1e-3, rtol=1e-4)
    assert len(set(logits.argmax(1).tolist())) > 2


@pytest.fixture(scope="module")
def resnet(photos: list[Image.Image]) -> tuple[Classifier, OnnxClassifier]:
    """A classifier and its export."""
    transform = transform_for("resnet18", 32)
    with one_thread():
        torch.manual_seed(0)
        classifier = sensitive_classifier("resnet18", 32, transform, photos)
        return classifier, OnnxClassifier(export_onnx(classifier, transform), 1)


def shift_bias(classifier: Classifier) -> None:
    classifier.head.bias[3] += 0.01


def turn_embedding(classifier: Classifier) -> None:
    """Exchange two elements of the embedding, and what the head makes of them: the logits stay the same."""
    last = classifier.backbone.layer4[1].bn2
    for parameter in (last.weight, last.bias):
        parameter[:2] = parameter[:2].flip(0) + 1


def spoil(classifier: Classifier) -> None:
    classifier.head.weight[0, 0] = float("nan")


@pytest.mark.parametrize("change", [shift_bias, turn_embedding, spoil])
def test_an_export_of_other_weights_is_refused(
    change: Callable[[Classifier], None], resnet: tuple[Classifier, OnnxClassifier], photos: list[Image.Image]
) -> None:
    transform = transform_for("resnet18", 32)
    classifier, exported = copy.deepcopy(resnet[0]), resnet[1]
    with torch.no_grad():
        change(classifier)
    with pytest.raises(EngineError, match="does not predict as the trained one: on 64 photographs"):
        check_parity(classifier, transform, exported, as_batches(photos, transform))


def test_an_export_with_another_normalization_is_refused(
    resnet: tuple[Classifier, OnnxClassifier], photos: list[Image.Image]
) -> None:
    other = transform_for("resnet18", 32).model_copy(update={"mean": (0.48, 0.456, 0.406)})
    with pytest.raises(EngineError, match="does not predict as the trained one"):
        check_parity(resnet[0], other, resnet[1], as_batches(photos, other))


class Constant(nn.Module):
    """Answers with these logits, whatever the photograph."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(pixels), 1), self.logits.expand(len(pixels), -1)

    def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding, logits = self(torch.from_numpy(pixels))
        return embedding.numpy(), logits.numpy()


def compare(expected: list[float], found: list[float]) -> dict[str, float]:
    transform = EvalTransform(crop_size=8, resize_size=8)
    batches = [(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int32))]
    classifier, exported = Constant(expected), Constant(found)
    return check_parity(classifier, transform, exported, batches)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "allowed"), [(0.5, 1e-3), (10.0, 1e-3), (1000.0, 0.1)])
def test_the_tolerance_grows_with_large_logits_only(scale: float, allowed: float) -> None:
    assert compare([scale, 0], [scale, 0.9 * allowed])["parity_logit_difference"] == pytest.approx(0.9 * allowed)
    with pytest.raises(EngineError, match=f"logits differ by up to {1.2 * allowed:.2g} \\({allowed:.2g} is allowed"):
        compare([scale, 0], [scale, 1.2 * allowed])


def test_another_species_is_accepted_only_where_two_are_as_good() -> None:
    assert compare([1.0, 1.0005], [1.0005, 1.0])["parity_same_top1"] == 0
    with pytest.raises(EngineError, match="names the same species for 0"):
        compare([1.0, 1.01], [1.01, 1.0])
