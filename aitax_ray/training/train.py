"""The `train` stage: reads images/ and split/, writes model/. distributed.py spreads the work over workers."""

import json
import logging
from functools import partial
from typing import Any

from aitax_ray import workspace
from aitax_ray.cluster import connect
from aitax_ray.errors import DataError
from aitax_ray.training.settings import TrainSettings
from aitax_ray.workspace import Outcome, StageReport, Workspace, versions

log = logging.getLogger(__name__)


def train(settings: TrainSettings) -> StageReport:
    """Train a classifier on the train side of the split, and measure it on the val side after each epoch.

    Writes model/weights.safetensors and model/classifier.json (the epoch with the best top-1 on val),
    model/metrics.json (a row per epoch) and model/curves.png. After a crash the same command continues after the last
    complete epoch. Augmentation and dropout follow from the seed, and so does the order of the photographs when they
    fit into memory. Otherwise their order depends on the order in which Ray Data delivers.

    Raises DataError for too few photographs, AitaxError when training fails or diverges.
    """
    ws = Workspace(settings.root)
    return ws.run("train", settings, ("manifest", "download", "split"), lambda: _train(ws, settings))


def _train(ws: Workspace, settings: TrainSettings) -> Outcome:
    from aitax_ray.training import distributed
    from aitax_ray.training.curves import watching
    from aitax_ray.training.feed import (
        decode_for_evaluation,
        decode_for_training,
        photographs,
        read_classes,
        read_labels,
    )
    from aitax_ray.training.model import build_classifier, transform_for

    classes, frequencies = read_classes(ws)
    if sum(frequencies) < settings.num_workers:
        raise DataError(
            f"{sum(frequencies)} training photographs are too few for {settings.num_workers} workers: "
            "widen the query, or lower --num-workers"
        )
    transform = transform_for(settings.arch, settings.crop_size)
    # Built once here so that a wrong size, or weights that cannot be fetched, end the run before workers start.
    build_classifier(settings.arch, len(classes), transform.crop_size, settings.pretrained)
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
