"""Training on Ray Train: the trainer, and what each of its workers does.

Ray Data decodes the photographs, the workers augment and learn. After each epoch a checkpoint is stored; when a worker
or the whole run dies, training goes on from the last one.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aitax_ray import workspace
from aitax_ray.cluster import check_room, use_gpus
from aitax_ray.errors import AitaxError
from aitax_ray.training.batches import FromMemory, FromStream, draw_seed, read_all
from aitax_ray.training.curves import telling
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from ray.data import Dataset

    from aitax_ray.training.settings import TrainSettings

RUNS = "model/runs"
CHECKPOINT = "state.pt"


def fits_in_memory(num_rows: int, side: int) -> bool:
    """Whether decoded photographs of `side` px take a small part of the object store of the smallest node.

    Each worker holds all of them, on whichever node it is; the size of the object store follows from the node's memory.
    """
    import ray

    needed = num_rows * side * side * 3 * 1.4  # photographs are about 4:3
    stores = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
    return bool(needed < 0.15 * min(stores))


def fit(
    ws: Workspace, settings: "TrainSettings", config: dict[str, Any], datasets: dict[str, "Dataset"]
) -> dict[str, Any]:
    """Run Ray Train and give the best checkpoint's state."""
    import ray.train
    import torch
    from ray.train.torch import TorchConfig, TorchTrainer

    use_gpu = use_gpus(settings.use_gpu)
    check_room(
        "training",
        settings.num_workers * settings.cpus_per_worker,
        settings.num_workers if use_gpu else 0,
        "lower --num-workers or --cpus-per-worker, or take --no-use-gpu",
    )
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": 1.0} if use_gpu else {})
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    trainer = TorchTrainer(
        train_loop_per_worker,
        train_loop_config=config,
        datasets=dict(datasets),
        dataset_config=ray.train.DataConfig(datasets_to_split=[] if config["in_memory"] else ["train"]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.num_workers, use_gpu=use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(timeout_s=600),
        run_config=ray.train.RunConfig(
            # Ray goes on with a run of the same name; the folder is emptied when settings or inputs change.
            name="run",
            storage_path=ws.storage.full(RUNS),
            storage_filesystem=ws.storage.fs,
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="selection"),
        ),
    )
    try:
        result = _aside(trainer.fit)
    except ray.train.TrainingFailedError as error:
        cause = str(error).strip().splitlines()[-1]
        raise AitaxError(
            f"training failed ({cause[:300]}): the same command goes on after the last complete epoch"
        ) from error
    best = max(result.best_checkpoints or [], key=lambda pair: pair[1]["selection"], default=(result.checkpoint, None))[
        0
    ]
    assert best is not None  # every epoch reports one
    with best.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / CHECKPOINT, map_location="cpu", weights_only=True)
    # A better epoch than the last one does not know the epochs after it.
    state["history"] = ws.storage.read_json(workspace.HISTORY)
    return state


