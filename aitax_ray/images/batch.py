"""Download a batch of URLs: fetch each when its host may be asked, decode it, store it with its fate.

This is the unit of work of the download stage. It does not know what runs it.
"""

import asyncio
import hashlib
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from aitax_ray.errors import AitaxError, ClusterError, StorageError
from aitax_ray.fates import RETRIED
from aitax_ray.images import answers, shards
from aitax_ray.images.content import HTML, IIIF_MANIFEST, PDF
from aitax_ray.images.decode import MAX_ELONGATION, ONE_PIXEL, TRUNCATED, Photo, Refusal
from aitax_ray.images.decoders import DecoderPool
from aitax_ray.images.fetch import Attempt, Fetcher, FetchSettings
from aitax_ray.images.sizes import IMAGE_CACHE, ORIGINAL, SMALL_COPY, Copy, cached_copy, copies
from aitax_ray.images.turns import Sync, Turns
from aitax_ray.images.writer import ShardWriter
from aitax_ray.schemas import IMAGES
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets

log = logging.getLogger(__name__)

Row = dict[str, Any]

# Failures that an original shares with its smaller copy, because both are on the same host.
SAME_FOR_BOTH = answers.MAY_PASS | {answers.NO_AI, answers.PRIVATE_ADDRESS, answers.BAD_URL}
# Failures of an original after which GBIF's image cache may be asked.
DEAD = answers.MAY_PASS | {
    answers.NOT_FOUND, answers.GONE, answers.HTTP_ERROR, answers.EMPTY,
    HTML, PDF, IIIF_MANIFEST, ONE_PIXEL, TRUNCATED,  # something else is at the address
}  # fmt: skip
RESOLVERS = 64  # threads that resolve names: the name of a dead host takes half a minute


@dataclass(frozen=True)
class BatchSettings:
    """Settings of one worker."""

    run: str  # name of the run that it belongs to
    image_size: int
    max_pixels: int
    concurrency: int  # requests at a time
    shard_size: int
    num_decoders: int = 1  # processes
    flush_s: float = 20.0  # longest time from a fetch to its storage, in seconds
    patience_s: float | None = None  # longest time that a batch waits for slow hosts alone, in seconds; None: no limit
    image_cache: str = ""  # GBIF's address, whose image cache is asked for dead originals; "": it is not asked

    def with_decoders(self, number: int) -> "BatchSettings":
        """Return the same settings with another number of decoders."""
        return replace(self, num_decoders=number)


