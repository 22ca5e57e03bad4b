"""Copies an engine to another folder or storage, where it becomes the current one. See `publish --to`."""

import logging
from concurrent.futures import ThreadPoolExecutor

from aitax_ray.engine.bundle import SHARDS
from aitax_ray.engine.engines import VERSION
from aitax_ray.engine.info import (
    INFO,
    NUM_FILES_AT_A_TIME,
    EngineInfo,
    find_faults,
    join,
    read_info,
    refuse,
    write_current,
)
from aitax_ray.engine.purge import purge_engine
from aitax_ray.errors import EngineError
from aitax_ray.progress import progress
from aitax_ray.storage import Storage
from aitax_ray.takedowns import WITHDRAWN_FILE, read_requests, read_withdrawn, withdrawn_ids, write_withdrawn

log = logging.getLogger(__name__)


def copy_engine(storage: Storage, place: str, destination: str) -> str:
    """Copy the engine in `place` to <destination>/<version>/, and name it in <destination>/current.

    Each file is read back and compared with its sha256. Files that are there already are not copied again, so the same
    call continues after an interruption. engine.json comes last: without it there is no engine. Photographs that were
    withdrawn are deleted from the versions that were copied before. Returns the address of the copy.

    Raises EngineError when the engine is damaged, or when the copy is not equal to it.
    """
    target, info = Storage(destination.rstrip("/")), read_info(storage, place)
    refuse(storage, place, find_faults(storage, place, info))
    num_copied = 0
    pool = ThreadPoolExecutor(NUM_FILES_AT_A_TIME)
    with pool, progress("copy", len(info.files), "files") as advance:
        for is_new in pool.map(lambda name: _copy(storage, place, target, info, name), info.files):
            num_copied += is_new
            advance(1)
    path, description = f"{info.version}/{INFO}", storage.read_bytes(join(place, INFO))
    if target.sizes([path]) == [None] or target.read_bytes(path) != description:
        target.write_bytes(path, description)
    read_info(target, info.version)
    _delete_replaced(target, info)
    withdrawn = _copy_withdrawn(storage, place, target)
    write_current(target, "", info.version)
    _delete_withdrawn(target, withdrawn, info.version)
    address = target.address(info.version)
    log.info("%s is the current engine there; copied %d of %d files", address, num_copied, len(info.files))
    return address


def _delete_replaced(target: Storage, info: EngineInfo) -> None:
    """Delete the shards that an earlier copy had before photographs were taken out of them."""
    for file in target.files(f"{info.version}/{SHARDS}"):
        if file.path.removeprefix(f"{info.version}/") not in info.files:
            target.delete(file.path)


def _copy_withdrawn(storage: Storage, place: str, target: Storage) -> frozenset[str]:
    """Add the photographs that were withdrawn here to those withdrawn at the destination, and return all of these.

    Photographs of requests that were mistakes are no longer withdrawn there.
    """
    here = read_withdrawn(storage, join(place.rpartition("/")[0], WITHDRAWN_FILE))
    there = read_withdrawn(target, WITHDRAWN_FILE)
    restored = withdrawn_ids(request for request in read_requests(storage) if request.restored is not None)
    withdrawn = here | there.difference(restored)
    if withdrawn != there:
        write_withdrawn(target, WITHDRAWN_FILE, withdrawn)
    return withdrawn


def _delete_withdrawn(target: Storage, image_ids: frozenset[str], version: str) -> None:
    """Take photographs out of the versions that were copied before this one, see `purge_engine`."""
    for name in target.entries("") if image_ids else ():
        if VERSION.fullmatch(name) and name != version and target.exists(f"{name}/{INFO}"):
            purge_engine(target, name, image_ids)


def _copy(storage: Storage, place: str, target: Storage, info: EngineInfo, name: str) -> bool:
    """Copy a file unless it is there; tells whether it was copied."""
    path = f"{info.version}/{name}"
    if _is_there(target, path, info, name):
        return False
    target.copy(join(place, name), path, storage)
    if not _is_there(target, path, info, name):
        raise EngineError(
            f"{target.address(path)} is not what was published: check the engine with `aitax engines verify`, and run "
            "the same command again"
        )
    return True


def _is_there(target: Storage, path: str, info: EngineInfo, name: str) -> bool:
    file = info.files[name]
    return target.sizes([path]) == [file.size] and target.sha256(path) == file.sha256
