import asyncio
import contextlib
import fcntl
import gc
import hashlib
import os
import resource
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from aitax_ray.errors import ClusterError
from aitax_ray.images import decoders
from aitax_ray.images.budget import ThreadBudget
from aitax_ray.images.decode import Photo, Refusal, normalize, open_photo
from aitax_ray.images.decoders import MAX_ADDRESS_SPACE, REASONS, DecoderPool
from tests.web import encoded, photo, picture

SIZE = 64
OTHERS = set[int]()
PARENT = f"""
import asyncio, psutil
from aitax_ray.images.decoders import DecoderPool
from tests.web import photo

pool = DecoderPool(1, {SIZE})
asyncio.run(pool.decode(photo("jpeg")))
print(psutil.Process().children()[0].pid, flush=True)
input()
"""


@contextlib.asynccontextmanager
async def decoding(num_decoders: int = 1, image_size: int = SIZE) -> AsyncIterator[DecoderPool]:
    """A pool all of whose processes run."""
    pool = DecoderPool(num_decoders, image_size)
    try:
        while len(children()) < num_decoders:
            found = await asyncio.gather(*(pool.decode(photo("jpeg", "first")) for _ in range(num_decoders)))
            assert all(isinstance(d.photo, Photo) for d in found)
        yield pool
    finally:
        pool.close()


@pytest.fixture(autouse=True)
def _others() -> None:
    """Remember the decoders of others in this session of tests, such as a service that goes on."""
    OTHERS.clear()
    OTHERS.update(children())


def children() -> set[int]:
    """The process ids of the decoders. Ray's processes, too, are children of a session of tests."""
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("aitax_ray.images.decoders" in word for word in process.cmdline()):
                found.add(process.pid)
    return found - OTHERS


