"""Connect to Ray: join the cluster that this process was started in, or start a small one on this machine.

Besides the shells of the stages this is the only module that imports ray. Its functions import it when they are called.
"""

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aitax_ray.errors import ClusterError

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

    from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

# Each stage needs one CPU per actor and at least one more for tasks. With fewer logical CPUs its actors and tasks could
# wait for each other for ever.
MIN_LOGICAL_CPUS = 4
CONNECT_TIMEOUT_S = 5.0
MAX_READ_TASKS = 1000
NOTICE = b"Set ray log level from environment variable"
HEAD_TIMEOUT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # after which Ray ends a process that has lost its head
TOKEN_REMEDY = "export RAY_AUTH_MODE=token, and have the token of the cluster in ~/.ray/auth_token or in RAY_AUTH_TOKEN"

_started_here = False
_reported = set[str]()


def connect() -> None:
    """Make sure that this process is connected to Ray. Raises ClusterError, whose message says what to do.

    In a job (`ray job submit`), and wherever RAY_ADDRESS is set, the process joins that cluster. Otherwise it starts a
    local one, which ends with the process.
    """
    # Reports of training wait until the controller looks for them. Ray's 2 s are long compared with a short epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    # Ray's core writes its log lines to stderr too. Users cannot act on them; errors come as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray warns when there are more workers than cores. The logical CPUs below are more than the cores on purpose.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(2 * MIN_LOGICAL_CPUS))
    # Where the machine is busy, the proxy of Ray Serve needs longer than the 5 s after which Ray Serve ends it.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    import ray

    global _started_here
    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    # This is no public interface of Ray, which shows what its nodes report in no other way.
    internals: Any = ray._private.worker
    internals.print_to_stdstream = _report
    try:
        if os.environ.get("RAY_ADDRESS"):
            _check_address(os.environ["RAY_ADDRESS"])
            # What the processes of a cluster print stays in Ray's log files: a job's log holds the lines of its stage.
            with _without_notice():
                ray.init(logging_level=logging.WARNING, log_to_driver=False)
        else:
            with _without_notice():
                ray.init(
                    address="local",
                    num_cpus=max(MIN_LOGICAL_CPUS, os.cpu_count() or 1),
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            _started_here = True
            atexit.register(stop)
    except Exception as error:  # Ray raises RayError, a bare Exception, or any error of its start
        where = os.environ.get("RAY_ADDRESS")
        remedy = (
            f"check that the cluster at RAY_ADDRESS={where} runs, or unset RAY_ADDRESS to work on this machine"
            if where
            else "stop other Ray processes (`ray stop`), make room in /tmp and /dev/shm, or set RAY_ADDRESS"
        )
        if where and (isinstance(error, ray.exceptions.AuthenticationError) or "uthentic" in str(error)):
            remedy = TOKEN_REMEDY
        raise ClusterError(f"Ray cannot start ({' '.join(str(error).split())[:300]}): {remedy}") from error
    _watch_head()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends the process without a word, and with another status
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.memory_usage_poll_interval_s = None  # one thread per task would watch memory that nobody looks at
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after Ray has set its own level
    # Ray Data logs the traceback of an error that it also raises. We show that error in one line.
    if not log.isEnabledFor(logging.DEBUG):
        logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)
    log.info(
        "connected to Ray: %s CPUs, %s GPUs",
        int(ray.cluster_resources().get("CPU", 0)),
        int(ray.cluster_resources().get("GPU", 0)),
    )


def _report(data: dict[str, Any], **_: object) -> None:
    """Log what a node of Ray reports in one line, once. Ray would print it again and again, with its traceback."""
    text = "\n".join(data["lines"]).strip()
    lines = text.splitlines() or [""]
    line = lines[-1 if lines[0].startswith("Traceback") else 0].strip()
    if line and line not in _reported:
        _reported.add(line)
        log.warning("Ray reports: %s", line)
        log.debug("the whole text of this report:\n%s", text)


@contextlib.contextmanager
def _without_notice() -> Iterator[None]:
    """Leave out of stderr the line in which Ray's core says that it has read RAY_BACKEND_LOG_LEVEL."""
    original = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            caught.seek(0)
            for line in caught:
                if NOTICE not in line:
                    os.write(2, line)


