"""serving.decoding: a bad photograph is refused, and does not disturb other requests."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.info import EngineInfo
from aitax_ray.errors import RequestError
from aitax_ray.images import decoders
from aitax_ray.serving import decoding
from aitax_ray.serving.decoding import BUSY, PhotoDecoder
from tests.engines import COLOURS, SIZE, photo, write_small_engine
from tests.images.test_effort import with_scans
from tests.web import encoded

RED = photo(COLOURS["11"], (400, 300))


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> EngineInfo:
    return open_engine(str(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))).info


@pytest.fixture
async def decoder(info: EngineInfo) -> AsyncIterator[PhotoDecoder]:
    made = PhotoDecoder(info, num_decoders=1)
    yield made
    made.close()


async def refusal(decoder: PhotoDecoder, body: bytes) -> tuple[int, str]:
    """Decode a body that is refused; returns the status and the message."""
    with pytest.raises(RequestError) as caught:
        await decoder.decode(body, "photograph 2")
    return caught.value.status, str(caught.value)


async def test_a_photograph_is_decoded_no_larger_than_the_network_needs(decoder: PhotoDecoder) -> None:
    for body in (RED, photo(COLOURS["11"], (150, 100), "JPEG")):
        decoded = await decoder.decode(body)
        assert (decoded.mode, min(decoded.size)) == ("RGB", SIZE)
        assert np.abs(np.asarray(decoded, int) - COLOURS["11"]).max() < 3


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
async def test_the_network_sees_the_same_as_without_decoders(info: EngineInfo, mode: str) -> None:
    transform = info.transform.model_copy(update={"crop_mode": mode})
    decoder = PhotoDecoder(info.model_copy(update={"transform": transform}), num_decoders=1)
    noise = np.random.default_rng(0).integers(0, 256, (17, 24, 3), dtype=np.uint8)
    body = encoded(Image.fromarray(noise), "PNG")
    try:
        decoded = await decoder.decode(body)
    finally:
        decoder.close()
    expected = transform.pixels(Image.fromarray(noise))
    assert np.array_equal(transform.pixels(decoded), expected)


@pytest.mark.parametrize(
    ("make", "expected", "reason"),
    [
        (lambda: b"<html>", 415, r"html \(a web page\): send JPEG, PNG"),
        (lambda: b"\0" * 100, 415, r"not an image \(.*\): send JPEG, PNG"),
        (lambda: RED[:200], 415, r"truncated \([^:]*: [^:]*\)$"),
        (lambda: photo((1, 2, 3), (13, 17)), 415, r"too small \(shorter side below 16 px.*\)"),
        (
            lambda: encoded(Image.new("1", (10_000, 6_001)), "PNG"),
            413,
            r"decompression bomb \(more pixels than the limit.*\)",
        ),
        (lambda: with_scans(101), 413, r"too complex \(takes far more work.*\)"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_the_reason(
    decoder: PhotoDecoder, make: Callable[[], bytes], expected: int, reason: str
) -> None:
    status, message = await refusal(decoder, make())
    assert status == expected
    assert re.search(rf"^photograph 2 cannot be used: .*{reason}", message), message


async def test_no_bytes_are_a_bad_request(decoder: PhotoDecoder) -> None:
    assert await refusal(decoder, b"") == (400, "photograph 2 is empty")


async def test_more_bytes_than_the_limit_are_refused(decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", len(RED) - 1)
    assert await refusal(decoder, RED) == (413, f"photograph 2 cannot be used: it has more than {len(RED) - 1:,} bytes")


async def test_a_body_that_kills_or_hangs_its_decoder_is_refused_and_the_next_one_is_answered(
    info: EngineInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragile_decoder(tmp_path, monkeypatch)
    decoder = PhotoDecoder(info, num_decoders=1, timeout_s=1.5, slow_timeout_s=0.5)
    try:
        answers = [refusal(decoder, b"KILL"), decoder.decode(RED), refusal(decoder, b"HANG"), decoder.decode(RED)]
        killed, first, hung, second = await asyncio.gather(*answers)
    finally:
        decoder.close()
    assert killed[0] == hung[0] == 415  # type: ignore[index]
    assert "decoder crashed" in killed[1]  # type: ignore[index]
    assert "decoder timeout (decoding took too long)" in hung[1]  # type: ignore[index]
    assert first.size == second.size  # type: ignore[union-attr]


async def test_photographs_that_hang_do_not_stop_the_others(
    info: EngineInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragile_decoder(tmp_path, monkeypatch)
    monkeypatch.setattr(decoding, "MAX_SLOW", 2)
    decoder = PhotoDecoder(info, num_decoders=1, timeout_s=1.0, slow_timeout_s=60.0)
    try:
        hanging = [asyncio.create_task(decoder.decode(b"HANG")) for _ in range(4)]
        await asyncio.sleep(0)
        # Each holds the only quick decoder for a second. Two of them then wait for the slow one, two are refused.
        assert (await decoder.decode(RED)).size == (SIZE * 4 // 3, SIZE)
        done, still = await asyncio.wait(hanging, return_when=asyncio.ALL_COMPLETED, timeout=0.5)
        assert [str(task.exception()) for task in done] == [BUSY, BUSY]
        assert (await decoder.decode(RED)).size == (SIZE * 4 // 3, SIZE)
    finally:
        await asyncio.to_thread(decoder.close)
    found = await asyncio.gather(*still, return_exceptions=True)
    assert all(isinstance(error, RequestError | asyncio.CancelledError) for error in found)


async def test_photographs_that_look_slow_never_hold_a_quick_decoder(
    info: EngineInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 of them beside ordinary ones: the slow process takes as many as may wait, the others are refused."""
    slow = encoded(Image.new("RGB", (1500, 1000)), "PNG")
    monkeypatch.setattr(decoding, "MAX_QUICK_WORK", 4 * 1_000_000)
    decoder = PhotoDecoder(info, num_decoders=1)
    monkeypatch.setattr(decoder._slow_pool, "open", lambda *_: asyncio.Event().wait())
    try:
        hanging = [asyncio.create_task(decoder.decode(slow)) for _ in range(20)]
        found = await asyncio.gather(*(decoder.decode(RED) for _ in range(5)))
        assert {photo.size for photo in found} == {(SIZE * 4 // 3, SIZE)}
        done = [task for task in hanging if task.done()]
        assert [str(task.exception()) for task in done] == [BUSY] * (20 - decoding.MAX_SLOW)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
    finally:
        await asyncio.to_thread(decoder.close)


async def test_a_photograph_that_takes_much_of_a_core_gives_way_only_when_others_wait(
    info: EngineInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_QUICK_CPU_S", 0.0)
    monkeypatch.setattr(decoders, "STEP_S", 0.005)
    large = encoded(Image.effect_noise((1500, 1200), 50).convert("RGB"), "PNG", compress_level=1)
    decoder = PhotoDecoder(info, num_decoders=1)
    calls = list[bytes]()
    decode = decoder._slow_pool.open
    monkeypatch.setattr(decoder._slow_pool, "open", lambda body, size: calls.append(body) or decode(body, size))
    try:
        await decoder.decode(RED)  # its process has started
        await decoder.decode(large)
        assert calls == []
        await asyncio.gather(decoder.decode(large), decoder.decode(RED))
        assert calls == [large]
    finally:
        await asyncio.to_thread(decoder.close)


async def test_more_photographs_than_may_wait_are_refused_at_once(
    decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_WAITING", 3)
    found = await asyncio.gather(*(decoder.decode(RED) for _ in range(5)), return_exceptions=True)
    refused = [error for error in found if isinstance(error, RequestError)]
    assert [(error.status, str(error)) for error in refused] == [(503, BUSY)] * 2
    monkeypatch.setattr(decoding, "MAX_WAITING_BYTES", 3 * len(RED) + 1)
    monkeypatch.setattr(decoding, "MAX_WAITING", 99)
    found = await asyncio.gather(*(decoder.decode(RED) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(error, RequestError) for error in found) == 2
    assert isinstance(await decoder.decode(RED), Image.Image)  # nothing is counted for ever
    caller = asyncio.create_task(decoder.decode(RED))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (decoder._num_waiting, decoder._num_bytes, decoder._num_slow) == (0, 0, 0)


def write_fragile_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoders die of the body KILL and hang at the body HANG: Python runs this file as it starts."""
    (folder / "sitecustomize.py").write_text(
        "import os, time\n"
        "from aitax_ray.images import content, decode\n"
        "def fragile(body):\n"
        "    if body == b'KILL':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    if body == b'HANG':\n"
        "        time.sleep(1000)\n"
        "    return content.photo_format(body)\n"
        "decode.photo_format = fragile\n"
    )
    monkeypatch.syspath_prepend(folder)
