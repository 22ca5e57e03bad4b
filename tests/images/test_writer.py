"""The writer against a storage that can be held up and can fail: what has a future that is done can be read."""

import asyncio
import gc
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import StorageError
from aitax_ray.images import shards
from aitax_ray.images.writer import FATES_PER_PHOTOGRAPH, WRITES_AT_A_TIME, Row, ShardWriter
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from tests.blank import blank_row

NEVER_S = 3600.0


class SlowStorage(Storage):
    """Writes nothing before it is let, counts what is being written, and fails when it shall."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.free = threading.Event()
        self.free.set()
        self.fails = ""  # the folder into which nothing can be written
        self.begun: list[str] = []

    def write_table(self, path: str, *given: Any, **options: Any) -> None:
        self.begun.append(path)
        assert self.free.wait(60)
        if self.fails and path.startswith(self.fails):
            raise StorageError(f"{path}: disk full")
        super().write_table(path, *given, **options)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SlowStorage]:
    slow = SlowStorage(str(tmp_path))
    yield slow
    slow.free.set()


def writer_for(storage: Storage, shard_size: int = 1000, flush_s: float = NEVER_S) -> ShardWriter:
    return ShardWriter(storage, 64, "r1", shard_size, flush_s)


def add(writer: ShardWriter, url: str, ok: bool = True, retried: int = 0) -> Awaitable["asyncio.Future[None]"]:
    known = {"image_id": image_id(url), "url": url, "run": "r1"}
    fates = [blank_row(LEDGER, **known, status="retried", reason="timeout") for _ in range(retried)]
    fates.append(blank_row(LEDGER, **known, status="ok" if ok else "failed", reason="" if ok else "timeout"))
    photograph: Row | None = blank_row(IMAGES, image_id=known["image_id"], url=url, jpeg=b"jpeg") if ok else None
    return writer.add(fates, photograph)


def rows(storage: Storage, table: str) -> Counter[str]:
    """How often each URL is there."""
    schema = IMAGES if table == "images" else LEDGER
    return Counter(storage.read_table(table, ["url"], schema)["url"].to_pylist())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
        await asyncio.sleep(0.002)


async def settled() -> None:
    """Give all that can go on time to."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_enough_photographs_are_written_at_once(storage: SlowStorage) -> None:
    writer = writer_for(storage, shard_size=3)
    futures = [await add(writer, url) for url in "ab"]
    await settled()
    assert not storage.begun
    futures.append(await add(writer, "c", retried=2))
    futures.append(await add(writer, "d"))
    await asyncio.gather(*futures[:3])
    assert rows(storage, "images") == Counter("abc")
    assert rows(storage, "ledger") == Counter("abccc")
    assert not futures[3].done()


async def test_enough_fates_are_written_although_there_are_no_photographs(storage: SlowStorage) -> None:
    writer = writer_for(storage, shard_size=2)
    first = await add(writer, "a", ok=False, retried=FATES_PER_PHOTOGRAPH - 1)
    last = await add(writer, "b", ok=False, retried=FATES_PER_PHOTOGRAPH - 2)
    await settled()
    assert not storage.begun
    last = await add(writer, "c", ok=False)
    await asyncio.gather(first, last)
    assert rows(storage, "ledger") == {"a": FATES_PER_PHOTOGRAPH, "b": FATES_PER_PHOTOGRAPH - 1, "c": 1}
    assert storage.files("images") == []


async def test_what_has_waited_long_enough_is_written(storage: SlowStorage) -> None:
    writer = writer_for(storage, flush_s=0.05)
    for urls in ("ab", "c"):  # and so is what comes later
        begin = asyncio.get_running_loop().time()
        await asyncio.gather(*[await add(writer, url) for url in urls])
        assert asyncio.get_running_loop().time() >= begin + 0.04
    assert rows(storage, "images") == rows(storage, "ledger") == Counter("abc")
    assert [len(storage.files(folder)) for folder in ("images", "ledger")] == [2, 2]


