"""Merge small files of `ledger/` and `images/` after a run, so that the number of files follows the number of rows.

A run may be killed at any step. A merged file of the ledger names in its metadata the files that it replaces; the next
run deletes those that are still there. Of photographs first the merged file is written, then rows of the ledger that
name it, then the old files are deleted: the next run finds what is there twice (`reconcile`). Files that are to be
merged are taken out of the record first, so that the next run looks at them.
"""

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from aitax_ray.images import inventory, shards
from aitax_ray.images.ledger import read_ledger
from aitax_ray.schemas import IMAGES as IMAGES_SCHEMA
from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.workspace import IMAGES, LEDGER

log = logging.getLogger(__name__)

LEDGER_BYTES = 16_000_000  # of a merged file of the ledger: some 100,000 rows
REPLACES = b"replaces"  # in the metadata of a merged file of the ledger: the names of the files that it replaces


def compact(storage: Storage, run: str, image_size: int, shard_size: int) -> None:
    """Merge small files, and record all files that are there then.

    `run` must be later than every run that the ledger knows (`new_run`): its rows decide where a photograph is. A file
    of photographs is small when it holds less than half of `shard_size`. They are only merged after photographs
    were stored, since later stages depend on the names of these files.
    """
    changes = inventory.find_changes(storage)
    image_groups: list[list[str]] = []
    if any(path.startswith(f"{IMAGES}/") for path in changes.new):
        with read_ledger(storage) as ledger:
            image_groups = group(ledger.shard_sizes(), shard_size)
    inventory.record_files(storage, without=[f"{IMAGES}/{name}" for names in image_groups for name in names])
    if image_groups:
        _merge_photographs(storage, image_groups, run, image_size)
    sizes = {path: size for path, (size, _) in inventory.list_files(storage).items() if path.startswith(f"{LEDGER}/")}
    ledger_groups = group(sizes, LEDGER_BYTES)
    for paths in ledger_groups:
        _merge_fates(storage, paths, run, image_size)
    for folder, groups in ((IMAGES, image_groups), (LEDGER, ledger_groups)):
        if groups:
            log.info("merged %d small files of %s/ into %d", sum(map(len, groups)), folder, len(groups))
    inventory.record_files(storage)


def finish_merges(storage: Storage, paths: Iterable[str]) -> None:
    """Delete the files that merged files among these replace: a run that was killed left them."""
    left = []
    for path in paths:
        if path.startswith(f"{LEDGER}/"):
            with storage.fs.open_input_file(storage.full(path)) as file:
                replaced = (pq.read_schema(file).metadata or {}).get(REPLACES, b"[]")
            left += [f"{LEDGER}/{name}" for name in json.loads(replaced)]
    left = [path for path in left if storage.exists(path)]
    for path in left:
        storage.delete(path)
    if left:
        log.info("deleted %d files of %s/ that an earlier run had merged into another", len(left), LEDGER)


def group(sizes: Mapping[str, int], target: int) -> list[list[str]]:
    """Put what is smaller than half of `target` into groups of two or more whose sum is at most `target`."""
    groups: list[list[str]] = []
    room = 0
    for name in sorted(name for name, size in sizes.items() if 2 * size < target):
        if not groups or sizes[name] > room:
            groups.append([])
            room = target
        groups[-1].append(name)
        room -= sizes[name]
    return [names for names in groups if len(names) > 1]


def _merge_photographs(storage: Storage, groups: list[list[str]], run: str, image_size: int) -> None:
    moved: dict[str, str] = {}
    for names in groups:
        tables = [storage.read_table(f"{IMAGES}/{name}", schema=IMAGES_SCHEMA) for name in names]
        target = f"{run}-{uuid.uuid4().hex}.parquet"
        shards.write_photographs(storage, target, pa.concat_tables(tables), image_size)
        moved |= dict.fromkeys(names, target)
    with read_ledger(storage) as ledger:
        ledger.mark_moved(moved, run, image_size)
    for name in moved:
        storage.delete(f"{IMAGES}/{name}")


def _merge_fates(storage: Storage, paths: list[str], run: str, image_size: int) -> None:
    names = [PurePosixPath(path).name for path in paths]
    fates = pa.concat_tables([storage.read_table(path, schema=LEDGER_SCHEMA) for path in paths])
    shards.write_fates(
        storage, f"{run}-{uuid.uuid4().hex}", fates, image_size, metadata={REPLACES: json.dumps(names).encode()}
    )
    for path in paths:
        storage.delete(path)