def child() -> int:
    """The process id of the only decoder."""
    (pid,) = children()
    return pid


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # an orphan may stay a zombie
    except psutil.NoSuchProcess:
        return True


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def suspend(pid: int) -> None:
    """Let a process hang. Until it does, it may still take what it is given."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def is_handed_over(pid: int, length: int) -> bool:
    """Whether so many bytes lie before a process that does not read."""
    pipe = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
    finally:
        os.close(pipe)
    return int.from_bytes(waiting, sys.byteorder) >= length


def large_photo() -> bytes:
    """A file of some megabytes, more than a pipe holds."""
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1200, 3), np.uint8)
    return encoded(Image.fromarray(noise), "PNG", compress_level=1)


async def test_a_decoder_does_as_normalize_does() -> None:
    bodies = [
        photo(kind, "a") for kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp", "cmyk", "gray16", "exif6", "avif")
    ]
    bodies += [b"", b"<html>", b"\xff" * 5000, photo("jpeg")[:300], encoded(Image.new("1", (11000, 10000)), "PNG")]
    async with decoding() as pool:
        for body in bodies:
            decoded = await pool.decode(body)
            assert decoded.photo == normalize(body, SIZE)
            assert decoded.sha256 == hashlib.sha256(body).hexdigest()
            assert await pool.decode(bytearray(body)) == decoded


async def test_a_decoder_gives_pixels_as_open_photo_does() -> None:
    bodies = [photo(kind, "a") for kind in ("jpeg", "png", "webp", "gif", "tiff", "cmyk", "gray16", "exif6")]
    bodies += [b"", b"<html>", photo("jpeg")[:300]]
    async with decoding() as pool:
        for body in bodies:
            found, expected = await pool.open(body, SIZE // 2), open_photo(body, 10**8, SIZE, least_size=SIZE // 2)
            if isinstance(expected, Refusal):
                assert found == expected
            else:
                assert isinstance(found, Image.Image)
                assert (found.mode, found.size, found.tobytes()) == ("RGB", expected.size, expected.tobytes())
        assert await pool.decode(bodies[0]) == await pool.decode(bodies[0])  # the same process does both


async def test_the_limit_on_pixels_is_passed_on() -> None:
    pool = DecoderPool(1, SIZE, max_pixels=1000)
    assert (await pool.decode(photo("jpeg"))).photo == Refusal("decompression_bomb")
    pool.close()


async def test_many_are_decoded_at_a_time_and_none_is_confused_with_another() -> None:
    bodies = [photo("jpeg", str(i)) for i in range(40)] + [b"x" * i for i in range(10)]
    async with decoding(2) as pool:
        assert len(children()) == 2
        found = await asyncio.gather(*map(pool.decode, bodies))
    assert [d.photo for d in found] == [normalize(body, SIZE) for body in bodies]


async def test_a_body_larger_than_a_pipe_goes_through() -> None:
    body = large_photo()
    assert len(body) > 2 * decoders.PIPE_BYTES
    async with decoding(image_size=1100) as pool:
        decoded = await pool.decode(body)
    assert decoded.photo == normalize(body, 1100)
    assert isinstance(decoded.photo, Photo)
    assert len(decoded.photo.jpeg) > decoders.PIPE_BYTES


@pytest.mark.parametrize("body", [photo("jpeg", "a"), large_photo()], ids=["small", "large"])
async def test_a_decoder_that_dies_costs_one_body(body: bytes) -> None:
    async with decoding() as pool:
        pid = child()
        await suspend(pid)
        first, second = (asyncio.create_task(pool.decode(b)) for b in (body, photo("jpeg", "b")))
        await until(lambda: is_handed_over(pid, min(len(body), 1000)))
        os.kill(pid, signal.SIGKILL)
        crashed = await first
        assert crashed.photo == Refusal("decoder_crashed")
        assert crashed.sha256 == hashlib.sha256(body).hexdigest()
        assert (await second).photo == normalize(photo("jpeg", "b"), SIZE)
        assert child() != pid


async def test_a_decoder_that_dies_while_it_has_nothing_to_do_costs_nothing() -> None:
    async with decoding() as pool:
        pid = child()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: is_gone(pid))
        assert isinstance((await pool.decode(photo("jpeg"))).photo, Photo)


@pytest.mark.parametrize("body", [photo("jpeg", "a"), large_photo()], ids=["small", "large"])
async def test_a_decoder_that_hangs_costs_one_body(body: bytes) -> None:
    async with decoding() as pool:
        pid = child()
        await suspend(pid)
        pool.timeout_s = 0.05
        assert (await pool.decode(body)).photo == Refusal("decoder_timeout")
        assert is_gone(pid)
        pool.timeout_s = 60.0
        assert isinstance((await pool.decode(photo("jpeg"))).photo, Photo)


async def test_a_decoder_that_ended_is_made_again_at_once() -> None:
    async with decoding() as pool:
        await suspend(child())
        pool.timeout_s = 0.05
        assert (await pool.decode(photo("jpeg"))).photo == Refusal("decoder_timeout")
        child()  # nobody asked for another photograph


def test_the_time_of_a_photograph_is_bounded_although_bytes_keep_coming() -> None:
    out, into = os.pipe()
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.01):
            os.write(into, b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            decoders._read(out, 10_000, time.monotonic() + 0.1)
    finally:
        stop.set()
        thread.join()
        os.close(out)
        os.close(into)


@pytest.mark.parametrize("body", [photo("jpeg", "a"), large_photo()], ids=["small", "large"])
async def test_a_decoder_ends_when_its_caller_has_left(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "STOP_AFTER_S", 0.01)
    async with decoding() as pool:
        pid = child()
        await suspend(pid)
        caller = asyncio.create_task(pool.decode(body))
        await until(lambda: is_handed_over(pid, min(len(body), 1000)))
        waiting = [asyncio.create_task(pool.decode(b"never decoded")) for _ in range(50)]
        await asyncio.sleep(0)
        for task in (caller, *waiting):
            task.cancel()
        assert isinstance((await pool.decode(photo("jpeg", "b"))).photo, Photo)
        assert is_gone(pid)
        pid = child()
        assert isinstance((await pool.decode(photo("jpeg", "c"))).photo, Photo)
        await asyncio.sleep(0.05)  # a process is not stopped for a photograph that it had before
        assert child() == pid


async def test_a_photograph_that_is_soon_decoded_costs_no_decoder_when_its_caller_has_left() -> None:
    async with decoding() as pool:
        pid = child()
        caller = asyncio.create_task(pool.decode(photo("jpeg")))
        await asyncio.sleep(0.001)
        caller.cancel()
        assert isinstance((await pool.decode(photo("jpeg", "b"))).photo, Photo)
        assert child() == pid


class WatchedBudget(ThreadBudget):
    """Counts how many hold room at a time, and what they asked for."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.asked: list[int] = []
        self.now = self.peak = 0

    @contextlib.contextmanager
    def room(self, num_bytes: int, has_given_up: Callable[[], bool]) -> Iterator[None]:
        self.asked.append(num_bytes)
        with super().room(num_bytes, has_given_up):
            self.now += 1
            self.peak = max(self.peak, self.now)
            yield
            self.now -= 1


async def test_decoders_take_memory_from_one_budget_before_they_decode() -> None:
    body = encoded(picture("a", (1200, 900)), "PNG")
    for total, peak in ((10 << 20, 1), (100 << 20, 2)):
        budget = WatchedBudget(total)
        pools = [DecoderPool(1, SIZE, budget=budget) for _ in range(2)]
        found = await asyncio.gather(*(pool.decode(body) for pool in pools for _ in range(6)))
        assert {decoded.photo for decoded in found} == {normalize(body, SIZE)}
        assert set(budget.asked) == {6 * 1200 * 900 + (4 << 20)}
        assert budget.peak <= peak
        assert budget.free == total
        assert (await pools[0].decode(b"<html>")).photo == Refusal("html")
        assert len(budget.asked) == 12  # nothing is asked for what is not decoded
        for pool in pools:
            pool.close()


