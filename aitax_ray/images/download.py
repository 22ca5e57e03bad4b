"""The download stage: photographs and a ledger of fates, by Ray Data. The one module here that imports ray."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from aitax_ray.cluster import connect, read_tables
from aitax_ray.errors import ClusterError, DataError, SettingsError, StorageError
from aitax_ray.progress import progress
from aitax_ray.settings import HOW, StageSettings
from aitax_ray.workspace import LEDGER, Outcome, StageReport, Workspace

if TYPE_CHECKING:
    from aitax_ray.images.fetch import FetchSettings
    from aitax_ray.storage import Storage

# An actor works on this many batches at a time, so that the last URLs of one, which wait for slow hosts, do not leave
# its connections idle.
BATCHES_PER_ACTOR = 4
# Actors wait for the network; decoding takes what CPU is there. Whole CPUs for them could leave none for the tasks
# that feed them, and then Ray Data waits for ever.
CPUS_PER_ACTOR = 0.1


class DownloadSettings(StageSettings):
    """Fetch the photographs of the manifest, bring them to one form, keep a ledger of every URL's fate."""

    image_size: int = Field(512, ge=32, le=4096)
    """Shorter side of the stored photographs in px, the longer at most 4 times that; small ones are not enlarged."""
    concurrency: Annotated[int, HOW] = Field(64, ge=1)
    """Requests at a time, over all workers."""
    per_host: Annotated[int, HOW] = Field(8, ge=1)
    """Requests at a time to one host, over all workers."""
    timeout_s: Annotated[float, HOW] = Field(30.0, gt=0)
    """Seconds for one request; half of it to connect, and between two parts of an answer."""
    max_bytes: Annotated[int, HOW] = Field(30_000_000, ge=1)
    """Largest photograph that is fetched, in bytes."""
    attempts: Annotated[int, HOW] = Field(4, ge=1)
    """Requests for one URL before it is given up; only for failures that may pass."""
    shard_size: Annotated[int, HOW] = Field(256, ge=1, le=2048)
    """Photographs in one Parquet file, and the unit in which work is given out and done again after a crash."""
    num_actors: Annotated[int, HOW] = Field(2, ge=1)
    """Ray actors that fetch; more of them for more nodes. They share the limits above."""
    retry_failed: Annotated[bool, HOW] = False
    """Try again what failed for a reason that may have passed: timeouts, server errors, too many requests."""
    allow_private_hosts: Annotated[bool, HOW] = False
    """Fetch from loopback and private addresses too."""
    contact: Annotated[str, HOW] = Field("", pattern=r"^[\x20-\x7e]*$")
    """Mail address or web page by which GBIF and the hosts of photographs can reach you; goes into the User-Agent."""


def download(settings: DownloadSettings) -> StageReport:
    """Download what the manifest lists and is not there yet.

    Reads `manifest/media`. Writes `images/*.parquet` and `ledger/*.parquet`, a pair for each batch of photographs; a
    URL in the ledger is not fetched again. Raises SettingsError when what is there has another size, DataError when
    not one photograph could be stored.
    """
    from aitax_ray.images.answers import MAY_PASS, PRIVATE_ADDRESS, TOO_LARGE
    from aitax_ray.images.shards import stored_image_size

    workspace = Workspace(settings.root)
    storage, manifest = workspace.storage, workspace.require("manifest")
    size = None if settings.force else stored_image_size(storage)
    if size not in (None, settings.image_size):
        raise SettingsError(
            f"the photographs under {settings.root} were stored with --image-size {size}: go on with that, "
            f"or fetch all of them again at {settings.image_size} with --force"
        )
    forget = MAY_PASS if settings.retry_failed else frozenset()
    earlier = workspace.report("download")
    if settings.allow_private_hosts and not (earlier and earlier.settings.get("allow_private_hosts")):
        forget |= {PRIVATE_ADDRESS}
    if earlier and settings.max_bytes > earlier.settings.get("max_bytes", settings.max_bytes):
        forget |= {TOO_LARGE}
    # The settings that `forget` follows from only say how, so to the workspace the stage is complete.
    again = ", ".join(sorted(forget & earlier.reasons.keys())) if earlier is not None else ""
    photos = str(manifest.settings.get("photos") or "")
    return workspace.run(
        "download",
        settings,
        ("manifest",),
        lambda: _work(settings, storage, photos, forget),
        incremental=True,
        again=again and f"{again} may have passed",
    )


