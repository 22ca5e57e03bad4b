"""The training loop in plain torch, over any iterable of batches. It knows nothing of Ray."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]  # pixels (N, 3, H, W) float32, class_index (N,) int64


@dataclass(frozen=True)
class Schedule:
    """The learning rate: it rises linearly for a share of the run, then falls along a cosine to `lr` / 1000."""

    lr: float
    epochs: int
    warmup: float = 0.05

    def at(self, epochs_done: float) -> float:
        """The learning rate after `epochs_done` epochs, such as 2.5 in the middle of the third one."""
        share = min(1.0, epochs_done / self.epochs)
        if share < self.warmup:
            return self.lr * max(0.01, share / self.warmup)
        falling = (share - self.warmup) / (1 - self.warmup)
        return self.lr * (0.001 + 0.999 * (1 + math.cos(math.pi * falling)) / 2)


def make_optimizer(
    model: nn.Module, name: Literal["adamw", "sgd"], lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make AdamW, or SGD with Nesterov momentum. Biases and norms (vectors) have no weight decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss_fn: "Loss",
    schedule: Schedule,
    epoch: int,
    num_steps: int,
) -> dict[str, float]:
    """Train for one epoch, counted from 0, of `num_steps` batches; returns train_loss, train_top1 (all workers), lr.

    The epoch ends early, with a train_loss of NaN, when the gradient is not finite: a step with it would make the
    weights NaN.
    """
    model.train()
    totals: Tensor = torch.zeros(3, dtype=torch.float64)
    for step, (pixels, target) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(epoch + step / num_steps)
        if len(target) == 1:  # batch normalization needs two
            pixels, target = pixels.repeat(2, 1, 1, 1), target.repeat(2)
        with _autocast(pixels.device):
            _embedding, logits = model(pixels)
            loss = loss_fn(logits, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        totals += _figures(loss.detach(), logits, target).cpu()
        if not norm.isfinite():  # in all workers at the same step, since they share the gradient
            totals[0] = math.nan
            break
        optimizer.step()
    loss_sum, hits, num = all_reduce(totals).tolist()
    return {"train_loss": loss_sum / max(num, 1), "train_top1": hits / max(num, 1), "lr": schedule.at(epoch + 1)}


def _figures(loss: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """Sum losses, hits and photographs of a batch in one tensor, so that a GPU is waited for once, not three times."""
    hits = (logits.argmax(1) == target).sum()
    return torch.stack([loss * len(target), hits, torch.full_like(hits, len(target))]).double()


@dataclass
class Loss:
    """Cross entropy with label smoothing; with `log_prior`, on logits adjusted for the class frequencies.

    Training with the log of the class prior added makes the plain logits favour no class: Menon et al. 2021,
    "Long-tail learning via logit adjustment", arXiv 2007.07314.
    """

    label_smoothing: float = 0.0
    log_prior: Tensor | None = None

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.log_prior is not None:
            logits = logits + self.log_prior.to(logits.device)
        return nn.functional.cross_entropy(logits.float(), target, label_smoothing=self.label_smoothing)


@torch.inference_mode()
def validate(model: nn.Module, batches: Iterable[Batch], num_classes: int) -> dict[str, float]:
    """Measure a model over the batches of all workers: loss, top1, top5, macro_top1 (mean over the classes seen).

    Without photographs every figure is NaN.
    """
    model = _unwrap_and_sync(model).eval()
    per_class: Tensor = torch.zeros(num_classes, 4, dtype=torch.float64)  # photographs, loss, top-1 hits, top-5 hits
    for pixels, target in batches:
        with _autocast(pixels.device):
            _embedding, logits = model(pixels)
        loss = nn.functional.cross_entropy(logits.float(), target, reduction="none")
        hits = logits.topk(min(5, num_classes), dim=1).indices == target[:, None]
        hits &= loss.isfinite()[:, None]  # of NaN logits topk takes any: they count as no hit
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


def _unwrap_and_sync(model: nn.Module) -> nn.Module:
    """Unwrap the network of DistributedDataParallel, and copy the running statistics of the first worker into it.

    DistributedDataParallel would copy them in its first call, which waits for all workers. A worker without validation
    photographs makes no call, and the others would wait for ever. So they are copied here.
    """
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        return model
    network: nn.Module = model.module
    for buffer in network.buffers():
        torch.distributed.broadcast(buffer, src=0)
    return network


def all_reduce(totals: Tensor) -> Tensor:
    """Sum over all workers; with a single worker, return the tensor unchanged."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        totals = totals.to(device)
        torch.distributed.all_reduce(totals)
    return totals.cpu()


def to_batches(collated: Iterable[dict[str, Tensor]]) -> Iterator[Batch]:
    """Turn collated dictionaries of `pixels` and `class_index` into batches."""
    for batch in collated:
        yield batch["pixels"].contiguous(memory_format=torch.channels_last), batch["class_index"]


def _autocast(device: torch.device) -> Any:
    """Compute in bfloat16 on a GPU, in float32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