async def test_one_that_waits_for_memory_can_be_cancelled_and_the_pool_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "STOP_AFTER_S", 0.01)
    budget = ThreadBudget(10)
    pool = DecoderPool(1, SIZE, budget=budget)
    with budget.room(10, lambda: False):
        caller = asyncio.create_task(pool.decode(photo("jpeg")))
        await until(lambda: len(budget._waiting) == 1)
        caller.cancel()
        await until(lambda: not budget._waiting)
        last = asyncio.create_task(pool.decode(photo("jpeg")))
        await until(lambda: len(budget._waiting) == 1)
        await asyncio.to_thread(pool.close)
        assert not children()
    assert (await last).photo == Refusal("decoder_timeout")


async def test_a_decoder_is_replaced_after_so_many_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "MAX_PHOTOS", 3)
    async with decoding() as pool:  # which decodes the first
        pid = child()
        for name in "bc":
            assert child() == pid
            assert (await pool.decode(photo("jpeg", name))).photo == normalize(photo("jpeg", name), SIZE)
        assert is_gone(pid)
        assert isinstance((await pool.decode(photo("jpeg", "d"))).photo, Photo)


async def test_a_decoder_that_nobody_stops_stops_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "GRACE_S", 0.01 - 60.0)
    pool = DecoderPool(1, 3000, timeout_s=60.0)
    assert (await pool.decode(encoded(picture("a", (6000, 4000))))).photo == Refusal("decoder_crashed")
    pool.close()


async def test_a_photograph_that_needs_too_much_memory_is_refused() -> None:
    body = encoded(Image.new("L", (9000, 9000)), "PNG", compress_level=1)
    async with decoding() as pool:
        pid = child()
        assert resource.prlimit(pid, resource.RLIMIT_AS) == (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE)
        limit = psutil.Process(pid).memory_info().vms + (40 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        assert (await pool.decode(body)).photo == Refusal("out_of_memory")
        assert isinstance((await pool.decode(photo("jpeg"))).photo, Photo)
        assert child() == pid


async def test_the_event_loop_goes_on_meanwhile() -> None:
    body = encoded(picture("a", (5000, 4000)), quality=95)
    async with decoding(image_size=2500) as pool:
        task = asyncio.create_task(pool.decode(body))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert isinstance(task.result().photo, Photo)
    assert ticks > 5  # one, had it been held


async def test_decoders_end_when_the_pool_is_closed() -> None:
    async with decoding(2) as pool:
        pids = children()
        for pid in pids:
            await suspend(pid)
        body = photo("jpeg")
        tasks = [asyncio.create_task(pool.decode(body)) for _ in range(5)]
        await until(lambda: all(is_handed_over(pid, len(body)) for pid in pids))
        pool.close()
        assert not children()
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [d.photo for d in found[:2] if not isinstance(d, BaseException)] == [Refusal("decoder_crashed")] * 2
    assert all(isinstance(d, asyncio.CancelledError) for d in found[2:])
    pool.close()


async def test_decoders_end_with_a_pool_that_nobody_closed() -> None:
    pool = DecoderPool(1, SIZE)
    await pool.decode(photo("jpeg"))
    assert children()
    del pool
    gc.collect()
    await until(lambda: not children())


def test_decoders_end_when_the_one_that_started_them_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
        asyncio.run(until(lambda: is_gone(pid)))


async def test_output_of_a_library_is_not_mistaken_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Python runs this file as it starts; with every body that is decoded, something is printed.
    (tmp_path / "sitecustomize.py").write_text(
        "import hashlib, os\nsha256 = hashlib.sha256\n"
        "def loud(body):\n    os.write(1, b'libtiff: bad tag\\n' * 9)\n    print('odd')\n    return sha256(body)\n"
        "hashlib.sha256 = loud\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with decoding() as pool:
        assert (await pool.decode(photo("jpeg", "a"))).photo == normalize(photo("jpeg", "a"), SIZE)
    said = capfd.readouterr()
    assert "bad tag" in said.err
    assert not said.out


async def test_decoders_that_cannot_be_started_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        pool = DecoderPool(1, SIZE)
        with pytest.raises(ClusterError, match="ended when it started"):
            await pool.decode(photo("jpeg"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "none"))
        with pytest.raises(ClusterError, match="can be started"):
            await pool.decode(photo("jpeg"))
    assert isinstance((await pool.decode(photo("jpeg"))).photo, Photo)
    pool.close()


def test_reasons_have_meanings() -> None:
    assert set(REASONS) == {"decoder_crashed", "decoder_timeout"}


async def test_a_decoder_gives_its_memory_back_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = list[int]()

    class Budget(ThreadBudget):
        @contextlib.contextmanager
        def room(self, num_bytes: int, has_given_up: Callable[[], bool]) -> Iterator[None]:
            with super().room(num_bytes, has_given_up):
                pids.append(child())
                os.kill(pids[0], signal.SIGSTOP)
                try:
                    yield
                finally:
                    ended.append(is_gone(pids[0]))

    ended = list[bool]()
    pool = DecoderPool(1, SIZE, timeout_s=2.0, budget=Budget(1 << 30))
    assert (await pool.decode(photo("jpeg"))).photo == Refusal("decoder_timeout")
    assert ended == [True]
    pool.close()
