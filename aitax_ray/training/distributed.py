"""Training on Ray Train: the trainer, and the function that Ray calls in each worker. worker.py has the work itself.

Ray Data decodes the photographs. The workers augment them and train. Each epoch stores a checkpoint. After a crash of
a worker or of the run, training continues from the last checkpoint.
"""

import json
import logging
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aitax_ray.cluster import check_room, count_resources, use_gpus
from aitax_ray.errors import AitaxError
from aitax_ray.storage import Storage
from aitax_ray.training.batches import FromMemory, FromStream, read_all
from aitax_ray.training.best import SelectBy, selection
from aitax_ray.training.history import read_history
from aitax_ray.training.worker import Place, run_epochs
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from ray.data import Dataset

    from aitax_ray.training.settings import TrainSettings

log = logging.getLogger(__name__)

RUNS = "model/runs"
START = "model/runs/start.safetensors"  # start weights of all workers, so that workers need not fetch any
RUN = "run"
SNAPSHOT = f"{RUNS}/{RUN}/checkpoint_manager_snapshot.json"  # in which Ray Train lists the checkpoints
KEPT_SNAPSHOT = f"{RUNS}/snapshot.json"
CHECKPOINT = "state.pt"


def fits_in_memory(num_rows: int, side: int, num_workers: int) -> bool:
    """Whether decoded photographs of `side` px take less than 15 % of the object store of the smallest node.

    Each worker holds all of them, and all workers may be on one node: their copies together must be smaller than its
    object store. The size of the object store follows from the node's memory.
    """
    import ray

    needed = num_rows * side * side * 3 * 1.4  # photographs are about 4:3
    stores = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
    return bool(needed < min(0.15, 1 / num_workers) * min(stores))


def fit(
    ws: Workspace, settings: "TrainSettings", config: dict[str, Any], datasets: dict[str, "Dataset"]
) -> dict[str, Any]:
    """Run Ray Train and return the state of the best epoch, with the history of all epochs.

    Raises AitaxError when a worker fails more than `max_failures` times, and when the training loss is no longer a
    finite number.
    """
    import ray.train
    import torch

    mend_snapshot(ws.storage)
    trainer = _make_trainer(ws, settings, config, datasets)
    try:
        result = _run_in_thread(trainer.fit)
    except ray.train.TrainingFailedError as error:
        cause = str(error).strip().splitlines()[-1]
        todo = "the same command continues after the last complete epoch"
        if "No space left on device" in str(error):
            folder = ws.storage.address(RUNS)
            todo = f"make room in {folder}, or in the folder for temporary files of the node, and {todo}"
        raise AitaxError(f"training failed ({cause[:300]}): {todo}") from error
    history = read_history(ws.storage)
    if history[-1]["train_loss"] is None:
        raise AitaxError(
            f"training diverged in epoch {len(history)}: with the learning rate {config['lr']:.2g} the loss is no "
            f"longer a finite number; try a lower one, such as --lr {config['lr'] / 10:.2g}"
        )
    checkpoints = result.best_checkpoints or [(result.checkpoint, {"selection": 0.0})]
    best, _ = max(checkpoints, key=lambda pair: pair[1]["selection"])
    with best.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / CHECKPOINT, map_location="cpu", weights_only=True)
    # The checkpoint of an earlier epoch does not have the rows of the epochs after it.
    return {**state, "history": history}


def _make_trainer(
    ws: Workspace, settings: "TrainSettings", config: dict[str, Any], datasets: dict[str, "Dataset"]
) -> Any:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    use_gpu = use_gpus(settings.use_gpu)
    most = settings.count_workers(count_resources().gpus if use_gpu else 0, config["num_train"])
    least = settings.min_workers or most
    check_room(
        "training",
        least * settings.cpus_per_worker,
        least if use_gpu else 0,
        "lower --num-workers or --cpus-per-worker, or take --no-use-gpu",
    )
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": 1.0} if use_gpu else {})
    # With two numbers Ray Train is elastic. The type annotation of Ray does not have this form.
    num_workers: Any = (least, most) if least < most else most
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    return TorchTrainer(
        train_loop_per_worker,
        train_loop_config=config,
        datasets=dict(datasets),
        dataset_config=ray.train.DataConfig(datasets_to_split=[] if config["in_memory"] else ["train"]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers, use_gpu=use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(timeout_s=600),
        run_config=ray.train.RunConfig(
            # Ray continues a run of the same name. The folder is emptied when settings or inputs change.
            name=RUN,
            storage_path=ws.storage.full(RUNS),
            storage_filesystem=ws.storage.fs,
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="selection"),
        ),
    )


