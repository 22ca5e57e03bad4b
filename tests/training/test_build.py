import pyarrow as pa
import pytest
import torch

from aitax_ray import schemas, workspace
from aitax_ray.training.augment import Augmentation
from aitax_ray.training.build import make_augmentation, make_learner, make_mixing
from aitax_ray.training.execution import Execution
from aitax_ray.training.feed import read_classes
from aitax_ray.training.loop import Learner
from aitax_ray.training.loss import Label
from aitax_ray.training.mixing import Mixing
from aitax_ray.training.model import build_classifier
from aitax_ray.training.schedule import Cosine, Plateau
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.small import ARCH, CROP, train_settings


def build(frequencies: list[int], **changes: object) -> Learner:
    classifier = build_classifier(ARCH, len(frequencies), CROP)
    settings = train_settings("r", **changes)
    return make_learner(settings, 0.1, frequencies, classifier, lambda network: network, Execution())


def test_the_learner_is_what_the_settings_ask_for() -> None:
    made = build([4, 2], ema=0.5, accumulate=3, clip_norm=2.0, label_smoothing=0.3, long_tail="adjust")
    assert made.ema
    assert (made.accumulate, made.clip_norm, made.loss.label_smoothing, made.loss.log_prior) == (3, 2.0, 0.3, None)
    assert isinstance(made.schedule, Cosine)
    made = build([4, 2], optimizer="sgd", schedule="plateau", layer_decay=0.5, momentum=0.3)
    assert made.ema is None
    assert isinstance(made.schedule, Plateau)
    assert isinstance(made.optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in made.optimizer.param_groups} == {0.3}
    assert {group["scale"] for group in made.optimizer.param_groups} > {1.0, 0.5, 0.25}


@pytest.mark.parametrize("long_tail", ["loss", "balanced-softmax"])
def test_the_loss_is_adjusted_by_the_share_of_each_class(long_tail: str) -> None:
    prior = build([6, 3, 1], long_tail=long_tail).loss.log_prior
    assert prior is not None
    assert prior.exp().tolist() == pytest.approx([0.6, 0.3, 0.1])


@pytest.mark.parametrize("order", [("R1", "B2", "Z3"), ("Z3", "R1", "B2"), ("B2", "Z3", "R1")])
def test_a_class_has_the_weight_of_its_own_photographs_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, order: tuple[str, ...]
) -> None:
    rows = [
        blank_row(schemas.SPLIT, image_id=f"{key}{n}", species_key=key, class_index=order.index(key), split="train")
        for key, num in {"R1": 7, "B2": 1, "Z3": 3}.items()
        for n in range(num)
    ]
    ws = Workspace(str(tmp_path_factory.mktemp("split")))
    ws.storage.write_table(workspace.SPLIT, pa.Table.from_pylist(rows, schemas.SPLIT))
    keys, frequencies = read_classes(ws)
    loss = build(frequencies, imbalanced=True).loss
    weights = loss.weights((Label(torch.arange(3), torch.ones(3)),))
    assert dict(zip(keys, weights.tolist(), strict=True)) == pytest.approx({"R1": 1 / 3, "B2": 1.0, "Z3": 1 / 2})


def test_photographs_are_mixed_when_either_way_is_asked_for() -> None:
    assert make_mixing(train_settings("r", mixup=0, cutmix=0), 0) is None
    first, second = (make_mixing(train_settings("r", mixup=0.2, cutmix=0), rank) for rank in (0, 1))
    assert first
    assert second
    assert (first.mixup, first.cutmix) == (0.2, 0)
    assert first.seed != second.seed  # workers mix their photographs differently
    assert isinstance(make_mixing(train_settings("r", cutmix=1), 0), Mixing)


def test_the_augmentation_is_that_of_the_settings() -> None:
    settings = train_settings("r", augment="trivial", min_scale=0.2, vertical_flip=True, random_erasing=0.4, seed=9)
    assert make_augmentation(settings, 32) == Augmentation(32, "trivial", 0.2, True, 0.4, 9)
