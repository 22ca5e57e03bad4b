"""Connect to Ray: the cluster this process was started in, else a small one on this machine.

The one place outside the stages' shells that imports ray, and it does so late.
"""

import atexit
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aitax_ray.errors import ClusterError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

# With fewer logical CPUs a pipeline of actors and tasks can wait for itself for ever: every stage needs one CPU for
# each actor and at least one more for tasks.
MIN_LOGICAL_CPUS = 4
CONNECT_TIMEOUT_S = 5.0
MAX_READ_TASKS = 1000

_started_here = False


def connect() -> None:
    """Make sure that this process is connected to Ray. Raises ClusterError with the remedy when it cannot be.

    In a job (`ray job submit`) and wherever RAY_ADDRESS is set, that cluster is joined; else a local one is started,
    which ends with this process.
    """
    # Training reports wait for the controller's next look; Ray's 2 s is long beside a short epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    # The core's own log lines go to stderr as well as to its files; what a user can act on comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray warns of many workers for few cores; the logical CPUs below are meant to be more than the cores.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(2 * MIN_LOGICAL_CPUS))
    import ray

    global _started_here
    if ray.is_initialized():
        return
    try:
        if os.environ.get("RAY_ADDRESS"):
            _check_address(os.environ["RAY_ADDRESS"])
            ray.init(logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=max(MIN_LOGICAL_CPUS, os.cpu_count() or 1),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
            _started_here = True
            atexit.register(stop)
    except Exception as error:  # Ray raises its RayError, a bare Exception, and whatever its start-up meets
        where = os.environ.get("RAY_ADDRESS")
        remedy = (
            f"check that the cluster at RAY_ADDRESS={where} runs, or unset RAY_ADDRESS to work on this machine"
            if where
            else "stop other Ray processes (`ray stop`), make room in /tmp and /dev/shm, or set RAY_ADDRESS"
        )
        raise ClusterError(f"Ray cannot start ({' '.join(str(error).split())[:300]}): {remedy}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.memory_usage_poll_interval_s = None  # a thread a task that watches its memory, which nobody looks at
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after Ray has set it
    log.info(
        "connected to Ray: %s CPUs, %s GPUs",
        int(ray.cluster_resources().get("CPU", 0)),
        int(ray.cluster_resources().get("GPU", 0)),
    )


def read_tables(storage: "Storage", paths: list[str], columns: list[str], rows_per_block: int) -> "Dataset":
    """Stream columns of Parquet files as a Ray Dataset in blocks of at most `rows_per_block` rows, for even work.

    `ray.data.read_parquet` reads the footers first, in 32 actors, which costs some 5 s for each Dataset on two cores.
    """
    import ray

    def read(batch: "pa.Table") -> Iterator["pa.Table"]:
        for path in batch["item"].to_pylist():
            yield from storage.read_batches(path, columns, rows_per_block)

    names = ray.data.from_items(paths, override_num_blocks=min(len(paths), MAX_READ_TASKS) or 1)
    tables = names.map_batches(read, batch_size=1, batch_format="pyarrow")
    return tables.repartition(target_num_rows_per_block=rows_per_block)


def use_gpus(wanted: bool | None) -> bool:
    """Whether to use GPUs: as wanted, else when the cluster has any."""
    import ray

    return wanted if wanted is not None else ray.cluster_resources().get("GPU", 0) > 0


def check_room(what: str, cpus: float, gpus: float, remedy: str) -> None:
    """Make sure that the cluster has what `what` needs beside one CPU for reading; Ray would wait for it for ever.

    A cluster that was joined may grow: there it is a warning. Raises ClusterError.
    """
    import ray

    have = ray.cluster_resources()
    if cpus + 1 <= have.get("CPU", 0) and gpus <= have.get("GPU", 0):
        return
    message = (
        f"{what} needs {cpus + 1:g} CPUs and {gpus:g} GPUs, Ray has {have.get('CPU', 0):g} and {have.get('GPU', 0):g}"
    )
    if _started_here:
        raise ClusterError(f"{message}: {remedy}")
    log.warning("%s: waiting until the cluster has grown", message)


def stop() -> bool:
    """Stop Ray when `connect` started it; tells whether that was so. A cluster that was joined is left as it is."""
    global _started_here
    if not _started_here:
        return False
    import ray

    # The monitor, which would add nodes to a cluster, does not listen, and Ray waits a second for it.
    with contextlib.suppress(Exception):  # that is no interface Ray promises to keep
        node: Any = ray._private.worker._global_node
        node.kill_monitor(check_alive=False)
    ray.shutdown()
    _started_here = False
    return True


def _check_address(address: str) -> None:
    """Raise OSError when nothing listens there: Ray itself would try for more than a minute."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:  # else "auto", "local" or a URL: for Ray to find out
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
