"""The files of `images/` and `ledger/`: which are there, which changed since the last run, which are damaged.

At its end a run writes the size and the time of change of every file to `ledger/files.json`. The next run compares one
listing of each folder with it. This finds files that are missing or were changed, without opening any. Only files that
differ are opened: of a new file of photographs the footer and the keys are read, a changed one is read whole.

Damaged files are moved to a hidden folder, `.damaged`, beside them. No file with photographs is deleted for damage.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage, is_of_the_storage
from aitax_ray.workspace import IMAGES, LEDGER

log = logging.getLogger(__name__)

RECORD = f"{LEDGER}/files.json"
DAMAGED = ".damaged"
THREADS = 16  # that check files: they mostly wait for storage

State = tuple[int, int]  # size in bytes, time of the last change in ns (0 where storage does not tell)


@dataclass(frozen=True)
class Changes:
    """Paths of files that differ from the record."""

    missing: list[str]
    changed: list[str]
    new: list[str]
    no_record: bool = False

    def __str__(self) -> str:
        if self.no_record:
            return f"{RECORD}, the list of its files, is missing"
        parts = [("missing", self.missing), ("changed", self.changed), ("new", self.new)]
        return ", ".join(
            f"{len(paths):,} {'file is' if len(paths) == 1 else 'files are'} {word} ({paths[0]}"
            + (", ...)" if len(paths) > 1 else ")")
            for word, paths in parts
            if paths
        )


def list_files(storage: Storage) -> dict[str, State]:
    """List the Parquet files of both folders; one call to storage for each folder."""
    found = {}
    for folder in (IMAGES, LEDGER):
        try:
            infos = storage.fs.get_file_info(pafs.FileSelector(storage.full(folder), allow_not_found=True))
        except OSError as error:
            raise StorageError(f"{storage.address(folder)} cannot be listed: {error}") from error
        for info in infos:
            name = info.base_name
            if info.type == pafs.FileType.File and name.endswith(".parquet") and not name.startswith("."):
                found[f"{folder}/{name}"] = (info.size or 0, info.mtime_ns or 0)
    return dict(sorted(found.items()))


def find_changes(storage: Storage) -> Changes:
    """Compare the files with the record of the last run."""
    files, record = list_files(storage), _read_record(storage)
    known = record or {}
    return Changes(
        missing=[path for path in known if path not in files],
        changed=[path for path, state in files.items() if path in known and known[path] != state],
        new=[path for path in files if path not in known],
        no_record=record is None,
    )


def record_files(storage: Storage, without: Iterable[str] = ()) -> None:
    """Write the record: these files are sound. Those `without` are checked again by the next run."""
    files = list_files(storage)
    for path in without:
        files.pop(path, None)
    if files:
        storage.write_bytes(RECORD, json.dumps(files, indent=0).encode())


def record_changes(storage: Storage, paths: Iterable[str]) -> None:
    """Write into the record what some files are now, which this program has changed or deleted on purpose."""
    record, files = _read_record(storage), list_files(storage)
    if record is not None:
        for path in paths:
            record.pop(path, None)
            if path in files:
                record[path] = files[path]
        storage.write_bytes(RECORD, json.dumps(dict(sorted(record.items())), indent=0).encode())


def move_damaged_away(storage: Storage, changes: Changes) -> list[str]:
    """Check new and changed files, and move those that are damaged to a hidden folder; returns the others."""
    paths = [*changes.new, *changes.changed]
    whole = set(changes.changed)
    with ThreadPoolExecutor(THREADS, "check") as threads:
        problems = list(threads.map(lambda path: _find_problem(storage, path, whole=path in whole), paths))
    for path, problem in zip(paths, problems, strict=True):
        if problem:
            target = move_away(storage, path)
            log.warning("%s is damaged (%s): moved to %s", storage.address(path), problem, storage.address(target))
    return [path for path, problem in zip(paths, problems, strict=True) if not problem]


def move_away(storage: Storage, path: str) -> str:
    """Move a file to the hidden folder beside it; returns where it is now."""
    folder, name = path.split("/")
    target = f"{folder}/{DAMAGED}/{name}"
    try:
        storage.fs.create_dir(storage.full(f"{folder}/{DAMAGED}"), recursive=True)
        storage.fs.move(storage.full(path), storage.full(target))
    except OSError as error:
        raise StorageError(f"{storage.address(path)} is damaged and cannot be moved away: {error}") from error
    return target


def _find_problem(storage: Storage, path: str, *, whole: bool) -> str:
    """Tell what is wrong with a file; "" when nothing is. Raises StorageError when its bytes cannot be read."""
    try:
        with pq.ParquetFile(storage.full(path), filesystem=storage.fs) as file:
            if "image_id" not in file.schema_arrow.names:
                return "no column image_id"
            some = None if whole or path.startswith(f"{LEDGER}/") else ["image_id"]
            for batch in file.iter_batches(256, columns=some):
                if "jpeg_sha256" in batch.schema.names and not _are_hashes_right(batch):
                    return "a photograph is not what was stored"
    except (OSError, pa.ArrowException) as error:
        if is_of_the_storage(error):
            raise storage.unreadable(path, error) from error
        storage.sha256(path)  # damaged means that the bytes can be read and are no Parquet file
        return " ".join(str(error).split())[:200]
    return ""


def _are_hashes_right(photographs: pa.RecordBatch) -> bool:
    pairs = zip(photographs["jpeg"].to_pylist(), photographs["jpeg_sha256"].to_pylist(), strict=True)
    return all(not digest or hashlib.sha256(jpeg).hexdigest() == digest for jpeg, digest in pairs)


def _read_record(storage: Storage) -> dict[str, State] | None:
    if not storage.exists(RECORD):
        return None
    try:
        return {path: (size, time) for path, (size, time) in storage.read_json(RECORD).items()}
    except (ValueError, TypeError, AttributeError):
        return None  # the record itself is damaged
