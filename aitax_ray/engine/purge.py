"""Deletes withdrawn photographs from every file under a root, and from all its engines. `publish` does it first.

What is deleted follows from the log of take-downs alone, which is completed before the first file changes. So a purge
that was killed at any step is finished by the next one. No later stage becomes stale: see Workspace.edit. Trained
weights and the figures of the evaluation stay as they are.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from aitax_ray import takedowns, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.engine.bundle import SHARDS
from aitax_ray.engine.info import FORMAT_VERSION, INFO, read_current
from aitax_ray.engine.matches import find_photographs, record_matches, search, tables_of_engine
from aitax_ray.engine.purge_stages import Withdrawn, purge_stages
from aitax_ray.errors import AitaxError
from aitax_ray.index.withdraw import delete_shard, write_without
from aitax_ray.storage import Storage, is_of_the_storage
from aitax_ray.takedowns import Request
from aitax_ray.workspace import Workspace

log = logging.getLogger(__name__)

NEXT = "01"  # behind the name of a shard that is replaced, so that the order stays
DONE = f"{takedowns.FOLDER}/purged.json"


def purge(ws: Workspace) -> None:
    """Delete the withdrawn photographs from every file under the root, unless that has been done.

    Raises StorageError when a file cannot be read or written. The next call goes on.
    """
    storage, requests = ws.storage, takedowns.read_active_requests(ws.storage)
    is_interrupted = storage.exists(workspace.EDITING)
    if not is_interrupted and (not requests or _is_done(ws, requests)):
        return
    found = find_photographs(storage, Criteria(requests))
    requests = record_matches(storage, requests, found)
    withdrawn = Withdrawn.of(requests)
    if found.height or is_interrupted:
        log.info("deleting %s withdrawn photographs from all files", f"{len(withdrawn.image_ids):,}")
        ws.edit(lambda: purge_stages(ws, withdrawn))
    engines = [place for place in storage.entries(workspace.ENGINES) if storage.exists(f"{place}/{INFO}")]
    are_clean = [purge_engine(storage, place, withdrawn.image_ids) for place in engines]
    if not all(are_clean):
        return
    storage.write_json(DONE, {"state": _state(ws, requests)})


def purge_engine(storage: Storage, place: str, image_ids: Collection[str]) -> bool:
    """Take photographs out of the engine in the folder `place`; return whether it holds none of them now.

    An engine of another format that holds some, or one that cannot be read, is deleted. The one in use stays, with a
    warning.
    """
    try:
        info = storage.read_json(f"{place}/{INFO}")
        if info["format_version"] == FORMAT_VERSION:
            return _replace_shards(storage, place, info, image_ids)
        if search(tables_of_engine(storage, place), Criteria((), image_ids=image_ids)).is_empty():
            return True
        why = "it holds withdrawn photographs, in an earlier format"
    except (AitaxError, OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        if is_of_the_storage(error):
            raise
        why = f"it may hold withdrawn photographs, and cannot be read ({' '.join(str(error).split())[:200]})"
    if place == f"{workspace.ENGINES}/{read_current(storage, workspace.ENGINES)}":
        log.warning("%s must be published again, and then deleted: %s", storage.address(place), why)
        return False
    log.warning("deleting %s: %s", storage.address(place), why)
    storage.delete(f"{place}/{INFO}")
    storage.delete(place)
    return True


def _replace_shards(storage: Storage, place: str, info: dict[str, Any], image_ids: Collection[str]) -> bool:
    """Replace the shards with some of the photographs. Returns False when the engine has no others.

    The new shards lie beside the old ones until engine.json, which is written in one step, names them.
    """
    listed: dict[str, Any] = info["files"]
    names = sorted({name.split("/")[1] for name in listed if name.startswith(f"{SHARDS}/")})
    for path in storage.entries(f"{place}/{SHARDS}"):
        if path.rsplit("/", 1)[-1] not in names:  # a run that was killed left it
            storage.delete(path)
    replaced, num_dropped = [], 0
    for name in names:
        old, new = f"{SHARDS}/{name}", f"{SHARDS}/{name}{NEXT}"
        num = write_without(storage, f"{place}/{old}", f"{place}/{new}", image_ids)
        if not num:
            continue
        replaced.append(old)
        num_dropped += num
        files = storage.files(f"{place}/{new}")
        listed = {path: digest for path, digest in listed.items() if not path.startswith(f"{old}/")}
        listed |= {
            file.path.removeprefix(f"{place}/"): {"size": file.size, "sha256": storage.sha256(file.path)}
            for file in files
        }
    if not replaced:
        return True
    if num_dropped == info["num_indexed"]:
        log.warning("all photographs of %s are withdrawn: delete the engine", storage.address(place))
        return False
    storage.write_json(f"{place}/{INFO}", info | {"num_indexed": info["num_indexed"] - num_dropped, "files": listed})
    for old in replaced:
        delete_shard(storage, f"{place}/{old}")
    log.info("deleted %s withdrawn photographs from %s", f"{num_dropped:,}", storage.address(place))
    return True


def _is_done(ws: Workspace, requests: Sequence[Request]) -> bool:
    return ws.storage.exists(DONE) and ws.storage.read_json(DONE) == {"state": _state(ws, requests)}


def _state(ws: Workspace, requests: Sequence[Request]) -> str:
    """Make a digest of the requests and of what may hold their photographs."""
    stages = [ws.digest(stage) for stage in ("manifest", "download", "index")]
    state = [sorted(request.name for request in requests), stages, ws.storage.entries(workspace.ENGINES)]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()
