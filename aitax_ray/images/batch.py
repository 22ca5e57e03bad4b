"""Download a batch: fetch its photographs together, decode them beside the event loop, store them with their fates.

The unit of work of the download stage. It does not know what runs it.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray.errors import StorageError
from aitax_ray.images.decode import Photo, Refusal, normalize
from aitax_ray.images.fetch import Fetcher, FetchSettings
from aitax_ray.images.shards import ledger_path, write_shard
from aitax_ray.schemas import IMAGES, LEDGER
from aitax_ray.storage import Storage

Row = dict[str, Any]


class BatchDownloader:
    """Downloads one batch after another, or several at a time, within the limits of one Fetcher."""

    def __init__(self, storage: Storage, image_size: int, settings: FetchSettings) -> None:
        self.storage, self.image_size = storage, image_size
        self.fetcher = Fetcher(settings)
        # Of our own: aiohttp resolves names in the loop's threads, and they must not wait for decoders.
        self.decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """INPUT: rows of image_id, url, gbif_id, species_key. OUTPUT: one row that counts what came of them.

        A batch whose fates are written already (Ray runs one again when it lost the answer) is not fetched again. A
        storage that fails is told of in the row, since Ray would make a page of stack traces of an exception.
        """
        path = ledger_path(batch["image_id"].to_pylist())
        try:
            if not await asyncio.to_thread(self.storage.exists, path):
                results = await asyncio.gather(*(self._download(row) for row in batch.to_pylist()))
                await asyncio.to_thread(self._write, path, results)
            return _tally(await asyncio.to_thread(self.storage.read_table, path))
        except StorageError as error:
            return _tally(LEDGER.empty_table(), str(error))

    async def _download(self, row: Row) -> tuple[Row, Row | None]:
        """The fate of a URL (a row of LEDGER), and its photograph (a row of IMAGES) if there is one."""
        async with self.fetcher.fetched(row["url"]) as fetched:
            photo: Photo | Refusal = Refusal(fetched.reason)
            if fetched.body is not None:
                loop = asyncio.get_running_loop()
                photo = await loop.run_in_executor(self.decoders, normalize, fetched.body, self.image_size)
            fate = {
                "image_id": row["image_id"],
                "url": row["url"],
                "status": "ok" if isinstance(photo, Photo) else "failed",
                "reason": "" if isinstance(photo, Photo) else photo.reason,
                "http_status": fetched.http_status,
                "attempts": fetched.attempts,
                "num_bytes": len(fetched.body or b""),
                "fetched_at": datetime.now(UTC),
                "shard": "",
            }
        if isinstance(photo, Refusal):
            return fate, None
        return fate, {**row, "jpeg": photo.jpeg, "width": photo.width, "height": photo.height}

    def _write(self, path: str, results: list[tuple[Row, Row | None]]) -> None:
        photographs = pa.Table.from_pylist([image for _, image in results if image is not None], schema=IMAGES)
        fates = pa.Table.from_pylist([fate for fate, _ in results], schema=LEDGER)
        write_shard(self.storage, path, photographs, fates, self.image_size)


def _tally(fates: pa.Table, error: str = "") -> pa.Table:
    num_ok = pc.sum(pc.equal(fates["status"], "ok")).as_py() or 0
    num_bytes = pc.sum(fates["num_bytes"]).as_py() or 0
    return pa.table({"urls": [fates.num_rows], "ok": [num_ok], "bytes": [num_bytes], "error": [error]})