async def test_a_file_that_was_full_takes_its_time_limit_along(storage: SlowStorage) -> None:
    writer = writer_for(storage, shard_size=2, flush_s=0.2)
    await asyncio.gather(*[await add(writer, url) for url in "ab"])
    begin = asyncio.get_running_loop().time()
    await (await add(writer, "c"))
    assert asyncio.get_running_loop().time() >= begin + 0.19
    assert len(storage.files("ledger")) == 2


async def test_a_flush_writes_what_there_is_and_nothing_when_nothing_is(storage: SlowStorage) -> None:
    writer = writer_for(storage)
    writer.flush()
    futures = [await add(writer, url) for url in "ab"]
    writer.flush()
    writer.flush()
    await asyncio.gather(*futures)
    await settled()
    assert rows(storage, "images") == Counter("ab")
    assert len(storage.files("ledger")) == 1


async def test_a_file_of_photographs_and_one_of_fates_are_a_pair_that_tells_its_run(storage: SlowStorage) -> None:
    writers = [writer_for(storage, shard_size=1) for _ in range(2)]
    for url in "abc":
        await asyncio.gather(*[await add(writer, f"{url}{n}") for n, writer in enumerate(writers)])
    names = [file.path.removeprefix("images/") for file in storage.files("images")]
    assert names == [file.path.removeprefix("ledger/") for file in storage.files("ledger")]
    assert len(names) == 6
    assert all(name.startswith("r1-") for name in names)
    for name in names:
        (photograph,) = storage.read_table(f"images/{name}").to_pylist()
        (fate,) = storage.read_table(f"ledger/{name}").to_pylist()
        assert (fate["url"], fate["shard"], fate["status"]) == (photograph["url"], name, "ok")
    assert shards.stored_image_size(storage) == 64
    assert shards.stored_lately(storage, "r1") == {image_id(f"{url}{n}") for url in "abc" for n in range(2)}


async def test_a_future_is_done_when_its_rows_can_be_read_and_not_before(storage: SlowStorage) -> None:
    writer = writer_for(storage)
    read: list[Counter[str]] = []
    storage.free.clear()
    futures = [await add(writer, "a"), await add(writer, "b", ok=False)]
    for future in futures:
        future.add_done_callback(lambda _: read.append(rows(storage, "ledger") + rows(storage, "images")))
    writer.flush()
    await until(lambda: storage.begun)
    await settled()
    assert not any(future.done() for future in futures)
    assert rows(storage, "ledger") == Counter()
    storage.free.set()
    await asyncio.gather(*futures)
    await settled()
    assert read == [Counter("aab")] * 2


async def test_rows_that_come_while_others_are_written_go_to_the_next_file(storage: SlowStorage) -> None:
    writer = writer_for(storage)
    storage.free.clear()
    first = await add(writer, "a")
    writer.flush()
    await until(lambda: storage.begun)
    second = await add(writer, "b")
    storage.free.set()
    await first
    await settled()
    assert not second.done()
    assert rows(storage, "ledger") == Counter("a")
    writer.flush()
    await second
    assert rows(storage, "images") == rows(storage, "ledger") == Counter("ab")


@pytest.mark.parametrize("folder", ["images", "ledger"])
async def test_a_storage_that_fails_is_told_to_all_that_wait_and_used_again_when_it_works(
    storage: SlowStorage, folder: str
) -> None:
    writer = writer_for(storage, shard_size=3)
    storage.fails = folder
    for urls in ("abc", "def", "ghi"):  # more often than it writes at a time
        futures = [await add(writer, url) for url in urls]
        errors = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(error) for error in errors] == [StorageError] * 3
        assert "disk full" in str(errors[0])
    assert rows(storage, "ledger") == Counter()
    storage.fails = ""
    await asyncio.gather(*[await add(writer, url) for url in "abx"])
    assert rows(storage, "ledger") == Counter("abx")
    named = set(storage.read_table("ledger")["shard"].to_pylist())
    held = [url for name in named for url in storage.read_table(f"images/{name}")["url"].to_pylist()]
    assert Counter(held) == Counter("abx")


