"""The optimizer: AdamW or SGD, with lower learning rates for the lower blocks of a network."""

from typing import Literal

import torch
from torch import nn

MIN_BLOCKS = 5  # if a level of nesting has fewer blocks, the next deeper level is used

OptimizerName = Literal["adamw", "sgd"]


def make_optimizer(
    network: nn.Module,
    name: OptimizerName,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
) -> torch.optim.Optimizer:
    """Make AdamW, or SGD with Nesterov momentum. Biases, norms and positions have no weight decay.

    The learning rate of each group of parameters is multiplied by its `scale`. This is 1 for the last block of the
    network. For any other block it is `layer_decay` times the scale of the block above it. Bao et al. 2021, "BEiT",
    arXiv 2106.08254.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for height, block in enumerate(reversed(split_blocks(network))):
        for parameter in block:
            key = (layer_decay**height, 0.0 if _is_small(parameter) else weight_decay)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {"params": group, "scale": scale, "weight_decay": decay, "lr": lr * scale}
        for (scale, decay), group in groups.items()
    ]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(parameters, lr=lr, betas=(momentum, 0.999))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the last block to `lr`, and those of the other blocks to `lr` times their scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def split_blocks(network: nn.Module) -> list[list[nn.Parameter]]:
    """Split the trainable parameters into blocks, from the input to the output, for any architecture.

    A block is a module with its submodules. All blocks are at the same level of nesting: the first level that has at
    least MIN_BLOCKS. A norm belongs to the block before it, a class token to the block after it. This assumes that a
    network defines its modules in the order in which it uses them.
    """
    named = [(name.split(".")[:-1], p) for name, p in network.named_parameters() if p.requires_grad]
    blocks: list[list[nn.Parameter]] = []
    for level in range(1 + max((len(path) for path, _ in named), default=0)):
        modules: dict[tuple[str, ...], list[nn.Parameter]] = {}
        for path, parameter in named:
            modules.setdefault(tuple(path[:level]), []).append(parameter)
        blocks = []
        for parameters in modules.values():
            if blocks and (all(map(_is_small, parameters)) or all(map(_is_small, blocks[-1]))):
                blocks[-1] += parameters
            else:
                blocks.append(parameters)
        if len(blocks) >= MIN_BLOCKS:
            break
    return blocks


def _is_small(parameter: nn.Parameter) -> bool:
    """Whether this is a bias, a norm, a scale per channel, a class token or positions, not the weights of a layer."""
    return parameter.ndim in (0, 1, 3)
