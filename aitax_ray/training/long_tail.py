"""Logit adjustment: raises the logits of species with few training photographs, so that they are predicted more often.

From each logit, tau * log(prior of its class) is subtracted: Menon et al. 2021, "Long-tail learning via logit
adjustment", arXiv 2007.07314. The strength tau is chosen on the validation photographs.
"""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from aitax_ray.training.model import PrototypeHead

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
MAX_LOSS = 0.01  # largest loss of top-1, as a share of the photographs, that the adjustment may cause

log = logging.getLogger(__name__)


def log_prior(frequencies: list[int]) -> Tensor:
    """Log of the share of the training photographs that each class has, in the order of class_index: (K,).

    A class without photographs counts as a class with one.
    """
    counts = torch.tensor(frequencies, dtype=torch.float32).clamp(min=1)
    return torch.log(counts / counts.sum())


def class_weights(frequencies: list[int], imbalanced: bool) -> Tensor:
    """Weights of the loss per class, in the order of class_index: 1 / log2(1 + n) when `imbalanced`, else 1. (K,)."""
    counts = torch.tensor(frequencies, dtype=torch.float32).clamp(min=1)
    return 1 / torch.log2(1 + counts) if imbalanced else torch.ones_like(counts)


def balanced_weights(frequencies: list[int]) -> Tensor:
    """Weights of the loss per class, in the order of class_index, by which all classes count the same: (K,).

    Kang et al. 2020, "Decoupling representation and classifier", arXiv 1910.09217, train a head again on a frozen
    backbone and draw all classes equally often. Weights give the same loss on average, without random draws.
    """
    counts = torch.tensor(frequencies, dtype=torch.float32).clamp(min=1)
    return counts.sum() / (len(counts) * counts)


def adjust(head: nn.Linear | PrototypeHead, frequencies: list[int], strength: float) -> None:
    """Subtract the adjustment from the bias of the head, so that predictions need no further step."""
    with torch.no_grad():
        head.bias.sub_(strength * log_prior(frequencies).to(head.bias.device))


def adjusted_hits(logits: Tensor, target: Tensor, prior: Tensor) -> Tensor:
    """Compute for each strength whether the class with the largest logit is right: bool (N, len(STRENGTHS))."""
    hits = [(logits - strength * prior).argmax(1) == target for strength in STRENGTHS]
    return torch.stack(hits, dim=1)


def choose_strength(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> float:
    """Choose the strength with the best macro top-1 among those that cost at most MAX_LOSS of top-1.

    `batches` has pairs of `adjusted_hits` and class_index (N,). Of equal strengths the smallest is chosen. Without
    photographs the strength is 0.
    """
    per_class: Tensor = torch.zeros(num_classes, 1 + len(STRENGTHS), dtype=torch.float64)
    for hits, target in batches:
        counted = torch.cat([torch.ones(len(hits), 1), hits.float()], dim=1).double()
        per_class.index_add_(0, target.cpu(), counted.cpu())
    seen = per_class[per_class[:, 0] > 0]
    if not len(seen):
        return 0.0
    top1 = seen[:, 1:].sum(0) / seen[:, 0].sum()
    macro = (seen[:, 1:] / seen[:, :1]).mean(0)
    allowed = top1 >= top1[0] - MAX_LOSS
    best = int(torch.where(allowed, macro, torch.full_like(macro, -1)).argmax())
    log.info(
        "logit adjustment %g: macro top-1 %.3f (without: %.3f), top-1 %.3f (%.3f)",
        STRENGTHS[best], *(float(figure) for figure in (macro[best], macro[0], top1[best], top1[0])),
    )  # fmt: skip
    return STRENGTHS[best]
