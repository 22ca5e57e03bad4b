"""The `train` stage: reads images/ and split/, writes model/. distributed.py spreads the work over workers."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast, get_args

from aitax_ray import workspace
from aitax_ray.cluster import connect, count_resources, use_gpus
from aitax_ray.errors import DataError, SettingsError
from aitax_ray.storage import Storage
from aitax_ray.training.recipes import RecipeName
from aitax_ray.training.settings import CPU_WORKERS, TrainSettings
from aitax_ray.workspace import Outcome, StageReport, Workspace, versions

if TYPE_CHECKING:
    import pyarrow as pa

    from aitax_ray.training.embeddings import Network
    from aitax_ray.training.feed import Labels
    from aitax_ray.training.model import Classifier, ClassifierInfo
    from aitax_ray.training.trackers import Trackers

log = logging.getLogger(__name__)


def train(settings: TrainSettings) -> StageReport:
    """Train a classifier on the train side of the split, and measure it on the val side after each epoch.

    Writes model/weights.safetensors and model/classifier.json (the epoch with the best figure of `select_by`),
    model/classifier.onnx, model/metrics.jsonl (a row per epoch), model/curves.png and model/tensorboard/. After a crash
    the same command continues after the last complete epoch. Augmentation and dropout follow from the seed, and so does
    the order of the photographs when they fit into memory. Otherwise their order depends on the order in which Ray Data
    delivers.

    Raises DataError for too few photographs, AitaxError when training fails or diverges, ArchitectureError when weights
    cannot be had, SettingsError when they are those that this training overwrites.
    """
    ws = Workspace(settings.root)
    _check_weights_stay(ws, settings.weights)
    if settings.recipe is None:
        settings = settings.with_recipe(_default_recipe(ws, settings.use_gpu))
    reads = ("manifest", "download", "split")
    start = cache(partial(_start, ws, settings))  # weights that cannot be had cost no model of an earlier run
    return ws.run(
        "train", settings, reads, lambda: _tracked(ws, settings, start()), kept_folders=[workspace.VIEWS], prepare=start
    )


def _check_weights_stay(ws: Workspace, weights: str | None) -> None:
    """Raise SettingsError when --weights is in the model of this root: a run deletes that before it starts."""
    if weights is None:
        return
    place, own = Storage(weights).full(), ws.storage.full(workspace.FOLDERS["train"][0])
    if place in (ws.storage.full(), own) or place.startswith(f"{own}/"):
        engines = ws.storage.address(workspace.ENGINES)
        raise SettingsError(
            f"--weights {weights} is the model that this training overwrites: start from a published engine "
            f"({engines}/VERSION/classifier.safetensors), or from a copy of the model elsewhere"
        )


def _default_recipe(ws: Workspace, use_gpu: bool | None) -> RecipeName:
    """Choose the recipe of an earlier run. Without one, choose fine-tune with a GPU and linear-probe without."""
    for name in get_args(RecipeName):
        if name == ws.last_settings("train").get("recipe"):
            return cast(RecipeName, name)
    connect()
    return "fine-tune" if use_gpus(use_gpu) else "linear-probe"


@dataclass(frozen=True)
class _Start:
    """What training starts from."""

    info: "ClassifierInfo"
    classifier: "Classifier"
    frequencies: list[int]
    """Training photographs per class."""


def _start(ws: Workspace, settings: TrainSettings) -> _Start:
    """Build the network with its start weights, which are fetched where need be."""
    import torch

    from aitax_ray.training.feed import read_classes
    from aitax_ray.training.model import ClassifierInfo
    from aitax_ray.training.weights import start_classifier, start_transform

    classes, frequencies = read_classes(ws)
    if sum(frequencies) < (num_workers := settings.num_workers or CPU_WORKERS):
        raise DataError(
            f"{sum(frequencies)} training photographs are too few for {num_workers} workers: "
            "widen the query, or lower --num-workers"
        )
    transform = start_transform(settings.arch, settings.crop_size, settings.weights)
    torch.manual_seed(settings.seed)
    classifier = start_classifier(
        settings.arch, classes, transform.crop_size, settings.head, settings.pretrained, settings.weights
    )
    info = ClassifierInfo(
        arch=settings.arch,
        head=settings.head,
        classes=classes,
        embedding_size=classifier.embedding_size,
        transform=transform,
        epoch=0,
        versions=versions(),
    )
    return _Start(info, classifier, frequencies)


def _tracked(ws: Workspace, settings: TrainSettings, start: _Start) -> Outcome:
    from aitax_ray.training.trackers import tracking

    with tracking(ws, settings.track, settings.model_dump(mode="json", exclude={"root", "force"})) as trackers:
        return _train(ws, settings, start, trackers)


def _train(ws: Workspace, settings: TrainSettings, start: _Start, trackers: "Trackers") -> Outcome:
    from safetensors.torch import load

    from aitax_ray.training.best import is_better
    from aitax_ray.training.curves import watching
    from aitax_ray.training.distributed import RUNS, START
    from aitax_ray.training.embeddings import Network
    from aitax_ray.training.feed import read_labels
    from aitax_ray.training.long_tail import adjust
    from aitax_ray.training.probe import train_head

    info, classifier, frequencies = start.info, start.classifier, start.frequencies
    classes = info.classes
    connect()
    labels, val_labels = read_labels(ws, "train"), read_labels(ws, "val")
    log.info(
        "recipe %s: %s, %s photographs of %s species, %s for validation",
        settings.recipe, settings.arch, f"{len(labels):,}", f"{len(classes):,}", f"{len(val_labels):,}",
    )  # fmt: skip
    history: list[dict[str, Any]] = []
    network = Network(info, classifier)
    if settings.head_first or not settings.train_backbone:
        shown_to = None if settings.train_backbone else trackers
        with watching(ws, trackers=shown_to):
            history, strength = train_head(
                ws, settings, info, network, frequencies, is_last=not settings.train_backbone
            )
    is_trained, best = settings.train_backbone, None
    if is_trained:
        network.onnx  # noqa: B018 - a network that cannot be exported is refused now, not after the training
        probe = next((row for row in history if row["is_best"]), None)
        history, info = _train_all(ws, settings, info, classifier, labels, val_labels, frequencies, trackers)
        if probe and is_better(probe, history[info.epoch - 1], settings.select_by):
            log.warning(
                "no epoch is better than the head on the frozen backbone (top-1 %.3f): the model is that head on the "
                "frozen backbone", probe["top1"],
            )  # fmt: skip
            is_trained, info, best = False, info.model_copy(update={"epoch": 0}), {**probe, "epoch": 0}
            classifier.load_state_dict(load(ws.storage.read_bytes(START)))
    if is_trained:
        ws.storage.delete(workspace.VIEWS)  # training has changed the backbone that made these embeddings
        strength = 0.0
    if settings.train_backbone and settings.long_tail == "crt":
        history, best = _train_head_again(ws, settings, info, classifier, frequencies, history), None
    if is_trained and settings.long_tail == "adjust":
        _write_model(ws, info, classifier)
        strength = _strength_of_trained(ws, settings, val_labels, frequencies)
    adjust(classifier.head, frequencies, strength)
    info = info.model_copy(update={"adjustment": strength})
    _write_model(ws, info, classifier)
    _write_onnx(ws, info, classifier, None if is_trained else network)
    ws.storage.delete(RUNS)
    best = best or next((row for row in history if row.get("is_best")), history[info.epoch - 1])
    if len(val_labels) and best["loss"] is None:
        log.warning("the validation loss was not a finite number in any epoch: try a lower --lr")
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


def _train_all(
    ws: Workspace,
    settings: TrainSettings,
    info: "ClassifierInfo",
    classifier: "Classifier",
    labels: "Labels",
    val_labels: "Labels",
    frequencies: list[int],
    trackers: "Trackers",
) -> "tuple[list[dict[str, Any]], ClassifierInfo]":
    """Train all layers on Ray Train. `classifier` has the start weights, and then gets those of the best epoch.

    Returns the history, and the description of the weights of the best epoch.
    """
    from safetensors.torch import save

    from aitax_ray.training import distributed
    from aitax_ray.training.curves import watching
    from aitax_ray.training.feed import decode_for_evaluation, decode_for_training, photographs

    transform = info.transform
    start = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    ws.storage.write_bytes(distributed.START, save(start))
    # Larger than the crops, so that few of them have to be enlarged.
    shorter_side = max(transform.resize_size, round(1.25 * transform.crop_size))
    num_workers = settings.count_workers(count_resources().gpus if use_gpus(settings.use_gpu) else 0, len(labels))
    in_memory = distributed.fits_in_memory(len(labels) + len(val_labels), shorter_side, num_workers)
    decode = partial(decode_for_training, shorter_side=shorter_side)
    decode_val = partial(decode_for_evaluation, transform=transform)
    stored = photographs(ws, labels, shuffle_files=not in_memory)
    datasets = {"train": stored.map_batches(decode, batch_format="pyarrow")}
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
    log.info("training all layers, learning rate %.2g", settings.learning_rate())
    # It holds the rows of the head, or of a run that was killed. The workers write all rows again.
    ws.storage.delete(workspace.HISTORY)
    with watching(ws, settings.epochs, settings.select_by, trackers):
        state = distributed.fit(ws, settings, config, datasets)
    classifier.load_state_dict(state["model"])
    return state["history"], info.model_copy(update={"epoch": state["epoch"]})


def _train_head_again(
    ws: Workspace,
    settings: TrainSettings,
    info: "ClassifierInfo",
    classifier: "Classifier",
    frequencies: list[int],
    history: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Train the head again on the trained backbone. Returns the history, with one more row for this training."""
    from aitax_ray.training.embeddings import Network
    from aitax_ray.training.history import write_history
    from aitax_ray.training.probe import train_head

    rows, _strength = train_head(ws, settings, info, Network(info, classifier), frequencies, is_last=True)
    best = next(row for row in rows if row["is_best"])
    history = [*history, {**best, "epoch": len(history) + 1}]
    write_history(ws.storage, history)
    return history


