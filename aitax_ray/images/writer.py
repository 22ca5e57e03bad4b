"""Writes photographs and their fates to storage, one shard at a time, in the order in which they come."""

import asyncio
import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from aitax_ray.images.shards import write_shard
from aitax_ray.schemas import IMAGES, LEDGER
from aitax_ray.storage import Storage

Row = dict[str, Any]

FATES_PER_PHOTOGRAPH = 8  # a shard has at most 8 fates per photograph of --shard-size: many URLs fail
WRITES_AT_A_TIME = 2


class ShardWriter:
    """Collects rows of IMAGES and LEDGER, and writes them when a shard is full or `flush_s` seconds are over.

    For one event loop. The writing is done in threads.
    """

    def __init__(self, storage: Storage, image_size: int, run: str, shard_size: int, flush_s: float) -> None:
        self.storage, self.image_size, self.run, self.shard_size, self.flush_s = (
            storage, image_size, run, shard_size, flush_s
        )  # fmt: skip
        self._worker, self._number = uuid.uuid4().hex[:12], itertools.count()
        self._writes = asyncio.Semaphore(WRITES_AT_A_TIME)
        # Threads of its own: names are resolved in the event loop's threads and may occupy all of them for long.
        self._threads = ThreadPoolExecutor(WRITES_AT_A_TIME, "write")
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin()

    def _begin(self) -> None:
        self._photographs: list[Row] = []
        self._fates: list[Row] = []
        self._written: asyncio.Future[None] | None = None

    async def add(self, fates: list[Row], photograph: Row | None) -> "asyncio.Future[None]":
        """Take the fates of a URL and its photograph. Waits while storage is slow.

        The returned future is done when both are on storage. It holds a StorageError if that failed.
        """
        async with self._writes:
            pass
        loop = asyncio.get_running_loop()
        if self._written is None:
            self._written = loop.create_future()
            self._timer = loop.call_later(self.flush_s, self.flush)
        written = self._written
        self._fates += fates
        if photograph is not None:
            self._photographs.append(photograph)
        full = len(self._photographs) >= self.shard_size or len(self._fates) >= FATES_PER_PHOTOGRAPH * self.shard_size
        if full:
            self.flush()
        return written

    def flush(self) -> None:
        """Start to write the rows that there are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._written is not None:
            task = asyncio.get_running_loop().create_task(self._write(self._photographs, self._fates, self._written))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._begin()

    async def _write(self, photographs: list[Row], fates: list[Row], written: "asyncio.Future[None]") -> None:
        async with self._writes:
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._threads, self._write_now, photographs, fates)
            except Exception as error:
                # Everybody who waits gets the error. Nobody waits when the batch was given up.
                written.set_exception(error)
                written.exception()
            else:
                written.set_result(None)

    def _write_now(self, photographs: list[Row], fates: list[Row]) -> None:
        write_shard(
            self.storage,
            f"{self.run}-{self._worker}-{next(self._number):06d}",
            pa.Table.from_pylist(photographs, schema=IMAGES),
            pa.Table.from_pylist(fates, schema=LEDGER),
            self.image_size,
        )