async def test_an_error_that_nobody_waits_for_any_more_makes_no_noise(storage: SlowStorage) -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    writer = writer_for(storage)
    storage.fails = "ledger"
    await add(writer, "a", ok=False)
    writer.flush()
    await until(lambda: storage.begun)
    await settled()
    del writer
    gc.collect()
    await settled()
    assert noise == []


async def test_adding_waits_while_storage_is_behind(storage: SlowStorage) -> None:
    writer = writer_for(storage, shard_size=1)
    storage.free.clear()
    first = []
    for number in range(WRITES_AT_A_TIME):
        first.append(await asyncio.wait_for(add(writer, f"{number}"), 60))
        await until(lambda enough=number: len(storage.begun) > enough)
    late = [asyncio.ensure_future(add(writer, url)) for url in "xyz"]
    await settled()
    assert len(storage.begun) == WRITES_AT_A_TIME
    assert not any(task.done() for task in late)
    storage.free.set()
    await asyncio.gather(*first)
    await asyncio.gather(*[await task for task in late])
    assert rows(storage, "images") == rows(storage, "ledger") == Counter("01xyz")


async def test_no_more_files_are_written_at_a_time_than_that(storage: SlowStorage) -> None:
    writer = writer_for(storage)
    storage.free.clear()
    futures = []
    for number in range(WRITES_AT_A_TIME + 2):
        task = asyncio.ensure_future(add(writer, f"{number}"))
        await settled()
        if task.done():
            futures.append(task.result())
            writer.flush()
        else:
            task.cancel()
    await until(lambda: len(storage.begun) >= WRITES_AT_A_TIME)
    await settled()
    assert len(storage.begun) == len(futures) == WRITES_AT_A_TIME
    storage.free.set()
    await asyncio.gather(*futures)
    assert rows(storage, "ledger").total() == WRITES_AT_A_TIME


async def test_who_is_given_up_while_waiting_leaves_nothing_behind_and_holds_up_nobody(storage: SlowStorage) -> None:
    writer = writer_for(storage, shard_size=1)
    storage.free.clear()
    first = []
    for number in range(WRITES_AT_A_TIME):
        first.append(await add(writer, f"{number}"))
        await until(lambda enough=number: len(storage.begun) > enough)
    given_up, late = (asyncio.ensure_future(add(writer, url)) for url in "xy")
    await settled()
    given_up.cancel()
    storage.free.set()
    await (await late)
    await asyncio.gather(*first)
    assert rows(storage, "images") == rows(storage, "ledger") == Counter("01y")


@pytest.mark.parametrize("flush_s", [0.005, NEVER_S])
async def test_nothing_is_lost_nor_written_twice_however_many_add_at_a_time(
    storage: SlowStorage, flush_s: float
) -> None:
    chance = random.Random(7)
    writers = [writer_for(storage, shard_size=16, flush_s=flush_s) for _ in range(2)]
    photographs, fates = Counter[str](), Counter[str]()

    async def work(number: int) -> None:
        for turn in range(8):
            url, ok, retried = f"{number}-{turn}", chance.random() < 0.6, chance.randrange(3)
            photographs.update([url] if ok else [])
            fates[url] = retried + 1
            future = await add(writers[number % 2], url, ok, retried)
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() / 100)
            futures.append(future)

    futures: list[asyncio.Future[None]] = []
    await asyncio.gather(*(work(number) for number in range(50)))
    for writer in writers:
        writer.flush()
    await asyncio.gather(*futures)
    assert rows(storage, "images") == photographs
    assert rows(storage, "ledger") == fates
    ledger = storage.read_table("ledger").to_pylist()
    assert all((row["shard"] != "") == (row["status"] == "ok") for row in ledger)
    for file in storage.files("images"):
        held = storage.read_table(file.path)["url"].to_pylist()
        assert sorted(held) == sorted(row["url"] for row in ledger if f"images/{row['shard']}" == file.path)