class BatchDownloader:
    """Downloads batches, several at a time, within the limits of one worker."""

    def __init__(
        self, storage: Storage, settings: BatchSettings, fetch: FetchSettings, sync: Sync, *, again: bool = False
    ) -> None:
        """With `again` the worker replaces one that was lost. Batches come again, partly done already."""
        self.storage, self.settings = storage, settings
        self.turns = Turns(sync, settings.concurrency)
        self.fetcher, self._photos = Fetcher(fetch, self.turns), fetch.local_folder
        self.decoders = DecoderPool(settings.num_decoders, settings.image_size, settings.max_pixels)
        self._writer: ShardWriter | None = None
        self._done = shards.stored_lately(storage, settings.run) if again else frozenset()
        self._in_progress = 0

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """INPUT: rows of shards.TODO_SCHEMA. OUTPUT: one row: how many have a fate, how many are deferred, the error.

        Returns when the fates are on storage. An error of the storage, or of a node where no decoder starts, is text in
        the row, because Ray prints a page of stack traces for an exception.
        """
        error = _check_folder(self._photos)
        if error:
            return pa.table({"urls": [0], "deferred": [0], "error": [error]})
        writer = self._open_writer()
        rows = [row for row in batch.to_pylist() if row["image_id"] not in self._done]
        work = Work()
        tasks = [asyncio.create_task(self._download(row, work, writer)) for row in rows]
        try:
            await work.wait(tasks, self.settings.patience_s)
            await _cancel(tasks)  # first, so that no deferred row begins while this waits for storage
            written = [task.result() for task in tasks if not task.cancelled()]
            for future in set(written):
                await asyncio.shield(future)
        except (StorageError, ClusterError) as error:
            return pa.table({"urls": [0], "deferred": [0], "error": [str(error)]})
        finally:
            await _cancel(tasks)
        deferred = len(rows) - len(written)
        return pa.table({"urls": [batch.num_rows - deferred], "deferred": [deferred], "error": [""]})

    async def close(self) -> None:
        """Give back all places at hosts, and stop the decoders."""
        await self.fetcher.close()
        self.decoders.close()

    def _open_writer(self) -> ShardWriter:
        if self._writer is None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(RESOLVERS, "worker"))
            settings = self.settings
            self._writer = ShardWriter(
                self.storage, settings.image_size, settings.run, settings.shard_size, settings.flush_s
            )
        return self._writer

    async def _download(self, row: Row, work: "Work", writer: ShardWriter) -> "asyncio.Future[None]":
        """Give a row its fate. The returned future is done when the fate is on storage."""
        self._in_progress += 1
        try:
            try:
                fates, best = await self._try_copies(row, work)
            except AitaxError:
                raise
            except Exception:
                # One row must not end the run, now and at each later try.
                log.exception("%s", hide_secrets(row["url"]))
                attempt = Attempt(row["url"], answers.UNEXPECTED)
                fates, best = [self._fate(row, Copy(row["url"], ORIGINAL), attempt, 1) | {"status": "failed"}], None
            # The counts for the progress go with the next report on hosts.
            final = next(fate for fate in reversed(fates) if fate["status"] != RETRIED)
            num_bytes = sum(fate["num_bytes"] for fate in fates)
            self.turns.counts.update({final["reason"] or "ok": 1, "bytes": num_bytes})
            return await writer.add(fates, best)
        finally:
            work.end(row["image_id"])
            self._in_progress -= 1
            if not self._in_progress:
                writer.flush()  # no other row is in progress that could fill the shard

    async def _try_copies(self, row: Row, work: "Work") -> tuple[list[Row], Row | None]:
        """Ask for one copy after another until one is large enough. Return attempts (LEDGER) and the best (IMAGES)."""
        size, fates = self.settings.image_size, list[Row]()
        best: Row | None = None
        final = 0  # number of the attempt that decides
        candidates = copies(row["url"], size)
        if self.settings.image_cache:
            candidates.append(cached_copy(self.settings.image_cache, row["gbif_id"], row["url"]))
        for copy in candidates:
            if fates and not _is_worth_it(copy, fates[-1]["reason"], found=best is not None):
                continue
            photo = await self._try(row, copy, work, fates)
            if photo is not None:
                best = {**row, **vars(photo), "jpeg_sha256": hashlib.sha256(photo.jpeg).hexdigest()}
                final = len(fates) - 1
                if copy.covers(photo.width, photo.height, size, MAX_ELONGATION):
                    break
                fates[-1]["reason"] = SMALL_COPY
            elif best is None and (copy.source != IMAGE_CACHE or fates[-1]["reason"] in answers.MAY_PASS):
                final = len(fates) - 1
        fates[final]["status"] = "failed" if best is None else "ok"
        if best is not None:
            fates[final]["reason"] = ""
            best = {name: best[name] for name in IMAGES.names}
        return fates, best

    async def _try(self, row: Row, copy: Copy, work: "Work", fates: list[Row]) -> Photo | None:
        """Ask for one copy, and append a row per attempt to `fates`."""
        decoded = None
        async with self.fetcher.fetched(copy.url, lambda: work.begin(row["image_id"])) as fetched:
            if fetched.body is not None:
                decoded = await self.decoders.decode(fetched.body)
        for attempt in fetched.attempts:
            fates.append(self._fate(row, copy, attempt, len(fates) + 1))
        if decoded is None:
            return None
        fates[-1]["sha256"] = decoded.sha256
        if isinstance(decoded.photo, Refusal):
            fates[-1]["reason"] = decoded.photo.reason
            return None
        return decoded.photo

    def _fate(self, row: Row, copy: Copy, attempt: Attempt, number: int) -> Row:
        return {
            "image_id": row["image_id"],
            "url": row["url"],
            "run": self.settings.run,
            "status": RETRIED,
            "reason": attempt.reason,
            "http_status": attempt.http_status,
            "attempts": number,
            "num_bytes": attempt.num_bytes,
            "seconds": attempt.seconds,
            "source": copy.source,
            "final_url": attempt.url,
            "content_type": attempt.content_type,
            "sha256": "",
            "fetched_at": attempt.at,
            "shard": "",
        }


async def _cancel(tasks: "list[asyncio.Task[asyncio.Future[None]]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _check_folder(folder: str) -> str:
    """Return an error if this node lacks the folder of photographs, else "". It may have lost a mount."""
    if not folder or Path(folder).is_dir():
        return ""
    return f"the folder of photographs {folder} is not on the node {socket.gethostname()}: mount it there"


def _is_worth_it(copy: Copy, reason: str, *, found: bool) -> bool:
    """Whether to ask for a further copy after one that failed with `reason` or, if `found`, was too small."""
    if copy.source == IMAGE_CACHE:
        return not found and reason in DEAD
    return found or reason not in SAME_FOR_BOTH


class Work:
    """The URLs of a batch that are being fetched."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._changed_at: float | None = None  # None: nothing has begun

    def begin(self, image_id: str) -> None:
        self._running.add(image_id)
        self._changed_at = asyncio.get_running_loop().time()

    def end(self, image_id: str) -> None:
        if image_id in self._running:
            self._running.remove(image_id)
            self._changed_at = asyncio.get_running_loop().time()

    async def wait(self, tasks: "list[asyncio.Task[asyncio.Future[None]]]", patience_s: float | None) -> None:
        """Wait until all is done. With `patience_s`, stop waiting when only requests to slow hosts are left.

        A batch of which nothing has begun is not given up: its hosts may be busy with earlier batches.
        """
        pending = set(tasks)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=patience_s)
            idle = self._changed_at is not None and not self._running
            if (
                pending
                and patience_s is not None
                and idle
                and asyncio.get_running_loop().time() > (self._changed_at or 0) + patience_s
            ):
                return
