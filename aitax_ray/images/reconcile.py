"""Bring photographs, ledger and manifest into agreement, whatever an earlier run left and whatever happened to files.

The manifest lists the photographs to have. The ledger says what became of each. The Parquet files of images/ (shards)
hold them. A photograph counts as stored when a shard holds it. So the shards are looked at first (`inventory`), and the
ledger is corrected: a photograph that it does not know is entered, one whose shard is gone is fetched again.
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

# A pass mends one kind of disagreement: copies, then incomplete shards, then photographs that the ledger does not know.
# The fourth pass finds none, unless another process writes meanwhile.
MAX_PASSES = 9


def reconcile(storage: Storage, run: str, image_size: int, *, prune: bool = False) -> None:
    """Make the ledger say what the shards hold, and mark the photographs that the manifest no longer lists.

    `run` is the name of this run. It must sort after all names of runs in the ledger. `image_size` is stored in the
    files that are written. Of a photograph that several shards hold, one copy is kept. With `prune`, photographs that
    the manifest no longer lists are deleted. Raises DataError when the manifest lists a photograph twice, or when
    MAX_PASSES passes do not end in agreement.
    """
    shards.delete_unfinished_files(storage)
    changes = inventory.find_changes(storage)  # since the last run wrote its inventory
    intact = inventory.move_damaged_away(storage, changes)  # those of the new and changed files that can be read
    compact.finish_merges(storage, intact)
    if any(path.startswith(f"{LEDGER}/") for path in [*changes.missing, *changes.changed]):
        names = shards.shard_names(storage)  # the ledger lost rows, nobody knows of which shards: all are compared
    else:
        names = [PurePosixPath(path).name for path in intact if path.startswith(f"{IMAGES}/")]
    for attempt in range(MAX_PASSES):
        with read_ledger(storage) as ledger:
            if not attempt:
                ledger.check_manifest()
                _log_missing(ledger)
            if _match_files(storage, ledger, names, run, image_size):
                _match_manifest(storage, ledger, run, image_size, prune=prune)
                return
        # Opened again in each pass: Arrow does not notice files that are rewritten or added after it has read them.
        # Compared are the shards of before and those that this run has renamed.
        names = [name for name in shards.shard_names(storage) if name in names or name.startswith(run)]
    raise DataError(
        f"{LEDGER}/ and {IMAGES}/ cannot be brought into agreement: is another `aitax download` at work there?"
    )


def _match_files(storage: Storage, ledger: Ledger, names: list[str], run: str, image_size: int) -> bool:
    """Make files and ledger agree on the photographs in some files; returns whether they agreed before."""
    ledger.read_ids_in_shards(names)
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


def _match_manifest(storage: Storage, ledger: Ledger, run: str, image_size: int, *, prune: bool) -> None:
    """Mark photographs that left the manifest, and unmark those that came back. With `prune`, delete those that left.

    What is to be deleted is in the ledger first, so that a run that is killed meanwhile is finished by the next one.
    """
    ledger.mark_listed_and_unlisted(run, image_size)
    if prune:
        ledger.mark_to_delete(run, image_size)
    to_delete = ledger.to_delete()
    for shard, image_ids in to_delete.items():
        shards.drop_photographs(storage, shard, image_ids)
    if to_delete:
        total = sum(map(len, to_delete.values()))
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
    """Rename a shard that lacks photographs which the ledger says it has.

    The ledger then finds no shard of the old name, so that the missing photographs are fetched again. The photographs
    that are there are entered in the ledger under the new name.
    """
    storage.copy(f"{IMAGES}/{shard}", f"{IMAGES}/{run}-{uuid.uuid4().hex}.parquet")
    storage.delete(f"{IMAGES}/{shard}")
    log.warning("%s/%s lacks photographs that the ledger lists: they are fetched again", IMAGES, shard)
