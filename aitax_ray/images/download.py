"""The download stage: photographs and a ledger of fates.

A run goes in rounds. Each round lists the URLs without a fate (`ledger.plan`) and streams them through workers. One
actor lends the hosts' places to all workers of the cluster. URLs of slow hosts that still wait at the end of a batch go
to the next round, so that they delay no others. If a run is killed, the ledger knows what is left to do.
"""

import itertools
from typing import TYPE_CHECKING, Any

from aitax_ray.cluster import connect
from aitax_ray.errors import ClusterError, DataError, SettingsError
from aitax_ray.images.distributed import fetch_on_ray, host_limits
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.workspace import LEDGER, Outcome, StageReport, Workspace

if TYPE_CHECKING:
    from aitax_ray.storage import Storage

PATIENCE_S = 10.0  # longest time that a batch waits for slow hosts alone, in seconds
ROUNDS_WITH_PATIENCE = 6  # the next round waits for slow hosts as long as they need


def download(settings: DownloadSettings) -> StageReport:
    """Download the photographs of the manifest that are not stored yet.

    Reads `manifest/media`. Writes `images/*.parquet` and `ledger/*.parquet`, in pairs; a URL whose fate is in the
    ledger is fetched again only if it failed for a reason that may have passed, or if its file is missing. Raises
    SettingsError when photographs of another size are stored, DataError when not one photograph could be stored.
    """
    from aitax_ray.images.answers import NOT_FOUND
    from aitax_ray.images.inventory import find_changes
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
    photos = str(manifest.settings.get("photos") or "")
    retry = _retried(settings, workspace.last_settings("download"))
    # These settings are not part of the fingerprint, so the stage looks complete: a rerun is asked for here.
    again = []
    if earlier is not None:
        may_pass = earlier.reasons if retry is None else retry | ({NOT_FOUND} if photos else set())
        failed = sorted(reason for reason in earlier.reasons if reason in may_pass)
        again += [f"{', '.join(failed)} may have passed"] if failed else []
        again += ["asked to --prune"] if settings.prune and earlier.counts.get("vanished") else []
        again += [str(find_changes(storage))]
    return workspace.run(
        "download",
        settings,
        ("manifest",),
        lambda: _work(settings, storage, photos, retry),
        incremental=True,
        rerun_reason=", ".join(filter(None, again)),
        are_files_own=size is not None,
    )


def _retried(settings: DownloadSettings, then: dict[str, Any]) -> frozenset[str] | None:
    """The reasons of failures that are tried again; None for all. `then` are the settings of the last complete run."""
    from aitax_ray.images import answers, shards
    from aitax_ray.images.batch import DEAD
    from aitax_ray.images.decode import DECOMPRESSION_BOMB

    if settings.retry_failed:
        return None
    retry = {*answers.MAY_PASS, shards.FILE_MISSING}
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
    from aitax_ray.images.compact import compact
    from aitax_ray.images.ledger import new_run, read_ledger
    from aitax_ray.images.reconcile import reconcile
    from aitax_ray.images.shards import TODO

    # Before looking at what is there: by the time Ray runs, the actors of a run that was killed are surely gone.
    connect()
    run = new_run(storage)
    reconcile(storage, run, settings.image_size, prune=settings.prune)
    try:
        _go_round(settings, storage, photos, run, retry)
    finally:
        storage.delete(TODO)
    # Names of later runs: their rows of the ledger come after those of all workers, whatever the workers' clocks say.
    reconcile(storage, new_run(storage), settings.image_size)
    compact(storage, new_run(storage), settings.image_size, settings.shard_size)
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
