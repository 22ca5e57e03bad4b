import asyncio
from pathlib import Path

import pyarrow as pa

from aitax_ray.images.batch import BatchDownloader
from aitax_ray.images.fetch import FetchSettings
from aitax_ray.images.shards import TODO_SCHEMA
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from tests.web import Web

SETTINGS = FetchSettings(timeout_s=0.5, attempts=2, backoff_s=0.01, allow_private=True)


def batch(*urls: str) -> pa.Table:
    rows = [{"image_id": image_id(u), "url": u, "gbif_id": f"{n}", "species_key": "S"} for n, u in enumerate(urls)]
    return pa.Table.from_pylist(rows, TODO_SCHEMA)


async def test_a_batch_becomes_photographs_and_fates(web: Web, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    downloader = BatchDownloader(storage, 64, SETTINGS)
    urls = [web.url(path) for path in ("/photo/a", "/html/b", "/status/404/c", "/kind/exif6/d")]
    tally = await downloader(batch(*urls))
    await downloader.fetcher.close()
    (counts,) = tally.to_pylist()
    assert (counts["urls"], counts["ok"], counts["error"]) == (4, 2, "")
    images = storage.read_table("images")
    assert images.schema.equals(IMAGES)
    assert [(r["url"], r["gbif_id"], r["width"], r["height"]) for r in images.to_pylist()] == [
        (urls[0], "0", 85, 64),
        (urls[3], "3", 85, 64),
    ]
    ledger = storage.read_table("ledger")
    assert ledger.schema.equals(LEDGER)
    assert {r["url"]: (r["status"], r["reason"], r["http_status"]) for r in ledger.to_pylist()} == {
        urls[0]: ("ok", "", 200),
        urls[1]: ("failed", "not_an_image", 200),
        urls[2]: ("failed", "not_found", 404),
        urls[3]: ("ok", "", 200),
    }


async def test_a_batch_that_is_done_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    downloader = BatchDownloader(Storage(str(tmp_path)), 64, SETTINGS)
    rows = batch(web.url("/photo/a"), web.url("/status/404/b"))
    first, again = await downloader(rows), await downloader(rows)
    await downloader.fetcher.close()
    assert first.equals(again)
    assert set(web.requests.values()) == {1}


async def test_a_storage_that_fails_is_told_of(web: Web, tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where a folder should be")
    downloader = BatchDownloader(Storage(str(tmp_path)), 64, SETTINGS)
    (counts,) = (await downloader(batch(web.url("/photo/a")))).to_pylist()
    await downloader.fetcher.close()
    assert "cannot be written" in counts["error"]
    assert not (tmp_path / "ledger").exists()


async def test_batches_at_the_same_time_share_the_limits(web: Web, tmp_path: Path) -> None:
    downloader = BatchDownloader(Storage(str(tmp_path)), 64, FetchSettings(concurrency=3, allow_private=True))
    batches = [batch(*(web.url(f"/slow/0.02/{b}-{n}") for n in range(4))) for b in range(3)]
    await asyncio.gather(*map(downloader, batches))
    await downloader.fetcher.close()
    assert web.peak == 3
