import pytest
import torch
from torch import nn

from aitax_ray.training.model import build_classifier
from aitax_ray.training.optimizer import make_optimizer, set_learning_rate, split_blocks
from tests.colours import Tiny


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_vectors_have_no_weight_decay(name: str, kind: type) -> None:
    model = Tiny(2)
    optimizer = make_optimizer(model, name, 0.1, 0.9, 0.05)  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    decayed = {id(p) for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]}
    assert decayed == {id(model.head.weight)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_momentum_is_that_of_sgd_or_the_first_beta_of_adamw() -> None:
    sgd, adamw = (make_optimizer(Tiny(2), name, 0.1, momentum=0.7).param_groups[0] for name in ("sgd", "adamw"))  # type: ignore[arg-type]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.7, True)
    assert adamw["betas"] == (0.7, 0.999)


def test_frozen_parameters_are_not_optimized() -> None:
    model = Tiny(2)
    model.norm.requires_grad_(False)
    optimizer = make_optimizer(model, "adamw", 0.1, 0.9, 0.05)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


# Number of blocks, and what the lowest and the highest block of the backbone are called.
ARCHITECTURES = {
    "resnet18": (6, "backbone.conv1", "backbone.layer4"),
    "convnext_tiny": (9, "backbone.features.0", "backbone.features.7"),
    "vit_b_32": (14, "backbone.class_token", "backbone.encoder.layers.encoder_layer_11"),
    "mobilenet_v3_small": (15, "backbone.features.0", "backbone.classifier.0"),
    "squeezenet1_1": (10, "backbone.features.0", "backbone.features.12"),
    "timm/convnext_atto": (6, "backbone.stem.0", "backbone.stages.3"),
    "timm/vit_tiny_patch16_224": (14, "backbone.cls_token", "backbone.blocks.11"),
    "timm/tf_efficientnet_lite0": (10, "backbone.conv_stem", "backbone.conv_head"),
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_blocks_of_any_architecture_go_from_the_input_to_the_head(arch: str) -> None:
    num, lowest, highest = ARCHITECTURES[arch]
    classifier = build_classifier(arch, 3, 224)
    names = {parameter: name for name, parameter in classifier.named_parameters()}
    blocks = split_blocks(classifier)
    assert {p for block in blocks for p in block} == set(names)
    assert [names[parameter] for parameter in blocks[-1]] == ["head.weight", "head.bias"]
    assert names[blocks[0][0]].startswith(lowest)
    assert names[blocks[-2][0]].startswith(highest)
    assert len(blocks) == num


def test_the_learning_rate_falls_from_each_block_to_the_one_below() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(5)))
    optimizer = make_optimizer(layers, "sgd", 0.4, layer_decay=0.5)
    set_learning_rate(optimizer, 0.2)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    for height, layer in enumerate(reversed(layers)):
        assert {rates[parameter] for parameter in layer.parameters()} == {0.2 * 0.5**height}
    assert len(make_optimizer(layers, "sgd", 0.4, weight_decay=0.1).param_groups) == 2


def test_no_parameter_that_learns_is_lost() -> None:
    layers = nn.Sequential(*(nn.Linear(2, 2) for _ in range(7)))
    layers[3].requires_grad_(False)
    assert {p for block in split_blocks(layers) for p in block} == {p for p in layers.parameters() if p.requires_grad}
