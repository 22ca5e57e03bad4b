"""Validation: measures a network on photographs that were not used for training."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from aitax_ray.training.collective import all_reduce, share_buffers
from aitax_ray.training.execution import Execution

PLAIN = Execution(channels_last=False)


@torch.inference_mode()
def validate(
    network: nn.Module, batches: Iterable[Any], num_classes: int, execution: Execution = PLAIN
) -> dict[str, float]:
    """Measure a network over the batches of all workers: loss, top1, top5, macro_top1 (mean over the classes seen).

    Each batch starts with the network's input, such as pixels (N, 3, H, W), and class_index (N,). Without
    photographs every figure is NaN.
    """
    network.eval()
    share_buffers(network)
    per_class: Tensor = torch.zeros(num_classes, 4, dtype=torch.float64)  # photographs, loss, top-1 hits, top-5 hits
    for pixels, target, *_ in batches:
        _embedding, logits = execution(network, pixels)
        loss = nn.functional.cross_entropy(logits.float(), target, reduction="none")
        hits = logits.topk(min(5, num_classes), dim=1).indices == target[:, None]
        hits &= loss.isfinite()[:, None]  # with NaN logits topk returns arbitrary classes, which must not count as hits
        figures = torch.stack([torch.ones_like(loss), loss, hits[:, 0].float(), hits.any(1).float()], dim=1)
        per_class.index_add_(0, target.cpu(), figures.double().cpu())
    per_class = all_reduce(per_class)
    num, loss_sum, top1, top5 = per_class.sum(0).tolist()
    if num == 0:
        return dict.fromkeys(("loss", "top1", "top5", "macro_top1"), math.nan)
    seen = per_class[per_class[:, 0] > 0]
    return {
        "loss": loss_sum / num,
        "top1": top1 / num,
        "top5": top5 / num,
        "macro_top1": (seen[:, 2] / seen[:, 0]).mean().item(),
    }