def _strength_of_trained(ws: Workspace, settings: TrainSettings, val_labels: "Labels", frequencies: list[int]) -> float:
    """Choose the strength of the logit adjustment for the stored model. Ray Data computes its logits on val."""
    import torch

    from aitax_ray.training.inference import predictions
    from aitax_ray.training.long_tail import choose_strength
    from aitax_ray.training.predict import AdjustedHits, as_matrix
    from aitax_ray.training.settings import InferenceSettings

    if not len(val_labels):
        return 0.0
    inference = InferenceSettings(root=ws.root, use_gpu=settings.use_gpu)
    rows = predictions(ws, val_labels, inference, AdjustedHits, frequencies=frequencies)
    tables = rows.iter_batches(batch_format="pyarrow", batch_size=None)
    batches = (
        (
            torch.from_numpy(as_matrix(table["hits"]) > 0),
            torch.tensor(table["class_index"].to_numpy(), dtype=torch.int64),
        )
        for table in cast("Iterable[pa.Table]", tables)
    )
    return choose_strength(batches, len(frequencies))


def _write_model(ws: Workspace, info: "ClassifierInfo", classifier: "Classifier") -> None:
    from aitax_ray.training.model import serialize

    ws.storage.write_bytes(workspace.WEIGHTS, serialize(info, classifier))
    ws.storage.write_json(workspace.CLASSIFIER, info.model_dump(mode="json"))


def _write_onnx(
    ws: Workspace, info: "ClassifierInfo", classifier: "Classifier", frozen: "Network | None" = None
) -> None:
    """Export the model to ONNX, with which evaluate, index and the service run it on CPUs without torch.

    `frozen` is the network before training, if the backbone has not changed: its export only gets the new head.
    """
    from torch import nn

    from aitax_ray.training.onnx import export_onnx, with_head

    if frozen is not None and isinstance(classifier.head, nn.Linear):
        model = with_head(frozen.onnx, classifier.head)
    else:
        model = export_onnx(classifier, info.transform)
    ws.storage.write_bytes(workspace.ONNX, model)
