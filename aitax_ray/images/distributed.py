"""The download on Ray Data: workers that fetch, decode and store, and one actor that lends them the hosts' places.

The one module in this folder that imports ray.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aitax_ray.cluster import count_resources, read_tables
from aitax_ray.errors import ClusterError, StorageError
from aitax_ray.progress import progress

if TYPE_CHECKING:
    from aitax_ray.cluster import Resources
    from aitax_ray.images.batch import BatchSettings
    from aitax_ray.images.fetch import FetchSettings
    from aitax_ray.images.ledger import Plan
    from aitax_ray.images.limits import HostState, Lease, Limits
    from aitax_ray.images.settings import DownloadSettings
    from aitax_ray.images.turns import Reports
    from aitax_ray.images.watch import Watch
    from aitax_ray.storage import Storage

# A worker has so many batches of so many URLs at hand, from which it takes those whose hosts can be asked. They are
# rows without photographs, so this costs some 10 MB.
BATCHES_PER_ACTOR, BATCH_SIZE = 16, 256
# Workers wait for the network, and the decoders' processes take what CPU is there. Whole CPUs for them could leave none
# for the tasks that feed them, and then Ray Data waits for ever.
CPUS_PER_ACTOR = 0.1
CPUS_PER_WORKER = 4  # one event loop keeps so many decoders busy
SYNC_TIMEOUT_S = 5.0
PHOTOS_LOOKED_FOR = 16
LOOK_S = 1.0


def fetch_on_ray(
    settings: "DownloadSettings",
    storage: "Storage",
    photos: str,
    run: str,
    plan: "Plan",
    limits: "Limits",
    patience_s: float | None,
) -> "list[HostState]":
    """Send the planned URLs through a pool of workers; returns the states of the hosts.

    INPUT: rows of TODO. OUTPUT: a row of counts for each batch; the photographs go from the workers to storage.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from aitax_ray.images.shards import TODO, TODO_SCHEMA

    todo_files = [file.path for file in storage.files(TODO)]
    if photos:
        check_photos_folder(photos, storage.read_table(todo_files[0], ["url"])["url"].to_pylist())
    have = count_resources()
    nodes = have.nodes
    num_actors = min(count_actors(settings, have), -(-plan.total // BATCH_SIZE))
    workers_on_node = -(-num_actors // nodes)
    window = num_actors * BATCHES_PER_ACTOR * BATCH_SIZE
    # On the node of this process: when that is lost the run is over, so no other node's loss takes the lender away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    lender: Any = (
        ray.remote(_Lender)
        .options(num_cpus=0, max_restarts=-1, max_task_retries=0, scheduling_strategy=here)
        .remote(limits)
    )
    batches = read_tables(storage, todo_files, TODO_SCHEMA.names, BATCH_SIZE).map_batches(
        _worker_class(),
        fn_constructor_kwargs={
            "storage": storage,
            # When the workers hold all URLs at once, slow hosts delay no others.
            "settings": batch_settings(settings, run, workers_on_node, patience_s if plan.total > window else None),
            "fetch": fetch_settings(settings, photos),
            "sync": _Sync(lender),
            "workers_on_node": workers_on_node,
        },
        batch_size=BATCH_SIZE,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=num_actors,
            max_tasks_in_flight_per_actor=BATCHES_PER_ACTOR,
            max_concurrent_calls_per_actor=BATCHES_PER_ACTOR,
        ),
        num_cpus=CPUS_PER_ACTOR,
    )
    lost = (
        ray.exceptions.ActorDiedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.OutOfDiskError,
        ray.exceptions.ObjectStoreFullError,
    )
    try:
        with _watched(lender, plan) as watch:
            for row in batches.iter_rows():
                if row["error"]:
                    raise StorageError(row["error"])
                watch.stored += row["urls"]
        return list(ray.get(lender.watch.remote())[1])
    except lost as error:
        raise ClusterError(
            f"Ray lost its workers or has no room left ({' '.join(str(error).split())[:200]}): "
            "once that is mended, the same command goes on"
        ) from error
    finally:
        ray.kill(lender)


def count_actors(settings: "DownloadSettings", have: "Resources") -> int:
    """Decide how many workers fetch photographs: one per 4 CPUs, and at least one per node."""
    num_actors = settings.num_actors or max(have.nodes, int(have.cpus) // CPUS_PER_WORKER)
    return min(num_actors, have.nodes * settings.concurrency)


def _nodes_with_cpus() -> "list[dict[str, Any]]":
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


def check_photos_folder(folder: str, urls: "list[str]") -> None:
    """Raise ClusterError when a node lacks the folder of photographs, or photographs in it that another node has.

    Some of `urls` are looked for on every node. Otherwise a node without the folder would write `not_found` for them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from aitax_ray.images.answers import missing_photos

    sample = [url for url in urls if url.strip().lower().startswith("file:")][:PHOTOS_LOOKED_FOR]
    look, answers = ray.remote(num_cpus=0)(missing_photos), {}
    for node in _nodes_with_cpus():
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = f"{node['NodeName']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
        answers[name] = look.options(scheduling_strategy=here).remote(folder, sample)
    lacking = nodes_that_lack({name: ray.get(answer) for name, answer in answers.items()}, len(sample))
    if lacking:
        raise ClusterError(
            f"the folder of photographs {folder} is not on every node: {'; '.join(lacking)}. "
            "Put it on storage that all nodes mount at this path, or use one node"
        )


def nodes_that_lack(missing: "dict[str, int | None]", looked_for: int) -> "list[str]":
    """Name the nodes that lack the folder (None), or photographs that some other node has."""
    least = min((number for number in missing.values() if number is not None), default=0)
    return [
        f"{name} lacks the folder" if number is None else f"{name} lacks {number} of {looked_for} photographs in it"
        for name, number in missing.items()
        if number is None or number > least
    ]


class _Lender:
    """The actor that lends hosts' places to all workers."""

    def __init__(self, limits: "Limits") -> None:
        import ray

        from aitax_ray.images.limits import HostLimits

        anew = ray.get_runtime_context().was_current_actor_reconstructed
        self._limits = HostLimits(limits, restarted_at=time.monotonic() if anew else None)

    def sync(self, worker: str, usage: "Reports", counts: "Counter[str]", full: bool) -> "dict[str, Lease] | None":
        return self._limits.sync(worker, usage, counts, time.monotonic(), full=full)

    def watch(self) -> "tuple[Counter[str], list[HostState]]":
        return self._limits.counted(), self._limits.states()


class _Sync:
    """Calls the lender from a worker."""

    def __init__(self, lender: Any) -> None:
        self.lender = lender

    async def __call__(
        self, worker: str, usage: "Reports", counts: "Counter[str]", full: bool
    ) -> "dict[str, Lease] | None":
        answer = self.lender.sync.remote(worker, usage, counts, full)
        leases: dict[str, Lease] | None = await asyncio.wait_for(answer, SYNC_TIMEOUT_S)
        return leases


def _worker_class() -> type:
    """BatchDownloader as it is on a node: it knows the node's CPUs, and whether it takes a lost worker's place."""
    import ray

    from aitax_ray.images.batch import BatchDownloader

    class Worker(BatchDownloader):
        def __init__(self, settings: "BatchSettings", workers_on_node: int, **rest: Any) -> None:
            context = ray.get_runtime_context()
            # Of a container Ray knows how many it may use; on a laptop Ray is told of more than there are.
            lent = [node["Resources"].get("CPU") for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
            cpus = min(int(lent[0] or 1) if lent else 1, os.cpu_count() or 1)
            decoders = 1 + cpus // workers_on_node  # one is being handed its next photograph
            again = context.was_current_actor_reconstructed
            super().__init__(settings=settings.with_decoders(decoders), again=again, **rest)

    return Worker


@contextlib.contextmanager
def _watched(lender: Any, plan: "Plan") -> Iterator["Watch"]:
    """Show the progress every second."""
    import ray

    from aitax_ray.images.watch import Watch

    watch, over = Watch(plan.urls), threading.Event()

    def look() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            advance(*watch.look(*ray.get(lender.watch.remote(), timeout=SYNC_TIMEOUT_S)))

    def keep_looking() -> None:
        while not over.wait(LOOK_S):
            look()

    with progress("download", plan.total, "photographs") as advance:
        thread = threading.Thread(target=keep_looking, name="watch", daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            over.set()
            thread.join()
            look()


def host_limits(settings: "DownloadSettings") -> "Limits":
    """Make the limits of each host, for all workers together."""
    from yarl import URL

    from aitax_ray.images.limits import OVERRIDES, HostLimit, Limits

    overrides = dict(OVERRIDES)
    if settings.fallback == "image-cache":  # GBIF asks scripts for one connection: https://techdocs.gbif.org
        overrides[URL(settings.gbif_url).host or ""] = HostLimit(1, settings.per_host_rate)
    for entry in settings.host_limits:
        host, _, numbers = entry.rpartition("=")
        concurrent, _, per_second = numbers.partition("/")
        overrides[host.lower()] = HostLimit(int(concurrent), float(per_second))
    return Limits(HostLimit(settings.per_host, settings.per_host_rate), overrides)


def fetch_settings(settings: "DownloadSettings", photos: str) -> "FetchSettings":
    """How each worker fetches; `photos` is the folder that file:// URLs may lead into."""
    from aitax_ray.images.fetch import FetchSettings

    return FetchSettings(
        timeout_s=settings.timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        max_bytes=settings.max_bytes,
        max_memory=settings.max_memory,
        attempts=settings.attempts,
        respect_robots=settings.respect_robots,
        allow_private=settings.allow_private_hosts,
        local_folder=photos,
        contact=settings.contact,
    )


def batch_settings(
    settings: "DownloadSettings", run: str, workers_on_node: int, patience_s: float | None
) -> "BatchSettings":
    """Make the settings of one of the workers of a node; they share its `concurrency`."""
    from aitax_ray.images.batch import BatchSettings

    return BatchSettings(
        run=run,
        image_size=settings.image_size,
        max_pixels=settings.max_pixels,
        concurrency=max(1, settings.concurrency // workers_on_node),
        shard_size=settings.shard_size,
        patience_s=patience_s,
        image_cache=settings.gbif_url if settings.fallback == "image-cache" else "",
    )
