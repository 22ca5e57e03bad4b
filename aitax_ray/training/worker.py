"""The work of one training worker: build the network, train and validate each epoch, report it. Runs without Ray."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aitax_ray.training.batches import FromMemory, FromStream, draw_seed
from aitax_ray.training.best import should_stop
from aitax_ray.training.curves import EXECUTION, report_steps
from aitax_ray.training.history import write_history
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aitax_ray.training.model import Classifier

Row = dict[str, Any]
Batches = FromMemory | FromStream
Report = Callable[[dict[str, Any], Row], None]


@dataclass(frozen=True)
class Place:
    """The number of this worker among all workers, and its device."""

    rank: int
    world: int
    """Number of workers."""
    local_world: int
    """Number of workers on this machine."""
    device: "torch.device"


def run_epochs(
    config: dict[str, Any],
    place: Place,
    train: Batches,
    val: Batches | None,
    start: "dict[str, torch.Tensor]",
    state: dict[str, Any] | None,
    report: Report,
    distribute: "Callable[[Classifier], nn.Module]",
) -> None:
    """Train until the last epoch, from the weights in `start`, or from the epoch after that of `state`.

    After each epoch `report` gets the state to store and the row of the history. `distribute` makes the workers share
    their gradients. The run ends early if `should_stop` says so, or if the training loss is no longer a finite number.
    In the second case model/metrics.jsonl ends with a row whose train_loss is null. The state of this epoch is not
    reported, so that the last stored state is usable.
    """
    import torch

    from aitax_ray.training.build import make_augmentation, make_learner, make_mixing
    from aitax_ray.training.collective import mean_of_workers
    from aitax_ray.training.execution import Execution, choose_execution
    from aitax_ray.training.feed import collate_evaluation, collate_training
    from aitax_ray.training.loop import to_batches
    from aitax_ray.training.model import build_classifier
    from aitax_ray.training.settings import TrainSettings
    from aitax_ray.training.transforms import EvalTransform
    from aitax_ray.training.validation import validate

    settings = TrainSettings.model_construct(**config["settings"])
    transform = EvalTransform(**config["transform"])
    storage = Workspace(config["root"]).storage
    if place.device.type == "cpu":  # if each worker used all cores, the workers would slow each other down
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place.local_world))
    num_classes = len(config["frequencies"])
    classifier = build_classifier(settings.arch, num_classes, transform.crop_size, settings.head)
    classifier.load_state_dict(start)
    classifier.to(place.device)
    num_photographs = train.num_steps * settings.batch_size * settings.epochs // place.world
    earlier = Execution(*state["learner"]["execution"]) if state else None
    execution = choose_execution(classifier, settings, transform.crop_size, num_photographs, place.rank, earlier)
    if place.rank == 0:
        storage.write_json(EXECUTION, str(execution))
    learner = make_learner(settings, config["lr"], config["frequencies"], classifier, distribute, execution)
    if state:
        learner.load_state_dict(state["learner"])
    history: list[Row] = state["history"] if state else []
    if state and place.rank == 0:
        write_history(storage, history)  # `train` has deleted it, and it may have rows after the checkpoint
    strong = make_augmentation(settings, transform.crop_size)
    mixing = make_mixing(settings, place.rank)
    for epoch in range(len(history), settings.epochs):
        if should_stop(history, settings):
            return
        started = time.perf_counter()
        is_final = epoch >= settings.epochs - settings.final_epochs
        augmentation = strong.weak() if is_final else strong
        learner.mixing = None if is_final else mixing
        # The seed depends on the epoch, so that dropout is the same in a run that was interrupted.
        torch.manual_seed(draw_seed(settings.seed, epoch, place.rank))
        collate = partial(collate_training, augmentation=augmentation, epoch=epoch)
        batches = to_batches(_move(train.training(epoch, collate), place.device), transform)
        if place.rank == 0:
            batches = report_steps(batches, Workspace(config["root"]), epoch, train.num_steps)
        row: Row = {"epoch": epoch + 1}
        row |= learner.train_epoch(batches, epoch, train.num_steps)
        has_diverged = not math.isfinite(row["train_loss"])
        if not has_diverged:
            collate = partial(collate_evaluation, crop_size=transform.crop_size)
            val_batches = val.validation(settings.batch_size, collate) if val else []
            row |= validate(
                learner.result, to_batches(_move(val_batches, place.device), transform), num_classes, execution
            )
            learner.schedule.end_epoch(row["loss"] if val else row["train_loss"])
        row["seconds"] = mean_of_workers(time.perf_counter() - started)
        history.append({name: value if math.isfinite(value) else None for name, value in row.items()})
        if place.rank == 0:
            write_history(storage, history)
        if has_diverged:
            return
        report(
            {
                "model": learner.result.state_dict(),
                "learner": learner.state_dict(),
                "epoch": epoch + 1,
                "history": history,
            },
            history[-1],
        )


def _move(collated: Any, device: "torch.device") -> Iterator[dict[str, Any]]:
    """Move batches to the device, and skip empty ones."""
    for batch in collated:
        if len(batch["class_index"]):
            yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