def _work(settings: DownloadSettings, storage: "Storage", photos: str, forget: frozenset[str]) -> Outcome:
    from aitax_ray.images import shards

    # Before looking at what is there: by the time Ray runs, the actors of a run that was killed are surely gone.
    connect()
    shards.settle(storage, forget)
    try:
        todo = shards.write_todo(storage)
        if todo:
            _run_on_ray(settings, storage, photos, todo)
    finally:
        storage.delete(shards.TODO)
    shards.settle(storage)
    outcome = shards.count(storage)
    if not outcome.counts["ok"]:
        raise DataError(_why_nothing(outcome, settings))
    return outcome


def _run_on_ray(settings: DownloadSettings, storage: "Storage", photos: str, todo: int) -> None:
    """Send what is to do through a pool of actors.

    INPUT: rows of TODO. OUTPUT: a row of counts for each batch; the photographs go from the actors to storage.
    """
    import ray

    from aitax_ray.images.batch import BatchDownloader
    from aitax_ray.images.shards import TODO, TODO_SCHEMA

    # No more actors than there is work for, nor than the hosts' limit can be shared among.
    num_actors = min(settings.num_actors, settings.per_host, settings.concurrency, -(-todo // settings.shard_size))
    todo_files = [file.path for file in storage.files(TODO)]
    batches = read_tables(storage, todo_files, TODO_SCHEMA.names, settings.shard_size).map_batches(
        BatchDownloader,
        fn_constructor_kwargs={
            "storage": storage,
            "image_size": settings.image_size,
            "settings": _share(settings, photos, num_actors),
        },
        batch_size=settings.shard_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=num_actors,
            max_tasks_in_flight_per_actor=BATCHES_PER_ACTOR,
            max_concurrent_calls_per_actor=BATCHES_PER_ACTOR,
        ),
        num_cpus=CPUS_PER_ACTOR,
    )
    num_urls = num_ok = num_bytes = 0
    try:
        with progress("download", todo, "photographs") as advance:
            for row in batches.iter_rows():
                if row["error"]:
                    raise StorageError(row["error"])
                num_urls, num_ok, num_bytes = num_urls + row["urls"], num_ok + row["ok"], num_bytes + row["bytes"]
                advance(row["urls"], f"{num_urls - num_ok:,} failed, {num_bytes / 1e6:,.0f} MB")
    except (ray.exceptions.ActorDiedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise ClusterError(
            f"Ray lost its workers ({' '.join(str(error).split())[:200]}): the same command goes on"
        ) from error


def _share(settings: DownloadSettings, photos: str, num_actors: int) -> "FetchSettings":
    """The settings of one actor's fetcher: its part of the limits."""
    from aitax_ray.images.fetch import FetchSettings

    return FetchSettings(
        concurrency=settings.concurrency // num_actors,
        per_host=settings.per_host // num_actors,
        timeout_s=settings.timeout_s,
        max_bytes=settings.max_bytes,
        attempts=settings.attempts,
        allow_private=settings.allow_private_hosts,
        local_folder=photos,
        contact=settings.contact,
    )


def _why_nothing(outcome: Outcome, settings: DownloadSettings) -> str:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in outcome.reasons.items())
    if not reasons:
        return "the manifest lists no photographs"
    remedy = f"see {LEDGER}/ under {settings.root} for each URL, or try again with --retry-failed"
    if set(outcome.reasons) == {"private_address"}:
        remedy = "their hosts are on this machine or its own network; if that is meant, add --allow-private-hosts"
    return f"not one photograph could be stored ({reasons}): {remedy}"
