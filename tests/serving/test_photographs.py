"""serving.photographs: uploads and photographs by URL reach the engine in their order."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request
from python_multipart.multipart import File

from aitax_ray.errors import RequestError
from aitax_ray.serving import photographs
from aitax_ray.serving.form import Upload
from aitax_ray.serving.photographs import fetch_photographs
from tests.engines import COLOURS, photo
from tests.serving.service import RED_URL

RED, BLUE = photo(COLOURS["11"]), photo(COLOURS["33"])


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all"])
@pytest.mark.parametrize("names", [("image", "image"), ("images", "images"), ("image", "images")])
def test_photographs_are_named_image_or_images(service: httpx.Client, path: str, names: tuple[str, str]) -> None:
    files = [(name, (name, body)) for name, body in zip(names, (RED, BLUE), strict=True)]
    assert len(service.post(path, files=files).json()["results"]) == 2
    assert service.get(path, params=[(name, RED_URL) for name in names]).status_code == 200


def test_a_photograph_that_cannot_be_used_is_named_by_its_place(service: httpx.Client) -> None:
    answer = service.post("/v2/identify/all", files=[("images", RED), ("image", b"no photograph")])
    assert (answer.status_code, "photograph 2 cannot be used" in answer.json()["message"]) == (415, True)


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all"])
def test_no_photograph_and_too_many_are_refused(service: httpx.Client, path: str) -> None:
    for answer in (
        service.post(path, files={"other": RED}),
        service.post(path, files=[("image", RED)] * 6),
        service.get(path),
        service.get(path, params=[("image", RED_URL)] * 6),
    ):
        assert answer.status_code == 400
        assert "1 to 5 photographs" in answer.json()["message"]


def test_nothing_holds_an_upload_once_it_is_answered(service: httpx.Client) -> None:
    gc.collect()
    gc.disable()  # a service that is busy collects cycles late, and each photograph may have 50 MB
    try:
        for body in (photo(COLOURS["11"]), b"no photograph", b""):
            service.post("/identify", files={"image": ("a.jpg", body)})
        service.get("/healthz")  # the last request is over
        # By `type`, since isinstance asks every object for its class, and some of torch's answer with a warning.
        kept = [each for each in gc.get_objects() if type(each) in (Upload, File)]
        assert not [each for each in kept if type(each) is Upload or not each.file_object.closed]
    finally:
        gc.enable()


def asking(*urls: str) -> Request:
    return Request({"type": "http", "query_string": "&".join(f"image={url}" for url in urls).encode(), "headers": []})


class SlowBackend:
    """Fetches 1,000 bytes, which it decodes for ever, from `fast`, and for ever from `slow`."""

    def __init__(self) -> None:
        self.decoder, self.waiting, self.has_waiting = self, 0, asyncio.Event()

    async def fetch(self, url: str) -> bytes:
        if url == "bad":
            raise RequestError("bad cannot be fetched")
        if url in ("broken", "small"):
            return url.encode()
        if url == "slow":
            await self._wait()
        return bytes(1000)

    async def decode(self, body: bytes, title: str) -> Any:
        if body == b"broken":
            raise RequestError(f"{title} cannot be used", 415)
        if len(body) == 1000:
            await self._wait()
        return SimpleNamespace()

    async def _wait(self) -> None:
        self.waiting += 1
        self.has_waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


async def test_fetched_bytes_of_all_requests_are_counted_until_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(photographs, "MAX_FETCHED_BYTES", 1500)
    backend: Any = SlowBackend()
    first = asyncio.create_task(fetch_photographs(asking("fast", "slow"), backend))
    await asyncio.wait_for(backend.has_waiting.wait(), 10)
    async with asyncio.timeout(10):
        with pytest.raises(RequestError, match="too many photographs") as refused:
            await fetch_photographs(asking("slow", "fast"), backend)
    assert (refused.value.status, backend.waiting) == (503, 1)
    backend.has_waiting.clear()
    first.cancel()  # the client leaves
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(fetch_photographs(asking("fast"), backend))
    await asyncio.wait_for(backend.has_waiting.wait(), 10)
    assert photographs._FETCHED.num_bytes == 1000  # it is being decoded
    second.cancel()
    await asyncio.wait([second])
    sent = await fetch_photographs(asking("small"), backend)
    assert (photographs._FETCHED.num_bytes, [each.body for each in sent.uploads], sent.names) == (0, [b""], ["small"])


@pytest.mark.parametrize("urls", [("slow", "bad", "slow"), ("broken", "fast", "fast")])
async def test_when_one_photograph_fails_no_other_is_fetched_or_decoded(urls: tuple[str, ...]) -> None:
    backend: Any = SlowBackend()
    async with asyncio.timeout(10):
        with pytest.raises(RequestError, match="cannot be"):
            await fetch_photographs(asking(*urls), backend)
    assert (backend.waiting, photographs._FETCHED.num_bytes) == (0, 0)
