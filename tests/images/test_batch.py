import asyncio
import contextlib
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray.images import batch as module
from aitax_ray.images import shards, writer
from aitax_ray.images.batch import BatchDownloader, BatchSettings
from aitax_ray.images.fetch import Attempt, Fetched, FetchSettings
from aitax_ray.images.limits import HostLimit, Limits
from aitax_ray.images.sizes import SizedCopies, cached_copy, copies
from aitax_ray.images.turns import sync_alone
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from tests.images.test_turns import until
from tests.web import Web, encoded, photo, picture

FETCH = FetchSettings(timeout_s=30, attempts=3, backoff_s=0.01, allow_private=True)
LIMITS = Limits(HostLimit(16, 10_000.0))


@contextlib.asynccontextmanager
async def downloading(
    root: Path, limits: Limits = LIMITS, *, again: bool = False, **changes: object
) -> AsyncIterator[BatchDownloader]:
    settings = {"run": "r1", "image_size": 64, "max_pixels": 10**6, "concurrency": 16, "shard_size": 8, **changes}
    downloader = BatchDownloader(
        Storage(str(root)),
        BatchSettings(**settings),  # type: ignore[arg-type]
        FETCH,
        sync_alone(limits),
        again=again,
    )
    try:
        yield downloader
    finally:
        await downloader.close()


def batch(*urls: str) -> pa.Table:
    rows = [{"image_id": image_id(u), "url": u, "gbif_id": f"{n}", "species_key": "S"} for n, u in enumerate(urls)]
    return pa.Table.from_pylist(rows, shards.TODO_SCHEMA)


def rows(root: Path, table: str, *columns: str) -> list[tuple[object, ...]]:
    found = sorted(Storage(str(root)).read_table(table).to_pylist(), key=lambda row: (row["url"], row.get("attempts")))
    return [tuple(row[name] for name in columns) for row in found]


async def test_a_batch_becomes_photographs_and_a_row_an_attempt(web: Web, tmp_path: Path) -> None:
    urls = [web.url(path) for path in ("/flaky/a", "/photo/b", "/status/404/c", "/truncated/d")]
    async with downloading(tmp_path) as downloader:
        told = await downloader(batch(*urls))
    assert told.to_pylist() == [{"urls": 4, "deferred": 0, "error": ""}]
    assert rows(tmp_path, "images", "url", "gbif_id", "species_key", "width", "height") == [
        (urls[0], "0", "S", 85, 64),
        (urls[1], "1", "S", 85, 64),
    ]
    assert rows(tmp_path, "ledger", "url", "attempts", "status", "reason", "http_status") == [
        (urls[0], 1, "retried", "server_error", 503),
        (urls[0], 2, "retried", "server_error", 503),
        (urls[0], 3, "ok", "", 200),
        (urls[1], 1, "ok", "", 200),
        (urls[2], 1, "failed", "not_found", 404),
        (urls[3], 1, "failed", "truncated", 200),
    ]
    storage = Storage(str(tmp_path))
    assert storage.read_table("images").schema.equals(IMAGES)
    ledger = storage.read_table("ledger")
    assert ledger.schema.equals(LEDGER)
    for row in ledger.to_pylist():
        assert (row["shard"] != "") == (row["status"] == "ok")
        assert (row["num_bytes"] > 0) == (row["http_status"] == 200) == (len(row["sha256"]) == 64)
        assert (row["run"], row["source"], row["final_url"]) == ("r1", "original", row["url"])
        assert row["seconds"] > 0


async def test_what_a_lost_worker_had_stored_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(6)]
    async with downloading(tmp_path) as lost:
        await lost(batch(*urls[:4]))
    async with downloading(tmp_path, again=True) as worker:
        told = await worker(batch(*urls))
    assert told.to_pylist() == [{"urls": 6, "deferred": 0, "error": ""}]
    assert set(web.requests.values()) == {1}
    assert len(rows(tmp_path, "images", "url")) == 6