def _aside(work: Callable[[], Any]) -> Any:
    """Do the work in another thread and wait for it.

    In the main thread Ray Train would take Ctrl-C for itself, for good, and end the process without a word.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="training", daemon=True).start()
    # In steps: a signal that another thread receives is seen by this one only when it wakes.
    while not wait([future], timeout=0.5).done:
        pass
    return future.result()


def train_loop_per_worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker does: build the model, go through the epochs, report and store each."""
    import ray.train
    import torch
    from ray.train.torch import get_device, prepare_model

    from aitax_ray.training.augment import Augmentation
    from aitax_ray.training.feed import collate_evaluation, collate_training
    from aitax_ray.training.loop import Loss, Schedule, make_optimizer, to_batches, train_epoch, validate
    from aitax_ray.training.model import build_classifier
    from aitax_ray.training.settings import TrainSettings
    from aitax_ray.training.transforms import EvalTransform

    settings = TrainSettings.model_construct(**config["settings"])
    transform = EvalTransform(**config["transform"])
    context, device = ray.train.get_context(), get_device()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(settings.seed)  # the head starts the same everywhere
    if device.type == "cpu":  # workers that each take all cores would wait for each other
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    checkpoint, state = ray.train.get_checkpoint(), None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / CHECKPOINT, map_location=device, weights_only=True)
    num_classes = len(config["frequencies"])
    classifier = build_classifier(
        settings.arch, num_classes, transform.crop_size, settings.pretrained and state is None
    )
    if state:
        classifier.load_state_dict(state["model"])
    model = prepare_model(classifier.to(memory_format=torch.channels_last))
    optimizer = make_optimizer(classifier, settings.optimizer, config["lr"], settings.momentum, settings.weight_decay)
    if state:
        optimizer.load_state_dict(state["optimizer"])
    history: list[dict[str, Any]] = state["history"] if state else []
    schedule = Schedule(config["lr"], settings.epochs)
    counts = torch.tensor(config["frequencies"], dtype=torch.float32)
    loss_fn = Loss(
        settings.label_smoothing, torch.log(counts.clamp(min=1) / counts.sum()) if settings.imbalanced else None
    )
    augmentation = Augmentation(transform.crop_size, seed=settings.seed)

    train, val = _sources(config, settings, rank, world)
    for epoch in range(len(history), settings.epochs):
        # From the epoch, so that a run that was interrupted draws (dropout) as one that was not.
        torch.manual_seed(draw_seed(settings.seed, epoch, rank))
        collate = partial(collate_training, augmentation=augmentation, transform=transform, epoch=epoch)
        feed = to_batches(_on(train.training(epoch, collate), device))
        if rank == 0:
            feed = telling(feed, Workspace(config["root"]), epoch, train.num_steps)
        row: dict[str, Any] = {"epoch": epoch + 1}
        row |= train_epoch(model, feed, optimizer, loss_fn, schedule, epoch, train.num_steps)
        collate = partial(collate_evaluation, transform=transform)
        val_feed = val.validation(settings.batch_size, collate) if val else []
        row |= validate(model, to_batches(_on(val_feed, device)), num_classes)
        history.append({name: None if value != value else value for name, value in row.items()})
        _report(config["root"], rank, classifier, optimizer, history)


def _sources(config: dict[str, Any], settings: "TrainSettings", rank: int, world: int) -> tuple[Any, Any]:
    """Where this worker's batches for training and validation come from; None where there is no validation."""
    import ray.train

    sources: list[Any] = []
    for name in ("train", "val"):
        try:
            shard = ray.train.get_dataset_shard(name)
        except KeyError:
            sources.append(None)
            continue
        if config["in_memory"]:
            sources.append(FromMemory(read_all(shard), settings.batch_size, rank, world, settings.seed))
        else:
            sources.append(FromStream(shard, config["num_train"], settings.batch_size, rank, world, settings.seed))
    return sources[0], sources[1]


def _report(root: str, rank: int, classifier: Any, optimizer: Any, history: list[dict[str, Any]]) -> None:
    import ray.train
    import torch

    last = history[-1]
    metrics = {**last, "selection": selection(last)}
    if rank != 0:
        ray.train.report(metrics)
        return
    Workspace(root).storage.write_json(workspace.HISTORY, history)
    with tempfile.TemporaryDirectory() as folder:
        state = {
            "model": classifier.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": last["epoch"],
            "history": history,
        }
        torch.save(state, Path(folder) / CHECKPOINT)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def selection(row: dict[str, Any]) -> float:
    """How good an epoch is: its top-1 on val, then its loss; without validation photographs the last is the best."""
    if row["top1"] is None:
        return float(row["epoch"])
    return float(row["top1"]) + 1e-6 / (1 + float(row["loss"]))


def _on(feed: Any, device: Any) -> Iterator[dict[str, Any]]:
    for batch in feed:
        if len(batch["class_index"]):
            yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
