"""The `train` stage: reads images/ and split/, writes model/. distributed.py spreads the work over workers."""

import json
import logging
from functools import partial
from typing import Any, cast, get_args

from aitax_ray import workspace
from aitax_ray.cluster import connect, use_gpus
from aitax_ray.errors import DataError
from aitax_ray.training.recipes import RecipeName
from aitax_ray.training.settings import TrainSettings
from aitax_ray.workspace import Outcome, StageReport, Workspace, versions

log = logging.getLogger(__name__)


def train(settings: TrainSettings) -> StageReport:
    """Train a classifier on the train side of the split, and measure it on the val side after each epoch.

    Writes model/weights.safetensors and model/classifier.json (the epoch with the best figure of `select_by`),
    model/metrics.json (a row per epoch) and model/curves.png. After a crash the same command continues after the last
    complete epoch. Augmentation and dropout follow from the seed, and so does the order of the photographs when they
    fit into memory. Otherwise their order depends on the order in which Ray Data delivers.

    Raises DataError for too few photographs, AitaxError when
    training fails or diverges, ArchitectureError when weights cannot be had.
    """
    ws = Workspace(settings.root)
    if settings.recipe is None:
        settings = settings.with_recipe(_default_recipe(ws, settings.use_gpu))
    return ws.run("train", settings, ("manifest", "download", "split"), lambda: _train(ws, settings))


def _default_recipe(ws: Workspace, use_gpu: bool | None) -> RecipeName:
    """Choose what an earlier run had; else fine-tune where there is a GPU, and linear-probe where there is none."""
    for name in get_args(RecipeName):
        if name == ws.last_settings("train").get("recipe"):
            return cast(RecipeName, name)
    connect()
    return "fine-tune" if use_gpus(use_gpu) else "linear-probe"


def _train(ws: Workspace, settings: TrainSettings) -> Outcome:
    import torch
    from safetensors.torch import save

    from aitax_ray.training import distributed
    from aitax_ray.training.backbones import transform_for
    from aitax_ray.training.curves import watching
    from aitax_ray.training.feed import (
        decode_for_evaluation,
        decode_for_training,
        photographs,
        read_classes,
        read_labels,
    )
    from aitax_ray.training.weights import start_classifier

    classes, frequencies = read_classes(ws)
    if sum(frequencies) < settings.num_workers:
        raise DataError(
            f"{sum(frequencies)} training photographs are too few for {settings.num_workers} workers: "
            "widen the query, or lower --num-workers"
        )
    transform = transform_for(settings.arch, settings.crop_size)
    torch.manual_seed(settings.seed)
    start = start_classifier(
        settings.arch, classes, transform.crop_size, settings.head, settings.pretrained, settings.weights
    )
    ws.storage.write_bytes(distributed.START, save({n: t.contiguous() for n, t in start.state_dict().items()}))
    connect()
    # Somewhat larger than the crops, so that few crops must be enlarged.
    shorter_side = max(transform.resize_size, round(1.25 * transform.crop_size))
    labels, val_labels = read_labels(ws, "train"), read_labels(ws, "val")
    in_memory = distributed.fits_in_memory(len(labels) + len(val_labels), shorter_side)
    decode = partial(decode_for_training, shorter_side=shorter_side)
    decode_val = partial(decode_for_evaluation, transform=transform)
    datasets = {"train": photographs(ws, labels).map_batches(decode, batch_format="pyarrow")}
    if len(val_labels):
        datasets["val"] = photographs(ws, val_labels).map_batches(decode_val, batch_format="pyarrow")
    if in_memory:  # decode once, not in each worker
        datasets = {name: dataset.materialize() for name, dataset in datasets.items()}
    config = {
        "root": ws.storage.root,
        "settings": settings.model_dump(),
        "lr": settings.learning_rate(),
        "transform": transform.model_dump(),
        "frequencies": frequencies,
        "num_train": len(labels),
        "in_memory": in_memory,
    }
    log.info(
        "training %s on %s photographs of %s species, %s for validation, learning rate %.2g",
        settings.arch, f"{len(labels):,}", f"{len(classes):,}", f"{len(val_labels):,}", settings.learning_rate(),
    )  # fmt: skip
    with watching(ws):
        state = distributed.fit(ws, settings, config, datasets)
    _write_model(ws, settings, state, classes, transform)
    ws.storage.delete(distributed.RUNS)
    history = state["history"]
    best = history[state["epoch"] - 1]
    if len(val_labels) and best["loss"] is None:
        log.warning("the validation loss is a finite number in no epoch: the network may be broken; try a lower --lr")
    return Outcome(
        counts={
            "species": len(classes),
            "train": len(labels),
            "val": len(val_labels),
            "epochs": len(history),
            "best_epoch": best["epoch"],
        },
        metrics={name: best[name] for name in ("top1", "top5", "macro_top1", "loss")},
    )


def _write_model(
    ws: Workspace, settings: TrainSettings, state: dict[str, Any], classes: list[str], transform: Any
) -> None:
    from safetensors.torch import save

    from aitax_ray.training.model import ClassifierInfo

    weights = {name: tensor.contiguous() for name, tensor in state["model"].items()}
    info = ClassifierInfo(
        arch=settings.arch,
        head=settings.head,
        classes=classes,
        embedding_size=weights["head.weight"].shape[1],
        transform=transform,
        epoch=state["epoch"],
        versions=versions(),
    )
    ws.storage.write_bytes(
        workspace.WEIGHTS, save(weights, metadata={"classifier": json.dumps(info.model_dump(mode="json"))})
    )
    ws.storage.write_json(workspace.CLASSIFIER, info.model_dump(mode="json"))