async def test_a_storage_that_fails_is_told_of(web: Web, tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where a folder should be")
    async with downloading(tmp_path) as downloader:
        (told,) = (await downloader(batch(web.url("/photo/a")))).to_pylist()
    assert "cannot be written" in told["error"]
    assert not (tmp_path / "ledger").exists()


async def test_batches_at_the_same_time_share_the_limits(web: Web, tmp_path: Path) -> None:
    async with downloading(tmp_path, concurrency=3) as downloader:
        batches = [batch(*(web.url(f"/slow/0.02/{b}-{n}") for n in range(4))) for b in range(3)]
        await asyncio.gather(*map(downloader, batches))
    assert web.peak == 3
    assert len(rows(tmp_path, "images", "url")) == 12


async def test_a_batch_does_not_wait_for_a_host_that_is_busy_with_another(web: Web, tmp_path: Path) -> None:
    limits = Limits(HostLimit(16, 10_000.0), {"localhost": HostLimit(1, 10_000.0)})
    web.hold("/photo/held")
    slow = [web.url("/photo/held", "localhost"), web.url("/photo/behind", "localhost")]
    fast = [web.url("/photo/1"), web.url("/photo/2")]
    async with downloading(tmp_path, limits, patience_s=0.2, shard_size=1) as downloader:
        first = asyncio.create_task(downloader(batch(slow[0], fast[0])))
        assert await asyncio.to_thread(web.wait_until, lambda w: w.requests["/photo/held"] == 1)
        second = await downloader(batch(slow[1], fast[1]))
        assert second.to_pylist() == [{"urls": 1, "deferred": 1, "error": ""}]
        assert not first.done()  # it has a request under way
        web.release()
        assert (await first).to_pylist() == [{"urls": 2, "deferred": 0, "error": ""}]
    assert rows(tmp_path, "images", "url") == sorted((url,) for url in (*fast, slow[0]))
    assert web.requests["/photo/behind"] == 0


async def test_a_batch_of_which_nothing_has_begun_waits_for_its_turn(web: Web, tmp_path: Path) -> None:
    web.hold("/photo/held")
    async with downloading(tmp_path, Limits(HostLimit(1, 10_000.0)), patience_s=0.1, shard_size=1) as downloader:
        first = asyncio.create_task(downloader(batch(web.url("/photo/held"))))
        assert await asyncio.to_thread(web.wait_until, lambda w: w.requests["/photo/held"] == 1)
        second = asyncio.create_task(downloader(batch(web.url("/photo/a"))))
        done, _ = await asyncio.wait([first, second], timeout=0.5)
        assert not done
        web.release()
        told = [(await task).to_pylist() for task in (first, second)]
    assert told == [[{"urls": 1, "deferred": 0, "error": ""}]] * 2


HOST = "https://sized.example"
TABLE = (SizedCopies(re.compile(rf"{HOST}/(?P<size>original)/\w+"), {"small": 96, "medium": 200}),)
TALL = encoded(picture("tall", (60, 200)))  # of this the small copy would be too small
WIDE = encoded(picture("wide", (400, 300)))


class Answers:
    """In place of a Fetcher: a body, or a reason, for each URL."""

    def __init__(self, known: dict[str, bytes | str]) -> None:
        self.known = known
        self.asked: list[str] = []

    @contextlib.asynccontextmanager
    async def fetched(self, url: str, on_start: Callable[[], object]) -> AsyncIterator[Fetched]:
        on_start()
        self.asked.append(url.removeprefix(HOST))
        answer = self.known.get(url.removeprefix(HOST), "not_found")
        body, reason = (None, answer) if isinstance(answer, str) else (answer, "")
        yield Fetched(body, [Attempt(url, reason, 404 if reason else 200, len(body or b""))])

    async def close(self) -> None: ...


CACHE = cached_copy("https://gbif.example", "0", f"{HOST}/original/x").url


@pytest.mark.parametrize(
    ("known", "asked", "stored", "fates"),
    [
        ({"/small/x": WIDE}, ["/small/x"], (85, 64), [("ok", "", "sized_copy")]),
        (
            {"/medium/x": WIDE},
            ["/small/x", "/medium/x"],
            (85, 64),
            [("retried", "not_found", "sized_copy"), ("ok", "", "sized_copy")],
        ),
        (
            {"/original/x": WIDE},
            ["/small/x", "/medium/x", "/original/x"],
            (85, 64),
            [("retried", "not_found", "sized_copy")] * 2 + [("ok", "", "original")],
        ),
        # The copy's shorter side is too short, but the original is gone: better than nothing.
        (
            {"/small/x": encoded(picture("x", (29, 96)))},
            ["/small/x", "/medium/x", "/original/x"],
            (29, 96),
            [("ok", "", "sized_copy"), ("retried", "not_found", "sized_copy"), ("retried", "not_found", "original")],
        ),
        (
            {"/small/x": encoded(picture("x", (29, 96))), "/medium/x": TALL},
            ["/small/x", "/medium/x", "/original/x"],
            (60, 200),
            [
                ("retried", "small_copy", "sized_copy"),
                ("ok", "", "sized_copy"),
                ("retried", "not_found", "original"),
            ],
        ),
        # What holds for the host holds for the original as well.
        ({"/small/x": "timeout"}, ["/small/x"], None, [("failed", "timeout", "sized_copy")]),
        ({"/small/x": "no_ai"}, ["/small/x"], None, [("failed", "no_ai", "sized_copy")]),
        (
            {},
            ["/small/x", "/medium/x", "/original/x"],
            None,
            [("retried", "not_found", "sized_copy")] * 2 + [("failed", "not_found", "original")],
        ),
    ],
)
async def test_the_smallest_copy_that_is_large_enough_is_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: dict[str, bytes | str],
    asked: list[str],
    stored: tuple[int, int] | None,
    fates: list[tuple[str, str, str]],
) -> None:
    monkeypatch.setattr(module, "copies", lambda url, size: copies(url, size, TABLE))
    async with downloading(tmp_path) as downloader:
        downloader.fetcher = answers = Answers(known)  # type: ignore[assignment]
        await downloader(batch(f"{HOST}/original/x"))
    assert answers.asked == asked
    assert rows(tmp_path, "ledger", "status", "reason", "source") == fates
    if stored is None:
        assert not (tmp_path / "images").exists()
    else:
        assert rows(tmp_path, "images", "url", "width", "height") == [(f"{HOST}/original/x", *stored)]


