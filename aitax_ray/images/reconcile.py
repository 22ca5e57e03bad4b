"""Bring photographs, ledger and manifest into agreement, whatever an earlier run left and whatever happened to files.

A photograph counts as stored when a file holds it. So the files are looked at first (`inventory`), and the ledger
follows them: a photograph that it does not know is entered, one whose file is gone is fetched again.
"""

import logging
import uuid
from pathlib import PurePosixPath

from aitax_ray.errors import DataError
from aitax_ray.images import compact, inventory, shards
from aitax_ray.images.ledger import Ledger, read_ledger
from aitax_ray.storage import Storage
from aitax_ray.workspace import IMAGES, LEDGER

log = logging.getLogger(__name__)

MAX_PASSES = 9  # copies, files that lack photographs, and photographs that the ledger lacks: 4 are enough


def reconcile(storage: Storage, run: str, image_size: int, *, prune: bool = False) -> None:
    """Make the ledger say what the files hold, and mark the photographs that the manifest no longer lists.

    `run` must be later than every run that the ledger knows. Each photograph is kept in one file. With `prune`,
    photographs that the manifest no longer lists are deleted. Raises DataError when the manifest lists one twice.
    """
    shards.delete_unfinished_files(storage)
    changes = inventory.find_changes(storage)
    sound = inventory.move_damaged_away(storage, changes)
    compact.finish_merges(storage, sound)
    if any(path.startswith(f"{LEDGER}/") for path in [*changes.missing, *changes.changed]):
        names = shards.shard_names(storage)  # any of them may have lost its rows
    else:
        names = [PurePosixPath(path).name for path in sound if path.startswith(f"{IMAGES}/")]
    for attempt in range(MAX_PASSES):
        with read_ledger(storage) as ledger:
            if not attempt:
                ledger.check_manifest()
                _log_missing(ledger)
            if _follow_files(storage, ledger, names, run, image_size):
                _follow_manifest(storage, ledger, run, image_size, prune=prune)
                return
        # The ledger is opened again: Arrow does not see that a file that it has read was rewritten, nor a new file.
        names = [name for name in shards.shard_names(storage) if name in names or name.startswith(run)]
    raise DataError(
        f"{LEDGER}/ and {IMAGES}/ cannot be brought into agreement: is another `aitax download` at work there?"
    )


def _follow_files(storage: Storage, ledger: Ledger, names: list[str], run: str, image_size: int) -> bool:
    """Make files and ledger agree on the photographs in some files; returns whether they agreed before."""
    ledger.read_held(names)
    copies, incomplete = ledger.copies(), ledger.incomplete_shards()
    for shard, image_ids in copies.items():
        shards.drop_photographs(storage, shard, image_ids)
    if copies:
        number = sum(map(len, copies.values()))
        log.info("deleted %d copies of photographs that another file of %s/ holds", number, IMAGES)
    for shard in incomplete:
        _rename(storage, run, shard)
    if copies or incomplete:
        return False
    number = ledger.add_unknown(run, image_size)
    if number:
        log.warning("%d photographs were in %s/ and not in the ledger: added to it", number, IMAGES)
    return not number


def _follow_manifest(storage: Storage, ledger: Ledger, run: str, image_size: int, *, prune: bool) -> None:
    """Mark photographs that the manifest no longer lists or lists again; delete the former with `prune`."""
    ledger.mark(run, image_size)
    if prune:
        ledger.mark_pruned(run, image_size)
    pruned = ledger.pruned()
    for shard, image_ids in pruned.items():
        shards.drop_photographs(storage, shard, image_ids)
    if pruned:
        total = sum(map(len, pruned.values()))
        log.info("deleted %d photographs that the manifest no longer lists (--prune)", total)
    ledger.mark_deleted(run, image_size)


def _log_missing(ledger: Ledger) -> None:
    photographs, files = ledger.count_missing()
    if photographs:
        log.warning(
            "%d photographs of the ledger are not there, since %d files of %s/ are missing: they are fetched again",
            photographs, files, IMAGES,
        )  # fmt: skip


def _rename(storage: Storage, run: str, shard: str) -> None:
    """Give a file another name when it lacks photographs that the ledger says it has.

    Then these count as missing, and the others are entered in the ledger under the new name.
    """
    storage.copy(f"{IMAGES}/{shard}", f"{IMAGES}/{run}-{uuid.uuid4().hex}.parquet")
    storage.delete(f"{IMAGES}/{shard}")
    log.warning("%s/%s holds fewer photographs than the ledger says: the others are fetched again", IMAGES, shard)
