"""Keeps the photographs that were identified, with their answers, where the operator wants that (`--keep-queries`).

    <day>/<id>.zip   the photographs as JPEG without metadata, and query.json
    deleted/<id>     the client deleted a query before it was written; gone after some hours

An id is the time and the sha256 of a token that only the client gets. So any copy of the service can check a token,
also after a restart. Queries are written in the background, within a bound: slow storage slows no answer.
"""

import hashlib
import io
import json
import logging
import math
import os
import re
import secrets
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from aitax_ray.errors import RequestError, StorageError
from aitax_ray.serving.assessment import Kept
from aitax_ray.storage import Storage

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

ID = re.compile(r"(\d{4}-\d{2}-\d{2})T\d{6}Z-([0-9a-f]{32})")
TIME = "%Y-%m-%dT%H%M%SZ"
DELETED = "deleted"
TEST = ".test"  # always the same name: so the same problem gives the same message
QUALITY = 90  # of JPEGs: the photographs have the size that the network sees
NUM_WRITERS = 2
MAX_UNWRITTEN_BYTES = 100_000_000  # of the pixels that wait to be written; later photographs are not kept
GIVE_UP_S = 900.0  # a query that has waited longer is not written any more
CLOCKS_S = 7200.0  # the clocks of the copies of the service, and that of the storage, may differ by less
MAX_EARLY_DELETIONS = 1000  # deletions of queries that are not there yet, per GIVE_UP_S and process: each writes a file
COUNT_S = 60.0  # time between two looks at how much is kept, and at least so many times the time that a look takes:
COUNT_SHARE = 20


