"""Tensors and a tiny network for tests of the training loop: photographs whose brightest channel is their class."""

from typing import Any

import torch
from torch import Tensor, nn

from aitax_ray.training.loop import Batch, Learner
from aitax_ray.training.loss import Loss
from aitax_ray.training.optimizer import OptimizerName, make_optimizer
from aitax_ray.training.schedule import Cosine


class Tiny(nn.Module):
    """Two means of the pixels, normalized, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, num_classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.norm(pixels).mean((2, 3))
        return embedding, self.head(embedding)


class Given(nn.Module):
    """Returns the photographs as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return pixels, self.one * pixels.flatten(1)


def colours(numbers: list[int], spread: float = 0.3) -> Batch:
    """Draw `numbers` photographs per class; the channel with the number of the class is brighter."""
    target = torch.tensor([index for index, num in enumerate(numbers) for _ in range(num)])
    pixels = spread * torch.randn(len(target), 3, 4, 4)
    pixels[torch.arange(len(target)), target] += 1.0
    return batch(pixels, target)


def batch(pixels: Tensor, class_index: Tensor) -> Batch:
    """A batch whose photographs count the same."""
    return Batch(pixels, class_index, torch.ones(len(class_index)))


def take(photographs: Batch, part: Any) -> Batch:
    """Some of the photographs."""
    return Batch(*(column[part] for column in photographs))


def learner(
    network: nn.Module,
    *,
    lr: float = 0.1,
    epochs: int = 1,
    optimizer: OptimizerName = "sgd",
    loss: Loss | None = None,
    **others: Any,
) -> Learner:
    """Make a learner that works alone."""
    made = make_optimizer(network, optimizer, lr)
    return Learner(network, network, made, Cosine(lr, epochs), loss or Loss(), **others)
