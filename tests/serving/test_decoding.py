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
from aitax_ray.serving import decoding
from aitax_ray.serving.decoding import PhotoDecoder
from tests.engines import COLOURS, SIZE, photo, write_small_engine
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
    decoded = await decoder.decode(RED)
    assert (decoded.mode, min(decoded.size)) == ("RGB", SIZE)
    assert np.abs(np.asarray(decoded, int) - COLOURS["11"]).max() < 12  # it went through JPEG


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"<html>", "html"),
        (lambda: b"", "not an image"),
        (lambda: RED[:200], r"truncated \(.*\)"),
        (lambda: photo((1, 2, 3), (13, 17)), r"too small \(shorter side below 16 px.*\)"),
        (
            lambda: encoded(Image.new("1", (10_000, 6_001)), "PNG"),
            r"decompression bomb \(more pixels than the limit.*\)",
        ),
    ],
)
async def test_what_cannot_be_used_is_refused_with_the_reason(
    decoder: PhotoDecoder, make: Callable[[], bytes], reason: str
) -> None:
    status, message = await refusal(decoder, make())
    assert status == 415
    assert re.search(rf"^photograph 2 cannot be used: .*{reason}", message), message


async def test_more_bytes_than_the_limit_are_refused(decoder: PhotoDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", len(RED) - 1)
    assert await refusal(decoder, RED) == (413, f"photograph 2 cannot be used: it has more than {len(RED) - 1:,} bytes")


async def test_a_body_that_kills_or_hangs_its_decoder_is_refused_and_the_next_one_is_answered(
    info: EngineInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragile_decoder(tmp_path, monkeypatch)
    decoder = PhotoDecoder(info, num_decoders=1, timeout_s=1.5)
    try:
        answers = [refusal(decoder, b"KILL"), decoder.decode(RED), refusal(decoder, b"HANG"), decoder.decode(RED)]
        killed, first, hung, second = await asyncio.gather(*answers)
    finally:
        decoder.close()
    assert killed[0] == hung[0] == 415  # type: ignore[index]
    assert "decoder crashed" in killed[1]  # type: ignore[index]
    assert "decoder timeout (decoding took too long)" in hung[1]  # type: ignore[index]
    assert first.size == second.size  # type: ignore[union-attr]


def write_fragile_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoders die of the body KILL and hang at the body HANG: Python runs this file as it starts."""
    (folder / "sitecustomize.py").write_text(
        "import hashlib, os, time\n"
        "sha256 = hashlib.sha256\n"
        "def fragile(body=b'', **options):\n"
        "    if body == b'KILL':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    if body == b'HANG':\n"
        "        time.sleep(1000)\n"
        "    return sha256(body, **options)\n"
        "hashlib.sha256 = fragile\n"
    )
    monkeypatch.syspath_prepend(folder)
