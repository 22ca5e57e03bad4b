"""The download stage: photographs and a ledger of fates.

A run goes in rounds: what has no fate yet is planned (`ledger.plan`) and streamed through a pool of workers, which
are lent the hosts' places by one actor for the whole cluster. What waits for slow hosts at the end of a batch is left
to the next round, so that it holds up nothing else. Whatever dies on the way, the ledger knows what is left.
"""

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from aitax_ray.cluster import connect
from aitax_ray.errors import ClusterError, DataError, SettingsError
from aitax_ray.images.distributed import fetch_on_ray, host_limits
from aitax_ray.settings import HOW, StageSettings
from aitax_ray.workspace import LEDGER, Outcome, StageReport, Workspace

if TYPE_CHECKING:
    from aitax_ray.storage import Storage

PATIENCE_S = 10.0  # how long a batch waits for nothing but slow hosts
ROUNDS_WITH_PATIENCE = 6  # the next one takes all the time it needs
HOST_LIMIT = r"^[^=\s]+=\d+/\d+(\.\d+)?$"


class DownloadSettings(StageSettings):
    """Fetch the photographs of the manifest, bring them to one form, keep a ledger of every URL's fate."""

    image_size: int = Field(512, ge=32, le=4096)
    """Shorter side of the stored photographs in px, the longer at most 4 times that; small ones are not enlarged."""
    concurrency: Annotated[int, HOW] = Field(64, ge=1)
    """Requests at a time, over all workers."""
    per_host: Annotated[int, HOW] = Field(8, ge=1)
    """Requests at a time to one host, over all workers."""
    per_host_rate: Annotated[float, HOW] = Field(10.0, gt=0)
    """Requests a second to one host, over all workers."""
    host_limits: Annotated[tuple[Annotated[str, Field(pattern=HOST_LIMIT)], ...], HOW] = ()
    """Other limits for some hosts, each as HOST=REQUESTS_AT_A_TIME/REQUESTS_A_SECOND."""
    timeout_s: Annotated[float, HOW] = Field(60.0, gt=0)
    """Seconds for one request in all."""
    connect_timeout_s: Annotated[float, HOW] = Field(10.0, gt=0)
    """Seconds for the connection."""
    read_timeout_s: Annotated[float, HOW] = Field(20.0, gt=0)
    """Seconds between two parts of an answer."""
    max_bytes: Annotated[int, HOW] = Field(50_000_000, ge=1)
    """Largest photograph that is fetched, in bytes."""
    max_pixels: Annotated[int, HOW] = Field(100_000_000, ge=1, le=178_956_970)
    """Largest photograph that is decoded, in pixels."""
    max_memory: Annotated[int, HOW] = Field(1_000_000_000, ge=1)
    """Bytes of photographs as fetched that a worker holds at a time."""
    attempts: Annotated[int, HOW] = Field(4, ge=1)
    """Requests for one URL before a run gives it up; only for failures that may pass."""
    shard_size: Annotated[int, HOW] = Field(256, ge=1, le=4096)
    """Photographs in one Parquet file."""
    num_actors: Annotated[int | None, HOW] = Field(None, ge=1)
    """Ray actors that fetch, each with its decoders; by default one for four CPUs, and at least one a node."""
    fallback: Annotated[Literal["none", "image-cache"], HOW] = "none"
    """Where to ask for photographs whose originals are dead: GBIF's image cache, one at a time."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    retry_failed: Annotated[bool, HOW] = False
    """Try again all that failed; otherwise only what failed for a reason that may have passed."""
    prune: Annotated[bool, HOW] = False
    """Delete stored photographs that the manifest has no more; otherwise they are only marked."""
    respect_robots: Annotated[bool, HOW] = True
    """Leave photographs alone whose hosts ask not to use them for AI (X-Robots-Tag: noai, noimageai)."""
    allow_private_hosts: Annotated[bool, HOW] = False
    """Fetch from loopback and private addresses too."""
    contact: Annotated[str, HOW] = Field("", pattern=r"^[\x20-\x7e]*$")
    """Mail address or web page by which GBIF and the hosts of photographs can reach you; goes into the User-Agent."""

    @field_validator("host_limits")
    @classmethod
    def _can_be_kept(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if 0 in (float(number) for number in entry.rpartition("=")[2].split("/")):
                raise ValueError(f"{entry}: a host that may be asked nothing would be waited for for ever")
        return entries


def download(settings: DownloadSettings) -> StageReport:
    """Download what the manifest lists and is not there yet.

    Reads `manifest/media`. Writes `images/*.parquet` and `ledger/*.parquet`, in pairs; a URL whose fate is in the
    ledger is fetched again only if it failed for a reason that may have passed. Raises SettingsError when what is there
    has another size, DataError when not one photograph could be stored.
    """
    from aitax_ray.images.shards import stored_image_size

    workspace = Workspace(settings.root)
    storage, manifest = workspace.storage, workspace.require("manifest")
    size = None if settings.force else stored_image_size(storage)
    if size not in (None, settings.image_size):
        raise SettingsError(
            f"the photographs under {settings.root} were stored with --image-size {size}: go on with that, "
            f"or fetch all of them again at {settings.image_size} with --force"
        )
    earlier = workspace.report("download")
    retry = _retried(settings, workspace.last_settings("download"))
    # The settings that these follow from only say how, so to the workspace the stage is complete.
    again = []
    if earlier is not None:
        failed = sorted(reason for reason in earlier.reasons if retry is None or reason in retry)
        again += [f"{', '.join(failed)} may have passed"] if failed else []
        again += ["asked to --prune"] if settings.prune and earlier.counts.get("vanished") else []
    return workspace.run(
        "download",
        settings,
        ("manifest",),
        lambda: _work(settings, storage, str(manifest.settings.get("photos") or ""), retry),
        incremental=True,
        again=", ".join(again),
    )


def _retried(settings: DownloadSettings, then: dict[str, Any]) -> frozenset[str] | None:
    """The reasons of failures that are tried again; None for all. `then` are the settings of the last complete run."""
    from aitax_ray.images import answers
    from aitax_ray.images.batch import DEAD
    from aitax_ray.images.decode import DECOMPRESSION_BOMB

    if settings.retry_failed:
        return None
    retry = set(answers.MAY_PASS)
    if settings.allow_private_hosts and not then.get("allow_private_hosts"):
        retry.add(answers.PRIVATE_ADDRESS)
    if not settings.respect_robots and then.get("respect_robots", True):
        retry.add(answers.NO_AI)
    if settings.max_bytes > then.get("max_bytes", settings.max_bytes):
        retry.add(answers.TOO_LARGE)
    if settings.max_pixels > then.get("max_pixels", settings.max_pixels):
        retry.add(DECOMPRESSION_BOMB)
    if then and settings.fallback != "none" and then.get("fallback") != settings.fallback:
        retry |= DEAD
    return frozenset(retry)


def _work(settings: DownloadSettings, storage: "Storage", photos: str, retry: frozenset[str] | None) -> Outcome:
    from aitax_ray.images.ledger import new_run, read_ledger, settle
    from aitax_ray.images.shards import TODO

    # Before looking at what is there: by the time Ray runs, the actors of a run that was killed are surely gone.
    connect()
    run = new_run(storage)
    settle(storage, run, settings.image_size, prune=settings.prune)
    try:
        _go_round(settings, storage, photos, run, retry)
    finally:
        storage.delete(TODO)
    settle(storage, run, settings.image_size)
    with read_ledger(storage) as ledger:
        outcome = ledger.outcome()
    if not outcome.counts["ok"]:
        raise DataError(_why_nothing(outcome, settings))
    return outcome


def _go_round(
    settings: DownloadSettings, storage: "Storage", photos: str, run: str, retry: frozenset[str] | None
) -> None:
    """Plan and fetch until nothing is left to do."""
    from aitax_ray.images.ledger import read_ledger

    limits, measured, left = host_limits(settings), dict[str, float](), 0
    for number in itertools.count():
        with read_ledger(storage) as ledger:
            plan = ledger.plan(run, retry, limits, measured)
        if not plan.total:
            return
        patience_s = PATIENCE_S if number < ROUNDS_WITH_PATIENCE else None
        if patience_s is None and plan.total == left:
            raise ClusterError(f"{left:,} photographs get no fate, however often Ray is given them: see Ray's logs")
        left = plan.total
        states = fetch_on_ray(settings, storage, photos, run, plan, limits, patience_s)
        measured = {state.host: state.capacity for state in states if state.answered}


def _why_nothing(outcome: Outcome, settings: DownloadSettings) -> str:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in outcome.reasons.items())
    if not reasons:
        return "the manifest lists no photographs"
    remedy = f"see {LEDGER}/ under {settings.root} for each URL, or try again with --retry-failed"
    if set(outcome.reasons) == {"private_address"}:
        remedy = "their hosts are on this machine or its own network; if that is meant, add --allow-private-hosts"
    return f"not one photograph could be stored ({reasons}): {remedy}"