class QueryStore:
    """Keeps queries in a folder or URL. Several copies of the service may share it."""

    def __init__(self, location: str, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        """While nothing can be written there, nothing is kept: storage that is away stops no answer."""
        self._location, self._max_bytes, self._clock = location, max_bytes, clock
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(NUM_WRITERS, thread_name_prefix="queries")
        self._num_unwritten_bytes = 0
        self._num_bytes: int | None = None  # that are kept; not known yet
        self._count_at, self._problem = math.inf, ""  # inf: it is being counted
        self._early = deque[float](maxlen=MAX_EARLY_DELETIONS)
        self._jobs = set[Future[None]]()
        self._submit(self._count)

    @cached_property
    def _storage(self) -> Storage:
        return Storage(self._location.rstrip("/"))  # asks some clouds, and so is tried again when it fails

    def keep(self, photos: "Sequence[Image.Image]", query: Mapping[str, Any]) -> Kept | None:
        """Keep photographs and what is to be known of them. None: there is no room, and they are not kept."""
        size = sum(3 * photo.width * photo.height for photo in photos)
        with self._lock:
            if self._num_bytes is None or self._num_bytes >= self._max_bytes:
                if time.monotonic() >= self._count_at:
                    self._count_at = math.inf
                    self._submit(self._count)  # some may have been deleted, or storage is back
                return None
            if self._num_unwritten_bytes + size > MAX_UNWRITTEN_BYTES:
                return None
            self._num_unwritten_bytes += size
        token, started = secrets.token_urlsafe(24), self._clock()
        query_id = f"{datetime.fromtimestamp(started, UTC):{TIME}}-{_digest(token)}"
        self._submit(self._write, query_id, started, list(photos), dict(query), size)
        return Kept(id=query_id, token=token)

    def delete(self, query_id: str, token: str) -> None:
        """Delete a query. Raises RequestError: 403 for a wrong token, 404 if there is none, 503 without storage."""
        found = ID.fullmatch(query_id)
        if found is None:
            raise RequestError("there is no such query", 404)
        if not secrets.compare_digest(found[2], _digest(token)):
            raise RequestError("this token does not belong to the query", 403)
        try:
            if self._remove(query_id):
                return
            if not self._is_recent(query_id):
                raise RequestError("there is no such query", 404)
            # It may be written yet, here or by another copy of the service, which looks for this mark afterwards.
            self._mark_deleted(query_id)
            self._remove(query_id)
        except StorageError as error:
            log.error("a kept query cannot be deleted: %s", error)
            raise RequestError("the photographs cannot be deleted now; try again later", 503) from error

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until what was to be kept is written."""
        wait(list(self._jobs), timeout_s)

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        job = self._pool.submit(work, *arguments)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _write(
        self, query_id: str, started: float, photos: "Sequence[Image.Image]", query: Mapping[str, Any], size: int
    ) -> None:
        try:
            if self._clock() - started > GIVE_UP_S:
                return
            content = pack(photos, {"id": query_id, **query})
            self._storage.write_bytes(_path(query_id), content)
            with self._lock:
                self._num_bytes = (self._num_bytes or 0) + len(content)
            if self._storage.exists(f"{DELETED}/{query_id}"):
                self._storage.delete(_path(query_id))
            if time.monotonic() >= self._count_at:
                self._count()
            self._problem = ""
        except Exception as error:  # whatever storage raises: the answer has been given
            self._complain(error)
        finally:
            with self._lock:
                self._num_unwritten_bytes -= size

    def _count(self) -> None:
        """Find out how much is kept, and delete what killed writers and old deletions left."""
        begin, self._count_at = time.monotonic(), math.inf
        try:
            total, now, storage = 0, self._clock(), self._storage
            if self._num_bytes is None:
                _write_test(storage)
            for info in storage.fs.get_file_info(pafs.FileSelector(storage.base or "/", recursive=True)):
                if not info.is_file:
                    continue
                name = info.path[len(storage.base) + 1 :]
                is_rest = info.base_name.startswith(".") or name.startswith(f"{DELETED}/")
                if is_rest and info.mtime is not None and now - info.mtime.timestamp() > 2 * GIVE_UP_S + CLOCKS_S:
                    storage.delete(name)
                else:
                    total += info.size or 0
        except Exception as error:  # whatever storage raises, the next look may succeed
            self._complain(error)
            self._count_at = time.monotonic() + COUNT_S
            return
        with self._lock:
            is_full, was_full = total >= self._max_bytes, (self._num_bytes or 0) >= self._max_bytes
            self._num_bytes = total
        if is_full and not was_full:
            log.warning("photographs are not kept any more: %s bytes are there", f"{total:,}")
        self._count_at = time.monotonic() + max(COUNT_S, COUNT_SHARE * (time.monotonic() - begin))

    def _complain(self, error: Exception) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            log.error("photographs cannot be kept: %s", error)

    def _remove(self, query_id: str) -> bool:
        is_there = self._storage.exists(_path(query_id))
        self._storage.delete(_path(query_id))
        return is_there

    def _is_recent(self, query_id: str) -> bool:
        try:
            then = datetime.strptime(query_id[: query_id.rindex("-")], TIME).replace(tzinfo=UTC)
        except ValueError:
            return False
        return abs(self._clock() - then.timestamp()) < GIVE_UP_S + CLOCKS_S

    def _mark_deleted(self, query_id: str) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._early) == MAX_EARLY_DELETIONS and now - self._early[0] < GIVE_UP_S:
                raise RequestError("too many photographs are deleted now; try again later", 503)
            self._early.append(now)
        self._storage.write_bytes(f"{DELETED}/{query_id}", b"")


def pack(photos: "Sequence[Image.Image]", query: Mapping[str, Any]) -> bytes:
    """Write the file of a query: its photographs, of which only the pixels are kept, and query.json."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("query.json", json.dumps(query, indent=1, ensure_ascii=False) + "\n")
        for number, photo in enumerate(photos, 1):
            jpeg = io.BytesIO()
            photo.convert("RGB").save(jpeg, "JPEG", quality=QUALITY, exif=b"", icc_profile=None, comment=b"")
            archive.writestr(f"{number}.jpg", jpeg.getvalue())
    return buffer.getvalue()


def check_queries(location: str) -> None:
    """Raise StorageError, with the remedy, when nothing can be written there."""
    try:
        _write_test(Storage(location.rstrip("/")))
    except StorageError as error:
        raise StorageError(f"--keep-queries: {error}") from error


def locate_queries(given: str | None) -> str | None:
    """Make the path of a folder absolute: replicas may run elsewhere. A URL stays."""
    return os.path.abspath(given) if given and "://" not in given else given  # noqa: PTH100


def _write_test(storage: Storage) -> None:
    storage.write_bytes(TEST, b"")
    storage.delete(TEST)


def _path(query_id: str) -> str:
    return f"{query_id[:10]}/{query_id}.zip"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:32]
