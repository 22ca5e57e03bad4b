"""The training loop in plain torch, over any iterable of batches. It does not use Ray."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aitax_ray.training.collective import all_reduce
from aitax_ray.training.ema import Ema
from aitax_ray.training.execution import DEFAULT, Execution
from aitax_ray.training.loss import Label, Loss, Target
from aitax_ray.training.mixing import Mixing
from aitax_ray.training.optimizer import set_learning_rate
from aitax_ray.training.schedule import Schedule
from aitax_ray.training.transforms import EvalTransform


class Batch(NamedTuple):
    """Photographs to learn from."""

    pixels: Tensor
    """Normalized, float32 (N, 3, H, W)."""
    class_index: Tensor
    """int64 (N,)"""
    weight: Tensor
    """float32 (N,): weight of each photograph in the loss."""


@dataclass
class Learner:
    """A network with its optimizer, schedule and loss: everything that changes during training."""

    network: nn.Module
    model: nn.Module
    """The network itself, or its DistributedDataParallel, with which the workers share the gradients."""
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    loss: Loss
    clip_norm: float = 1.0
    accumulate: int = 1
    """Number of parts into which a step is split to save memory. Batch normalization sees one part at a time."""
    ema: Ema | None = None
    mixing: Mixing | None = None
    freeze_norm: bool = False
    """Whether batch normalization keeps the statistics that the network started with."""
    execution: Execution = DEFAULT

    @property
    def result(self) -> nn.Module:
        """The network to validate and to publish: the moving average, if there is one."""
        return self.ema.network if self.ema else self.network

    def train_epoch(self, batches: Iterable[Batch], epoch: int, num_steps: int) -> dict[str, float]:
        """Train for one epoch of `num_steps` batches. Epochs count from 0. Returns the figures of all workers together.

        These are train_loss, train_top1 (for mixed photographs, of the label with the larger share), lr, images_per_s,
        and wait_share, the share of the time in which the network waited for photographs. When the gradient is not
        finite, the epoch ends early with a train_loss of NaN, since a step would make the weights NaN.
        """
        self.model.train()
        if self.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        started, timed = time.perf_counter(), Timed(batches)
        totals: Tensor = torch.zeros(4, dtype=torch.float64)
        for step, batch in enumerate(timed):
            set_learning_rate(self.optimizer, self.schedule.at(epoch + step / num_steps))
            totals += self._compute_gradient(batch, epoch, step).cpu()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
            if not norm.isfinite():  # all workers stop at the same step, since they share the gradient
                totals[0] = math.nan
                break
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.network)
        times = torch.tensor([time.perf_counter() - started, timed.waited_s, 1.0], dtype=torch.float64)
        loss, hits, num, weight, seconds, waited_s, workers = all_reduce(torch.cat([totals, times])).tolist()
        return {
            "train_loss": loss / weight if weight else math.nan,
            "train_top1": hits / max(num, 1),
            "lr": self.schedule.at(epoch + 1),
            "images_per_s": num * workers / seconds,
            "wait_share": waited_s / seconds,
        }

    def _compute_gradient(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """Compute the gradient of the weighted mean loss of a batch.

        Returns the sums of losses, hits, photographs and weights in one tensor, so that the CPU waits for the GPU once.
        """
        self.optimizer.zero_grad(set_to_none=True)
        pixels, class_index, weight = batch
        if len(pixels) == 1:  # batch normalization needs at least two photographs
            pixels, class_index, weight = pixels.repeat(2, 1, 1, 1), class_index.repeat(2), weight.repeat(2)
        target: Target = (Label(class_index, weight),)
        if self.mixing:
            pixels, target = self.mixing(pixels, target[0], epoch, step)
        total = self.loss.weights(target).sum()
        sums: Tensor = torch.zeros(3, dtype=torch.float64, device=pixels.device)
        num_parts = min(self.accumulate, len(pixels) // 2)
        for number, (part, part_target) in enumerate(split_parts(pixels, target, num_parts), 1):
            with nullcontext() if number == num_parts else self._without_sharing():
                _embedding, logits = self.execution(self.model, part)
                loss = self.loss(logits, part_target).sum()
                (loss / total).backward()
            hits = (logits.argmax(1) == part_target[0].class_index).sum()
            sums += torch.stack([loss.detach(), hits, torch.full_like(hits, len(part))])
        return torch.cat([sums, total[None]])

    def _without_sharing(self) -> AbstractContextManager[Any]:
        """Do not share the gradient with the other workers: only the last part of a step does, which saves time."""
        if isinstance(self.model, nn.parallel.DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Get everything that a run needs to continue as if it had not been interrupted."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "execution": astuple(self.execution),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


def split_parts(pixels: Tensor, target: Target, num: int) -> Iterator[tuple[Tensor, Target]]:
    """Split a batch into `num` parts of about the same size."""
    labels = [zip(label.class_index.tensor_split(num), label.weight.tensor_split(num), strict=True) for label in target]
    for part, *of_part in zip(pixels.tensor_split(num), *labels, strict=True):
        yield (
            part,
            tuple(Label(index, weight, label.share) for (index, weight), label in zip(of_part, target, strict=True)),
        )


def to_batches(collated: Iterable[dict[str, Tensor]], transform: EvalTransform) -> Iterator[Batch]:
    """Turn collated `pixels`, uint8 (N, H, W, 3), `class_index` and `weight` into batches on the same device."""
    for batch in collated:
        yield Batch(normalize(batch["pixels"], transform), batch["class_index"], batch["weight"])


def normalize(pixels: Tensor, transform: EvalTransform) -> Tensor:
    """Do what EvalTransform.normalize does, faster: uint8 (N, H, W, 3) to float32 (N, 3, H, W), channels last."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (transform.mean, transform.std))
    return pixels.float().mul_(1 / (255 * std)).sub_(mean / std).permute(0, 3, 1, 2)


class Timed:
    """Yields the batches, and measures the total time spent waiting for them."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches, self.waited_s = batches, 0.0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        batches = iter(self._batches)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch
