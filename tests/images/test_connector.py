"""images.connector: answers that break the rules reach aiohttp's client as answers that keep them."""

import asyncio
import warnings

import aiohttp
import pytest

from aitax_ray.images.connector import LenientConnector
from tests.rawweb import BODY, HALF
from tests.web import Web, photo


async def read(url: str) -> tuple[int, bytes]:
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(connector=LenientConnector()) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        return response.status, await response.read()


@pytest.mark.parametrize(
    ("kind", "body"),
    [("length twice", BODY), ("length and chunks", HALF), ("more than one body", BODY), ("ready at last", BODY)],
)
async def test_an_answer_that_breaks_the_rules_is_read(web: Web, kind: str, body: bytes) -> None:
    assert await read(web.raw(kind)) == (200, body)


async def test_an_answer_whose_end_is_missing_is_completed(web: Web) -> None:
    assert await read(web.raw("chunks without their end")) == (200, BODY + b"\xff\xd9")
    assert await read(web.raw("redirect without an empty line")) == (301, b"")


@pytest.mark.parametrize("kind", ["half a body", "chunks, closed", "chunk of no length", "trailer without end"])
async def test_a_body_that_is_cut_or_broken_is_an_error_and_not_waited_for(web: Web, kind: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await read(web.raw(kind))


async def test_a_connection_is_used_again_unless_surplus_bytes_came(web: Web) -> None:
    with warnings.catch_warnings(record=True) as warned:
        async with aiohttp.ClientSession(connector=LenientConnector()) as session, asyncio.timeout(20):
            for path in ("/photo/a", "/chunks/1341/a", "/photo/b"):
                async with session.get(web.url(path)) as response:
                    await response.read()
                    assert response.connection is None
            assert len(session.connector._conns) == 1  # type: ignore[union-attr]
            for _ in range(2):
                async with session.get(web.raw("more than one body")) as response:
                    assert await response.read() == BODY
            assert web.connections["more than one body"] == 2
            async with session.get(web.url("/photo/a")) as response:
                assert await response.read() == photo("jpeg", "a")
    assert not warned