def _run_in_thread(work: Callable[[], Any]) -> Any:
    """Do the work in another thread and wait for it.

    In the main thread Ray Train would handle Ctrl-C itself and end the process without a message.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="training", daemon=True).start()
    # With a timeout, because Python handles a signal only when this thread wakes up.
    while not wait([future], timeout=0.5).done:
        pass
    return future.result()


def train_loop_per_worker(config: dict[str, Any]) -> None:
    """Run the epochs in a worker of Ray Train, from the last checkpoint on; Ray calls this in each worker."""
    import ray.train
    import torch
    from ray.train.torch import get_device, prepare_model
    from safetensors.torch import load

    context, device = ray.train.get_context(), get_device()
    place = Place(context.get_world_rank(), context.get_world_size(), context.get_local_world_size(), device)
    checkpoint, state = ray.train.get_checkpoint(), None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / CHECKPOINT, map_location=device, weights_only=True)
    train, val = _sources(config, place)
    storage = Workspace(config["root"]).storage
    start = load(storage.read_bytes(START))
    report = partial(_report, storage, place.rank, config["settings"]["select_by"])
    run_epochs(config, place, train, val, start, state, report, prepare_model)


def _sources(config: dict[str, Any], place: Place) -> tuple[Any, Any]:
    """Make the sources of this worker's batches: for training, and for validation (None without photographs)."""
    import ray.train

    batch_size, seed = config["settings"]["batch_size"], config["settings"]["seed"]
    sources: list[Any] = []
    for name in ("train", "val"):
        try:
            shard = ray.train.get_dataset_shard(name)
        except KeyError:
            sources.append(None)
            continue
        if config["in_memory"]:
            sources.append(FromMemory(read_all(shard), batch_size, place.rank, place.world, seed))
        else:
            sources.append(FromStream(shard, config["num_train"], batch_size, place.rank, place.world, seed))
    return sources[0], sources[1]


def _report(storage: Storage, rank: int, select_by: SelectBy, state: dict[str, Any], row: dict[str, Any]) -> None:
    """Report an epoch to Ray Train. The first worker also hands over its state, which Ray Train stores."""
    import ray.train
    import torch

    metrics = {**row, "selection": selection(row, select_by)}
    if rank != 0:
        ray.train.report(metrics)
        return
    keep_snapshot(storage)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / CHECKPOINT)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def keep_snapshot(storage: Storage) -> None:
    """Copy the list of checkpoints unless it is broken, see `mend_snapshot`."""
    content = storage.read_if_there(SNAPSHOT)
    if content is not None and _is_json(content):
        storage.write_bytes(KEPT_SNAPSHOT, content)


def mend_snapshot(storage: Storage) -> None:
    """Put the copy in place of a broken list of checkpoints; training starts over if the copy cannot be used either.

    Ray Train overwrites the list in place: a full disk or a power cut leaves it empty, and no run can continue with it.
    """
    content = storage.read_if_there(SNAPSHOT)
    if content is None or _is_json(content):
        return
    kept = storage.read_if_there(KEPT_SNAPSHOT)
    names = _list_checkpoints(kept or b"")
    if kept and names is not None and all(storage.exists(f"{RUNS}/{RUN}/{name}") for name in names):
        storage.write_bytes(SNAPSHOT, kept)
    else:
        log.warning("the list of checkpoints is broken: training starts over")
        storage.delete(SNAPSHOT)


def _list_checkpoints(snapshot: bytes) -> list[str] | None:
    """List the folders that a list of checkpoints names; None if it is broken."""
    try:
        return [result["checkpoint_dir_name"] for result in json.loads(snapshot)["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        return None


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