@pytest.mark.parametrize(
    ("known", "fates"),
    [
        ({}, [("failed", "not_found", "original"), ("retried", "not_found", "image_cache")]),
        (
            {CACHE: photo("jpeg")},
            [("retried", "not_found", "original"), ("ok", "", "image_cache")],
        ),
        # What the cache could not give now, it may give later, so that decides.
        ({CACHE: "timeout"}, [("retried", "not_found", "original"), ("failed", "timeout", "image_cache")]),
        ({"/original/x": "no_ai", CACHE: photo("jpeg")}, [("failed", "no_ai", "original")]),
        ({"/original/x": WIDE}, [("ok", "", "original")]),
    ],
)
async def test_gbif_is_asked_for_what_is_dead_and_only_then(
    tmp_path: Path, known: dict[str, bytes | str], fates: list[tuple[str, str, str]]
) -> None:
    async with downloading(tmp_path, image_cache="https://gbif.example") as downloader:
        downloader.fetcher = Answers(known)  # type: ignore[assignment]
        await downloader(batch(f"{HOST}/original/x"))
    assert rows(tmp_path, "ledger", "status", "reason", "source") == fates


async def test_an_error_of_ours_costs_its_own_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Answers):
        @contextlib.asynccontextmanager
        async def fetched(self, url: str, on_start: Callable[[], object]) -> AsyncIterator[Fetched]:
            if url.endswith("b"):
                raise ZeroDivisionError
            async with super().fetched(url, on_start) as fetched:
                yield fetched

    async with downloading(tmp_path) as downloader:
        downloader.fetcher = Broken({"/a": WIDE, "/c": WIDE})  # type: ignore[assignment]
        told = await downloader(batch(*(f"{HOST}/{name}" for name in "abc")))
    assert told.to_pylist() == [{"urls": 3, "deferred": 0, "error": ""}]
    assert rows(tmp_path, "ledger", "status", "reason") == [("ok", ""), ("failed", "unexpected"), ("ok", "")]
    assert "ZeroDivisionError" in caplog.text


async def test_decoders_that_do_not_start_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    async with downloading(tmp_path) as downloader:
        downloader.fetcher = Answers({"/a": WIDE})  # type: ignore[assignment]
        (told,) = (await downloader(batch(f"{HOST}/a"))).to_pylist()
    assert "no process for decoding can be started" in told["error"]
    assert not (tmp_path / "ledger").exists()


async def test_what_is_put_off_does_not_begin_while_storage_is_waited_for(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, goes_on, write = threading.Event(), threading.Event(), shards.write_shard

    def slow_write(*given: Any) -> Any:
        writing.set()
        assert goes_on.wait(60)
        return write(*given)

    monkeypatch.setattr(writer, "write_shard", slow_write)
    limits = Limits(HostLimit(16, 10_000.0), {"localhost": HostLimit(1, 10_000.0)})
    web.hold("/photo/held")
    async with downloading(tmp_path, limits, patience_s=0.2, shard_size=1) as downloader:

        def waiting() -> int:
            return sum(not waiter.done() for waiter in downloader.turns._hosts["localhost"].waiting)

        first = asyncio.create_task(downloader(batch(web.url("/photo/held", "localhost"))))
        assert await asyncio.to_thread(web.wait_until, lambda w: w.requests["/photo/held"] == 1)
        second = asyncio.create_task(downloader(batch(web.url("/photo/behind", "localhost"), web.url("/photo/a"))))
        await until(lambda: waiting() == 1)
        await until(writing.is_set)
        await until(lambda: waiting() == 0)  # it was put off, while storage is waited for
        assert not second.done()
        web.release()
        assert await asyncio.to_thread(web.wait_until, lambda w: w.now == 0)
        goes_on.set()
        assert (await second).to_pylist() == [{"urls": 1, "deferred": 1, "error": ""}]
        assert (await first).to_pylist() == [{"urls": 1, "deferred": 0, "error": ""}]
    assert web.requests["/photo/behind"] == 0


async def test_the_progress_is_told_a_fate_a_url(web: Web, tmp_path: Path) -> None:
    async with downloading(tmp_path) as downloader:
        downloader.fetcher = Answers({"/a": WIDE, "/b": "timeout", "/c": WIDE})  # type: ignore[assignment]
        await downloader(batch(*(f"{HOST}/{name}" for name in "abcd")))
        told = downloader.turns.counts
    assert told == {"ok": 2, "timeout": 1, "not_found": 1, "bytes": 2 * len(WIDE)}