def read_tables(
    storage: "Storage", paths: list[str], columns: list[str], rows_per_block: int, *, shuffle_files: bool = False
) -> "Dataset":
    """Stream columns of Parquet files as a Ray Dataset, in blocks of at most `rows_per_block` rows.

    With `shuffle_files` each pass over the Dataset reads the files in another order.

    Small blocks share the work evenly. `ray.data.read_parquet` is not used: it first reads the footers in 32 actors,
    which takes some 5 s per Dataset on two cores.
    """
    import ray

    def read(batch: "pa.Table") -> Iterator["pa.Table"]:
        for path in batch["item"].to_pylist():
            yield from storage.read_batches(path, columns, rows_per_block)

    names: Dataset = ray.data.from_items(paths, override_num_blocks=min(len(paths), MAX_READ_TASKS) or 1)
    if shuffle_files:  # of the names only: Ray Data would hold all rows to shuffle these
        names = names.random_shuffle()
    tables = names.map_batches(read, batch_size=1, batch_format="pyarrow")
    return tables.repartition(target_num_rows_per_block=rows_per_block)


@dataclass(frozen=True)
class Resources:
    """What the nodes of a cluster have together, for Ray."""

    nodes: int
    cpus: float
    gpus: float
    memory_bytes: float = 0
    object_store_bytes: float = 0


def count_resources() -> Resources:
    """Count what the cluster has now. A node without CPUs for Ray, such as a head that only rules, is no node here."""
    import ray

    have = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return Resources(
        max(1, len(nodes)),
        have.get("CPU", 0),
        have.get("GPU", 0),
        have.get("memory", 0),
        have.get("object_store_memory", 0),
    )


def use_gpus(setting: bool | None) -> bool:
    """Decide whether to use GPUs: as the setting says, or, without one, when the cluster has any."""
    import ray

    if setting is not None:
        return setting
    found = bool(ray.cluster_resources().get("GPU", 0) > 0)
    if not found and not _started_here:
        log.info("the cluster has no GPU now: with --use-gpu it would be asked for some")
    return found


def check_room(what: str, cpus: float, gpus: float, remedy: str) -> None:
    """Raise ClusterError when Ray has too few CPUs or GPUs for `what` and one CPU for reading.

    Ray itself would wait for ever. A cluster that was joined may grow: there this only warns.
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
    log.warning("%s: waiting until the cluster grows", message)


def stop() -> bool:
    """Stop Ray if `connect` started it, and return whether it did. A cluster that was joined goes on."""
    global _started_here
    if not _started_here:
        return False
    import ray

    # Ray waits a second for its monitor, which adds nodes to clusters and does not react to the signal.
    with contextlib.suppress(Exception):  # this is no public interface of Ray
        node: Any = ray._private.worker._global_node
        node.kill_monitor(check_alive=False)
    ray.shutdown()
    _started_here = False
    return True


def _watch_head() -> None:
    """End this process with a message when the head is lost. Ray ends it after a minute, without a word."""
    import ray

    address = ray.get_runtime_context().gcs_address
    # A head that has a database of its own may come back before (https://docs.ray.io, "GCS fault tolerance").
    patience_s = float(os.environ.get(HEAD_TIMEOUT, "60")) - 2 * CONNECT_TIMEOUT_S

    def is_over() -> bool:
        return not ray.is_initialized() or ray.get_runtime_context().gcs_address != address

    def watch() -> None:
        if is_lost(address, patience_s, is_over):
            todo = "the same command goes on" if _started_here else "start it again, then the same command goes on"
            sys.stderr.write(f"aitax: the head of the cluster, {address}, does not answer any more: {todo}\n")
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=watch, name="head", daemon=True).start()


def is_lost(address: str, patience_s: float, is_over: Callable[[], bool], look_s: float = CONNECT_TIMEOUT_S) -> bool:
    """Wait until nothing has answered at an address for `patience_s` seconds (True), or until `is_over` (False)."""
    seen, pause = time.monotonic(), threading.Event()
    while not pause.wait(look_s) and not is_over():
        try:
            _check_address(address)
            seen = time.monotonic()
        except OSError:
            if time.monotonic() - seen > patience_s:
                return True
    return False


def _check_address(address: str) -> None:
    """Raise OSError when nothing listens at an address: Ray itself would try for more than a minute."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:  # otherwise it is "auto", "local" or a URL, which Ray checks
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
