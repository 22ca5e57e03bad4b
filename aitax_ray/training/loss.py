"""The loss: cross entropy with label smoothing, weights, and logits adjusted for rare species."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Label(NamedTuple):
    """A class for each photograph of a batch, and its weight."""

    class_index: Tensor
    """int64 (N,)"""
    weight: Tensor
    """float32 (N,)"""
    share: float = 1.0
    """Share of this label in the target. Photographs that were mixed have two labels."""


Target = tuple[Label, ...]  # the label with the largest share first; the shares add up to 1


@dataclass(frozen=True)
class Loss:
    """Cross entropy with label smoothing. `log_prior` (K,), the log of the class frequencies, is added to the logits.

    After such training, the logits without the prior do not favour frequent classes: Menon et al. 2021, "Long-tail
    learning via logit adjustment", arXiv 2007.07314. Balanced softmax (Ren et al. 2020, arXiv 2007.10740) adds the log
    of the class counts. That is the same loss, because softmax removes a constant that is added to all logits.
    """

    label_smoothing: float = 0.0
    log_prior: Tensor | None = None
    class_weight: Tensor | None = None
    """float32 (K,): factor by which the weights of the photographs of a class are multiplied."""

    def weights(self, target: Target) -> Tensor:
        """Weights (N,) of the photographs of a batch."""
        return torch.stack([self._weight(label) for label in target]).sum(0)

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """Compute the weighted losses (N,). Their sum divided by the sum of the weights is the weighted mean."""
        if self.log_prior is not None:
            logits = logits + self.log_prior
        logits = logits.float()
        return torch.stack(
            [
                self._weight(label)
                * nn.functional.cross_entropy(
                    logits, label.class_index, reduction="none", label_smoothing=self.label_smoothing
                )
                for label in target
            ]
        ).sum(0)

    def _weight(self, label: Label) -> Tensor:
        weight = label.share * label.weight
        return weight if self.class_weight is None else weight * self.class_weight[label.class_index]
