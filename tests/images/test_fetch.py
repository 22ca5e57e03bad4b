"""images.fetch, against servers that misbehave as real ones do. Tests of time limits use short ones."""

import asyncio
import contextlib
import gc
import socket
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from aitax_ray import __version__
from aitax_ray.images import answers, turns
from aitax_ray.images.addresses import AddressGuard
from aitax_ray.images.fetch import Fetched, Fetcher, FetchSettings, read_chunks
from aitax_ray.images.limits import DEAD_AFTER, HostLimit, Lease, Limits
from aitax_ray.images.turns import Sync, Turns, sync_alone
from tests.rawweb import BODY, HALF
from tests.web import HOSTS, Web, gzip_bomb, photo

ANY = HostLimit(64, 10_000.0)
LIMITS = Limits(ANY)
SOON = 60.0  # seconds; what takes longer hangs
METADATA = "169.254.169.254"
A, B = HOSTS[0], HOSTS[1]


@pytest.fixture(autouse=True)
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Get the first turn at a host at once. Otherwise a worker waits a moment, to ask for several hosts in one call."""
    monkeypatch.setattr(turns, "HURRY_S", 0.001)


def new_fetcher(limits: Limits | Sync = LIMITS, concurrency: int = 64, **changes: Any) -> Fetcher:
    settings: dict[str, Any] = {
        "timeout_s": 30.0,
        "connect_timeout_s": 30.0,
        "read_timeout_s": 30.0,
        "attempts": 3,
        "backoff_s": 0.01,
    }
    settings |= {"max_bytes": 1_000_000, "allow_private": True, **changes}
    sync = sync_alone(limits) if isinstance(limits, Limits) else limits
    return Fetcher(FetchSettings(**settings), Turns(sync, concurrency))


@contextlib.asynccontextmanager
async def fetching(limits: Limits | Sync = LIMITS, concurrency: int = 64, **changes: Any) -> AsyncIterator[Fetcher]:
    fetcher = new_fetcher(limits, concurrency, **changes)
    try:
        yield fetcher
    finally:
        closing = asyncio.create_task(fetcher.close())
        _, hanging = await asyncio.wait([closing], timeout=20)
        closing.cancel()
        assert not hanging, "the fetcher does not close"


async def fetch(url: str, **changes: Any) -> Fetched:
    async with fetching(**changes) as fetcher, asyncio.timeout(SOON):
        return await fetcher.fetch(url)


async def fates(url: str, **changes: Any) -> list[tuple[str, int]]:
    """Reason and status of each attempt."""
    fetched = await fetch(url, **changes)
    assert (fetched.body is None) == (fetched.reason != "")
    assert {attempt.reason for attempt in fetched.attempts} <= {"", *answers.REASONS}
    return [(attempt.reason, attempt.http_status) for attempt in fetched.attempts]


class Names(AbstractResolver):
    """Gives each name one answer after the other, and the last one for ever."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self.names, self.asked = names, Counter[str]()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked[host] += 1
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answer = self.names[host].pop(0) if len(self.names[host]) > 1 else self.names[host][0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None: ...


def use_names(monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]) -> Names:
    resolver = Names({name.replace("_", "."): found for name, found in names.items()})
    monkeypatch.setattr(aiohttp, "ThreadedResolver", lambda: resolver)
    return resolver


class AdmitsA(AddressGuard):
    """Takes the first of our hosts for a public one."""

    def admits(self, address: str) -> bool:
        return address == A or super().admits(address)


async def test_a_photograph_comes_unchanged_with_its_attempt(web: Web) -> None:
    fetched = await fetch(web.url("/photo/a"))
    assert (fetched.body, fetched.reason) == (photo("jpeg", "a"), "")
    (attempt,) = fetched.attempts
    assert (attempt.url, attempt.http_status, attempt.content_type) == (web.url("/photo/a"), 200, "image/jpeg")
    assert attempt.num_bytes == len(photo("jpeg", "a"))
    assert 0 < attempt.seconds < SOON
    assert abs(attempt.at - datetime.now(UTC)) < timedelta(seconds=SOON)


@pytest.mark.parametrize(
    ("path", "reason", "status", "attempts"),
    [
        ("/status/404/a", "not_found", 404, 1),
        ("/status/410/a", "gone", 410, 1),
        ("/status/403/a", "forbidden", 403, 1),
        ("/status/401/a", "forbidden", 401, 1),
        ("/status/418/a", "http_error", 418, 1),
        ("/status/304/a", "http_error", 304, 1),
        ("/status/408/a", "timeout", 408, 2),
        ("/status/500/a", "server_error", 500, 3),
        ("/status/503/a", "server_error", 503, 3),
        ("/status/429/a", "too_many_requests", 429, 3),
        ("/empty/a", "empty", 200, 1),
        ("/status/204/a", "empty", 204, 1),
        ("/short/a", "incomplete", 200, 3),
        ("/endless/a", "too_large", 200, 1),
        ("/declared/a", "too_large", 200, 1),
        ("/bytes/1000001/a", "too_large", 200, 1),
        ("/chunks/1000001/a", "too_large", 200, 1),
        ("/bomb/16/a", "too_large", 200, 1),
        ("/half-gzip/a", "incomplete", 200, 3),
        ("/miscoded/br/a", "bad_encoding", 200, 1),
        ("/miscoded/gzip/a", "bad_encoding", 200, 1),
        ("/loop/a", "redirect_loop", 302, 1),
        ("/chain/6/a", "too_many_redirects", 302, 1),
        ("/to/nowhere", "bad_redirect", 302, 1),
        ("/to/file:///etc/passwd", "bad_redirect", 302, 1),
        ("/to/ftp://127.0.0.1/a", "bad_redirect", 302, 1),
        ("/to/http://[bad/a", "bad_redirect", 302, 1),
        ("/to/http://127.1/", "bad_redirect", 302, 1),
        (f"/to/http://{METADATA}/latest/meta-data/", "private_address", 302, 1),
        ("/to/http://[fe80::1]/", "private_address", 302, 1),
        ("/to/http://[::ffff:169.254.169.254]/", "private_address", 302, 1),
        ("/to/http://0.0.0.0/", "private_address", 302, 1),
        ("/to/http://224.0.0.1/", "private_address", 302, 1),
        ("/robots/noai/a", "no_ai", 200, 1),
    ],
)
async def test_a_failure_has_its_reason_and_its_number_of_attempts(
    web: Web, path: str, reason: str, status: int, attempts: int
) -> None:
    assert await fates(web.url(path)) == [(reason, status)] * attempts
    assert web.requests.total() >= attempts


@pytest.mark.parametrize(
    ("kind", "reason", "status", "attempts"),
    [
        *(
            (kind, "connection_failed", 0, 3)
            for kind in (
                "accept and close", "accept and reset", "close", "half close", "reset", "half a head",
                "half a head, half closed", "head without end", "line without end", "status without end", "large head",
                "garbage", "another protocol", "no head", "bad length", "two lengths",
            )
        ),
        *(
            (kind, "incomplete", 200, 3)
            for kind in (
                "half a body", "half a body, half closed", "half a body, reset", "chunks, closed", "chunks, half closed"
            )
        ),
        ("chunks without end", "too_large", 200, 1),
    ],
)  # fmt: skip
async def test_a_server_that_breaks_the_rules_has_its_reason(
    web: Web, kind: str, reason: str, status: int, attempts: int
) -> None:
    assert await fates(web.raw(kind)) == [(reason, status)] * attempts


@pytest.mark.parametrize("kind", ["chunk of no length", "chunk of a large length", "trailer without end"])
async def test_an_error_in_a_body_may_hide_the_head_that_came_with_it(web: Web, kind: str) -> None:
    found = await fates(web.raw(kind))
    assert len(found) == 3
    assert set(found) <= {("incomplete", 200), ("connection_failed", 0)}


async def test_a_server_that_does_not_answer_is_given_up_after_two_attempts(web: Web) -> None:
    urls = [web.url("/hang/a"), *map(web.raw, ("silent", "head that drips", "for ever nearly ready"))]
    found = await asyncio.gather(*(fates(url, timeout_s=0.2) for url in urls))
    assert found == [[("timeout", 0)] * 2] * len(urls)


async def test_a_body_without_end_is_stopped_by_the_time_limit_of_the_request(web: Web) -> None:
    urls = [web.url("/drip/a"), *map(web.raw, ("half a body, silent", "chunks, silent", "chunks that drip"))]
    found = await asyncio.gather(*(fates(url, timeout_s=1.0, attempts=1) for url in urls))
    assert found == [[("timeout", 200)]] * len(urls)


async def test_a_host_that_begins_to_answer_and_then_hangs_is_dead(web: Web) -> None:
    url = web.raw("half a body, silent")
    async with fetching(timeout_s=0.2, attempts=1) as fetcher:
        found = [(await fetcher.fetch(f"{url}?{number}")).reason for number in range(DEAD_AFTER + 5)]
    assert found[:DEAD_AFTER] == ["timeout"] * DEAD_AFTER
    assert found[-1] == "host_unreachable"


async def test_silence_is_stopped_by_the_time_limit_between_reads(web: Web) -> None:
    urls = [web.url("/hang/a"), *map(web.raw, ("silent", "half a body, silent", "chunks, silent"))]
    found = await asyncio.gather(*(fates(url, read_timeout_s=0.2) for url in urls))
    assert [[reason for reason, _ in each] for each in found] == [["timeout"] * 2] * len(urls)


async def test_a_connection_that_is_not_accepted_is_stopped_by_the_time_limit_to_connect(web: Web) -> None:
    urls = [web.full(), web.raw("silent", scheme="https")]
    found = await asyncio.gather(*(fates(url, connect_timeout_s=0.2) for url in urls))
    assert found == [[("timeout", 0)] * 2] * len(urls)


async def test_a_port_that_speaks_no_tls_is_no_secure_connection(web: Web) -> None:
    assert await fates(web.url("/photo/a").replace("http:", "https:")) == [("tls_failed", 0)]
    assert not web.requests


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("without a length", BODY),
        ("without a length, half closed", BODY),
        ("ready at last", BODY),
        ("before it is asked", BODY),
        ("more than one body", BODY),
        ("longer than declared", HALF),
        ("length twice", BODY),
        ("length and chunks", HALF),
        ("headers of 64 KB", BODY),
        ("a header of 64 KB", BODY),
        ("a thousand headers", BODY),
        ("lines that are no headers", BODY),
        ("reset after the body", BODY),
        ("chunks without their end", BODY + b"\xff\xd9"),
    ],
)
async def test_a_body_is_read_although_the_answer_breaks_rules(web: Web, kind: str, body: bytes) -> None:
    fetched = await fetch(web.raw(kind))
    assert (fetched.body, len(fetched.attempts)) == (body, 1)


async def test_surplus_bytes_after_a_body_are_not_read_as_the_next_answer(web: Web) -> None:
    async with fetching() as fetcher:
        for kind, body in (("longer than declared", HALF), ("more than one body", BODY)) * 2:
            fetched = await fetcher.fetch(web.raw(kind))
            assert (fetched.body, len(fetched.attempts)) == (body, 1)


async def test_a_content_type_that_is_not_text_can_be_stored(web: Web) -> None:
    fetched = await fetch(web.raw("type in bytes"))
    assert fetched.body == BODY
    assert fetched.attempts[0].content_type.encode().startswith(b"image/jp")


async def test_a_request_on_a_connection_that_its_host_has_closed_is_sent_again(web: Web) -> None:
    async with fetching() as fetcher:
        for _ in range(3):
            fetched = await fetcher.fetch(web.raw("closed without saying so"))
            assert (fetched.body, len(fetched.attempts)) == (BODY, 1)
    assert web.connections["closed without saying so"] == 3


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
async def test_the_first_chunk_is_long_enough_to_recognise_a_photograph(size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    stream = aiohttp.StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
    feeder = asyncio.create_task(feed_bytewise(stream, body))
    chunks = [chunk async for chunk in read_chunks(stream)]
    await feeder
    assert b"".join(chunks) == body
    assert [len(chunk) for chunk in chunks[:1]] == [min(size, 256)] * bool(size)


async def feed_bytewise(stream: aiohttp.StreamReader, body: bytes) -> None:
    for byte in body:
        stream.feed_data(bytes([byte]))
        await asyncio.sleep(0)
    stream.feed_eof()


async def test_an_attempt_is_one_connection(web: Web) -> None:
    for kind in ("accept and close", "close", "half close", "reset"):
        await fetch(web.raw(kind))
        assert web.connections[kind] == 3


@pytest.mark.parametrize(
    "path",
    [
        "/gzip/a",
        "/deflate/a",
        "/encoded/identity/a",
        "/chunks/1341/a",
        "/encoded/UTF-8/a",
        "/encoded/none/a",
        "/encoded/aws-chunked/a",
        "/encoded/binary/a",
        "/encoded/identity, identity/a",
        "/encoded/br/a",
        "/encoded/gzip/a",
        "/encoded/deflate/a",
        "/encoded/zstd, gzip/a",
        "/raw-deflate/a",
        "/gzip-twice/a",
    ],
)
async def test_a_body_is_read_in_whatever_form_it_comes(web: Web, path: str) -> None:
    body = (await fetch(web.url(path))).body
    assert body == (b"\xff" * 1341 if path.startswith("/chunks") else photo("jpeg", "a"))


async def test_a_body_as_large_as_the_limit_is_read(web: Web) -> None:
    for path in ("/bytes/1000000/a", "/chunks/1000000/a", "/bomb/1/a"):
        assert len((await fetch(web.url(path))).body or b"") == 1_000_000


async def test_compressed_bytes_that_inflate_to_nothing_count_as_well(web: Web) -> None:
    fetched = await fetch(web.raw("gzip without end"), timeout_s=20, attempts=1)
    assert fetched.reason == "too_large"
    assert fetched.attempts[0].num_bytes > 1_000_000


async def test_a_bomb_is_left_before_it_fills_the_memory(web: Web) -> None:
    assert len(gzip_bomb(32)) < 100_000
    async with fetching() as fetcher:
        assert (await fetcher.fetch(web.url("/photo/a"))).body
        tracemalloc.start()
        try:
            (attempt,) = (await fetcher.fetch(web.url("/bomb/32/a"))).attempts
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (attempt.reason, attempt.num_bytes) == ("too_large", len(gzip_bomb(32)))
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("tag", "forbids"),
    [
        ("noai", True),
        ("noindex, NoImageAI", True),
        ("aitax-ray: noai", True),
        ("otherbot: noai", False),
        ("noindex", False),
    ],
)
async def test_a_host_that_forbids_ai_is_respected_unless_a_setting_says_otherwise(
    web: Web, tag: str, forbids: bool
) -> None:
    url = web.url(f"/robots/{tag}/a")
    assert await fates(url) == [("no_ai" if forbids else "", 200)]
    assert await fates(url, respect_robots=False) == [("", 200)]


async def test_we_say_who_we_are_and_how_to_reach_us(web: Web) -> None:
    await fetch(web.url("/photo/a"))
    await fetch(web.url("/photo/a"), contact="https://example.org/bot")
    assert web.agents == {f"aitax-ray/{__version__}", f"aitax-ray/{__version__} (+https://example.org/bot)"}


# Addresses


@pytest.mark.parametrize("url", ["", "a.jpg", "http://", "http://h:99999/", "http://[::1/", "ftp://127.0.0.1/a",
                                 "mailto:a@b", "http://\x00/", "//x/y", "http://127.1/"])  # fmt: skip
async def test_what_is_no_url_is_refused(url: str) -> None:
    fetched = await fetch(url)
    assert [(a.url, a.reason, a.http_status) for a in fetched.attempts] == [(url, "bad_url", 0)]


@pytest.mark.parametrize("host", [A, B, "localhost", "0x7f000001", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", METADATA])
async def test_private_hosts_are_refused_by_number_and_by_name(web: Web, host: str) -> None:
    assert await fates(web.url("/photo/a", host), allow_private=False) == [("private_address", 0)]
    assert not web.hosts


@pytest.mark.parametrize("answer", [["8.8.8.8", A], ["2606:4700::1111", "::1"], ["8.8.8.8", "10.0.0.1"], [METADATA]])
async def test_a_name_with_one_private_address_is_refused(
    web: Web, monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    use_names(monkeypatch, mixed_example=[answer])
    assert await fates(web.url("/photo/a", "mixed.example"), allow_private=False) == [("private_address", 0)]
    assert not web.hosts


@pytest.mark.parametrize("target", [B, "10.0.0.1", "localhost", "[::1]", "[::ffff:7f00:2]", "inside.example", METADATA])
async def test_a_redirect_to_a_private_address_is_not_followed(
    web: Web, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    use_names(monkeypatch, inside_example=[["8.8.8.8", B]], localhost=[[B]])
    async with fetching(allow_private=False) as fetcher:
        fetcher.guard = AdmitsA()
        assert (await fetcher.fetch(web.url("/photo/a"))).body
        fetched = await fetcher.fetch(web.url(f"/to/{web.url('/photo/a', target)}"))
    assert [a.reason for a in fetched.attempts] == ["private_address"]
    assert web.hosts.keys() == {A}


async def test_the_address_that_was_checked_is_connected_to_even_if_the_name_changes(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = use_names(monkeypatch, changing_example=[[A], [METADATA]])
    connected = []
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def watched(sock: socket.socket, address: Any) -> None:
        connected.append(address[0])
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", watched)
    monkeypatch.setattr("aitax_ray.images.fetch.DNS_TTL_S", 0)  # to be asked anew for each connection
    url = web.url("/close/a", "changing.example")
    async with fetching() as fetcher:
        assert (await fetcher.fetch(url)).body == photo("jpeg", "a")
        assert (connected, names.asked.total()) == ([A], 1)
        assert [a.reason for a in (await fetcher.fetch(url)).attempts] == ["private_address"]
    assert (connected, names.asked.total()) == ([A], 2)
    assert web.requests.total() == 1


async def test_a_name_is_not_looked_up_for_every_photograph(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    names = use_names(monkeypatch, a_example=[[A]])
    async with fetching() as fetcher:
        urls = [web.url(f"/photo/{n}", "a.example") for n in range(8)]
        fetched = await asyncio.gather(*map(fetcher.fetch, urls))
        assert all(f.body for f in fetched)
        assert (await fetcher.fetch(web.url("/close/a", "a.example"))).body
        assert (await fetcher.fetch(web.url("/photo/a", "a.example"))).body
    assert names.asked == {"a.example": 1}


async def test_a_name_that_nobody_knows_is_tried_again_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    use_names(monkeypatch)
    assert await fates("http://unknown.example/a") == [("no_such_host", 0)] * 3


# Redirects


@pytest.mark.parametrize("path", ["/redirect/a", "/again/a", "/chain/5/a"])
async def test_redirects_are_followed_and_the_last_url_is_recorded(web: Web, path: str) -> None:
    fetched = await fetch(web.url(path))
    assert fetched.body == photo("jpeg", "a")
    final = web.url(path if path == "/again/a" else "/photo/a")
    assert [(a.url, a.http_status, a.content_type) for a in fetched.attempts] == [(final, 200, "image/jpeg")]


async def test_a_redirect_takes_a_turn_at_the_host_that_it_leads_to(web: Web) -> None:
    limits = Limits(ANY, {B: HostLimit(1, 10_000.0)})
    async with fetching(limits) as fetcher:
        urls = [web.url(f"/to/{web.url(f'/slow/0.03/{n}', B)}") for n in range(6)]
        fetched = await asyncio.gather(*map(fetcher.fetch, urls))
    assert [f.attempts[0].url for f in fetched] == [web.url(f"/slow/0.03/{n}", B) for n in range(6)]
    assert (web.hosts[A].requests, web.hosts[B].requests, web.hosts[B].peak) == (6, 6, 1)


@pytest.mark.parametrize("path", ["/to/..\\photo\\a", "/choices/a", "/cookie/a"])
async def test_a_redirect_that_browsers_follow_is_followed(web: Web, path: str) -> None:
    assert (await fetch(web.url(path))).body == photo("jpeg", "a")


async def test_a_cookie_goes_back_to_its_host_only(web: Web) -> None:
    fetched = await fetch(web.url(f"/cookie-to/{web.url('/cookie/a', B)}"))
    assert fetched.body == photo("jpeg", "a")
    assert web.requests["/cookie/a"] == 2  # the second time with the cookie of B


async def test_a_redirect_whose_head_does_not_end_is_followed(web: Web) -> None:
    fetched = await fetch(web.raw("redirect without an empty line"), attempts=1)
    assert fetched.reason == "redirect_loop"


async def test_a_redirect_to_bytes_that_are_not_text_is_followed_as_in_browsers(web: Web) -> None:
    fetched = await fetch(web.raw("redirect in bytes"))
    assert [a.url.rpartition("/")[2] for a in fetched.attempts] == ["caf%E9.jpg"]


# Turns and patience


async def test_a_photograph_comes_after_two_errors(web: Web) -> None:
    assert await fates(web.url("/flaky/a")) == [("server_error", 503), ("server_error", 503), ("", 200)]


async def test_a_host_is_waited_for_as_long_as_it_asks(web: Web) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    paths = ("/busy/1/a", "/down/1/a", f"/busy/{format_datetime(until, usegmt=True)}/a")
    found = await asyncio.gather(*(fates(web.url(path, host)) for path, host in zip(paths, HOSTS[:3], strict=True)))
    busy, down = ("too_many_requests", 429), ("server_error", 503)
    assert found == [[busy, ("", 200)], [down, ("", 200)], [busy, ("", 200)]]
    for host in HOSTS[:2]:
        first, second = web.hosts[host].times
        assert second - first >= 1
    assert datetime.now(UTC) >= until


async def test_a_pause_that_one_answer_asks_for_applies_to_the_host(web: Web) -> None:
    async with fetching(attempts=1) as fetcher:
        assert (await fetcher.fetch(web.url("/busy/1/a"))).reason == "too_many_requests"
        fetched = await asyncio.gather(*(fetcher.fetch(web.url(f"/photo/{n}")) for n in range(3)))
    assert all(f.body for f in fetched)
    first, *later = web.hosts[A].times
    assert len(later) == 3
    assert min(later) - first >= 1


async def test_a_host_that_pauses_holds_up_no_other_host(web: Web) -> None:
    async with fetching(concurrency=2, attempts=1) as fetcher:
        assert (await fetcher.fetch(web.url("/busy/100/a"))).reason == "too_many_requests"
        pausing = [asyncio.create_task(fetcher.fetch(web.url(f"/photo/{n}"))) for n in range(4)]
        async with asyncio.timeout(SOON):
            fetched = await asyncio.gather(*(fetcher.fetch(web.url(f"/photo/{n}", B)) for n in range(4)))
        assert all(f.body for f in fetched)
        assert not any(task.done() for task in pausing)
        await cancel(*pausing)
    assert web.hosts[A].requests == 1


async def test_a_host_that_asks_for_too_long_a_pause_is_not_asked_again(web: Web) -> None:
    async with fetching() as fetcher:
        fetched = await fetcher.fetch(web.url("/busy/3600/a"))
        assert [(a.reason, a.http_status) for a in fetched.attempts] == [("too_many_requests", 429)]
        async with asyncio.timeout(SOON):
            fetched = await fetcher.fetch(web.url("/photo/a"))
        assert [(a.reason, a.http_status) for a in fetched.attempts] == [("too_many_requests", 0)]
    assert web.requests == {"/busy/3600/a": 1}


async def test_no_more_requests_run_at_a_time_than_allowed(web: Web) -> None:
    async with fetching(concurrency=3) as fetcher:
        await asyncio.gather(*(fetcher.fetch(web.url(f"/slow/0.03/{n}", HOSTS[n % 2])) for n in range(12)))
    assert web.peak == 3


async def test_a_host_gets_no_more_requests_at_a_time_than_allowed(web: Web) -> None:
    async with fetching(Limits(HostLimit(2, 10_000.0))) as fetcher:
        await asyncio.gather(*(fetcher.fetch(web.url(f"/slow/0.03/{n}")) for n in range(8)))
    assert web.hosts[A].peak == 2


async def test_a_host_gets_no_more_requests_in_a_second_than_allowed(web: Web) -> None:
    begin = time.monotonic()
    async with fetching(Limits(HostLimit(8, 20.0))) as fetcher:
        await asyncio.gather(*(fetcher.fetch(web.url(f"/photo/{n}")) for n in range(11)))
    assert time.monotonic() - begin >= 0.5
    assert web.hosts[A].requests == 11


async def test_a_host_that_hangs_does_not_hold_up_others(web: Web) -> None:
    async with fetching(Limits(HostLimit(2, 10_000.0)), concurrency=4, attempts=1) as fetcher:
        stuck = [asyncio.create_task(fetcher.fetch(web.url(f"/hang/{n}", B))) for n in range(8)]
        async with asyncio.timeout(SOON):
            fetched = await asyncio.gather(*(fetcher.fetch(web.url(f"/photo/{n}")) for n in range(8)))
        assert all(f.body for f in fetched)
        assert not any(task.done() for task in stuck)
        await cancel(*stuck)


async def test_a_place_is_kept_while_a_body_is_in_use(web: Web) -> None:
    async with fetching(concurrency=1) as fetcher:
        async with fetcher.fetched(web.url("/photo/a")):
            other = asyncio.create_task(fetcher.fetch(web.url("/photo/b")))
            done, _ = await asyncio.wait([other], timeout=0.1)
            assert not done
            assert not web.requests["/photo/b"]
        assert (await other).body


async def test_the_host_is_free_while_a_body_is_in_use(web: Web) -> None:
    async with fetching(Limits(HostLimit(1, 10_000.0))) as fetcher, fetcher.fetched(web.url("/photo/a")):
        async with asyncio.timeout(SOON):
            assert (await fetcher.fetch(web.url("/photo/b"))).body


async def test_places_and_memory_are_free_after_a_cancellation_or_an_error(web: Web) -> None:
    async with fetching(Limits(HostLimit(1, 10_000.0)), concurrency=1, max_memory=1_000_000) as fetcher:
        for path in ("/hang/a", "/drip/a", "/busy/100/a"):
            task = asyncio.create_task(fetcher.fetch(web.url(path, B)))
            assert await asyncio.to_thread(web.wait_until, lambda w, path=path: w.requests[path] == 1)  # type: ignore[misc]
            await cancel(task)
        with pytest.raises(RuntimeError, match="decoder"):
            async with fetcher.fetched(web.url("/bytes/1000000/a")):
                raise RuntimeError("the decoder fails")
        async with asyncio.timeout(SOON):
            assert (await fetcher.fetch(web.url("/chunks/1000000/a"))).body


# Dead hosts


@contextlib.contextmanager
def dead_port() -> "Any":
    """A port where nothing listens, nor will."""
    with socket.socket() as bound:
        bound.bind((A, 0))
        yield bound.getsockname()[1]


async def test_a_dead_server_costs_a_few_requests_however_many_urls_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    connect, begin = loop.sock_connect, time.monotonic()
    asked, num_connections = set[int](), 0

    async def counted(sock: socket.socket, address: Any) -> None:
        nonlocal num_connections
        num_connections += 1
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", counted)
    with dead_port() as port:
        async with fetching(Limits(HostLimit(8, 10.0)), backoff_s=0.2) as fetcher:

            async def fetch_one(number: int) -> Fetched:
                url = f"http://{A}:{port}/{number}"
                async with fetcher.fetched(url, lambda: asked.add(number)) as fetched:
                    return fetched

            fetched = await asyncio.gather(*map(fetch_one, range(500)))
    assert 10 <= num_connections < 100
    assert time.monotonic() - begin < 25  # 50 if each were asked once
    for number, one in enumerate(fetched):
        found = {(attempt.reason, attempt.http_status) for attempt in one.attempts}
        assert found == ({("connection_failed", 0)} if number in asked else {("host_unreachable", 0)})
    assert {len(one.attempts) for number, one in enumerate(fetched) if number not in asked} == {1}
    assert sum(len(one.attempts) for number, one in enumerate(fetched) if number in asked) == num_connections


async def test_a_name_that_is_gone_costs_a_few_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SYNC_S", 0.05)
    names = use_names(monkeypatch)
    async with fetching(Limits(HostLimit(8, 50.0)), attempts=1) as fetcher:
        fetched = await asyncio.gather(*(fetcher.fetch(f"http://gone.example/{n}") for n in range(300)))
    reasons = Counter(f.reason for f in fetched)
    assert 0 < names.asked.total() <= reasons["no_such_host"] < 150
    assert reasons["host_unreachable"] == 300 - reasons["no_such_host"]


async def test_the_reason_of_an_earlier_attempt_stays_when_the_host_is_closed(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SYNC_S", 0.02)
    asked = 0

    async def closes(member: str, usage: turns.Reports, tally: Counter[str], full: bool) -> dict[str, Lease]:
        nonlocal asked
        asked += sum(report.answered for report in usage.values() if report is not None)
        lease = Lease(0, 0.0, closed=answers.HOST_UNREACHABLE) if asked else Lease(1, 1000.0)
        return dict.fromkeys(usage, lease)

    async with fetching(closes, backoff_s=0.5, attempts=4) as fetcher:
        seen = await fetcher.fetch(web.url("/status/500/a"))
        new = await fetcher.fetch(web.url("/photo/a"))
    assert [(a.reason, a.http_status) for a in seen.attempts] == [("server_error", 500)]
    assert [(a.reason, a.http_status) for a in new.attempts] == [("host_unreachable", 0)]
    assert web.requests == {"/status/500/a": 1}


# Memory


@pytest.mark.parametrize("path", ["/bytes/300000", "/chunks/300000", "/gzip"])
async def test_bodies_take_no_more_memory_than_allowed(web: Web, path: str) -> None:
    held = most = most_at_a_time = at_a_time = 0
    # For a body of unknown length, as much is reserved as it may have.
    reserved = 300_000 if path.startswith("/bytes") else 500_000
    async with fetching(max_bytes=500_000, max_memory=1_000_000) as fetcher:

        async def use(number: int) -> None:
            nonlocal held, most, at_a_time, most_at_a_time
            async with fetcher.fetched(web.url(f"{path}/{number}")) as fetched:
                assert fetched.body
                held, at_a_time = held + len(fetched.body), at_a_time + 1
                most, most_at_a_time = max(most, held), max(most_at_a_time, at_a_time)
                await asyncio.sleep(0.02)
                held, at_a_time = held - len(fetched.body), at_a_time - 1

        async with asyncio.timeout(SOON):
            await asyncio.gather(*map(use, range(12)))
    assert most <= 1_000_000
    assert 1 < most_at_a_time <= 1_000_000 // reserved


# Photographs of a folder


async def test_files_are_read_below_the_given_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"photo")
    (folder / "empty.jpg").touch()
    (folder / "link.jpg").symlink_to("/etc/passwd")
    (tmp_path / "secret.jpg").write_bytes(b"secret")

    async def reason(url: str, local_folder: str = str(folder), **changes: Any) -> str:
        return (await fetch(url, local_folder=local_folder, allow_private=False, **changes)).reason

    url = (folder / "a.jpg").as_uri()
    fetched = await fetch(url, local_folder=str(folder))
    assert fetched.body == b"photo"
    assert [(a.url, a.http_status, a.num_bytes) for a in fetched.attempts] == [(url, 0, 5)]
    assert await reason(url.replace("file:", "FILE:")) == ""
    assert await reason(url, max_bytes=4) == "too_large"
    assert await reason(url, local_folder="") == "bad_url"
    assert await reason((folder / "empty.jpg").as_uri()) == "empty"
    assert await reason((folder / "none.jpg").as_uri()) == "not_found"
    assert await reason(folder.as_uri()) == "bad_url"
    for outside in ((tmp_path / "secret.jpg").as_uri(), f"{folder.as_uri()}/../secret.jpg",
                    (folder / "link.jpg").as_uri(), "file:///etc/passwd"):  # fmt: skip
        assert await reason(outside) == "bad_url"


async def test_no_redirect_leads_to_a_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    url = web.url(f"/to/{(tmp_path / 'a.jpg').as_uri()}")
    assert await fates(url, local_folder=str(tmp_path)) == [("bad_redirect", 302)]


async def test_waiting_for_memory_does_not_count_as_the_hosts_time(web: Web) -> None:
    # More than the connection takes in before anybody reads it.
    async with fetching(max_bytes=4_000_000, max_memory=4_000_000, timeout_s=1.0, attempts=1) as fetcher:
        async with fetcher.fetched(web.url("/bytes/4000000/a")) as first:
            assert first.body
            other = asyncio.create_task(fetcher.fetch(web.url("/bytes/4000000/b")))
            await asyncio.wait([other], timeout=1.2)
        assert (await other).reason == ""


# Noise


@pytest.mark.parametrize("closed", [True, False])
async def test_nothing_is_left_open_whatever_servers_do(web: Web, closed: bool) -> None:
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    paths = ("/photo/a", "/hang/a", "/drip/a", "/short/a", "/endless/a", "/declared/a", "/loop/a", "/bomb/2/a")
    kinds = ("silent", "reset", "half close", "garbage", "half a body, reset", "chunks without end", "head that drips")
    urls = [*map(web.url, paths), *map(web.raw, kinds), web.raw("silent", scheme="https"), web.full()]
    urls += [web.url("/photo/a").replace("http:", "https:"), "http://no-such-host.invalid/a"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fetcher = new_fetcher(timeout_s=0.3, attempts=1)
        fetched = await asyncio.gather(*map(fetcher.fetch, urls))
        if closed:
            await fetcher.close()
        else:  # as with an actor that ends
            await cancel(fetcher.turns._task)  # type: ignore[arg-type]
        assert all(f.reason for f in fetched[1:])
        del fetcher, fetched
        await asyncio.sleep(0)
        gc.collect()
    assert not warned, [str(each.message) for each in warned]
    assert not noise
    assert await asyncio.to_thread(web.wait_until, lambda w: w.now == 0)


async def cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("by_port", "reason"), [(False, "host_unreachable"), (True, "")])
async def test_ports_of_a_host_may_be_hosts_of_their_own(web: Web, by_port: bool, reason: str) -> None:
    with socket.create_server((A, 0)) as free:
        dead = f"http://{A}:{free.getsockname()[1]}/"  # nobody listens there from now on
    async with fetching(attempts=1, by_port=by_port) as fetcher:
        async with asyncio.timeout(SOON):
            while (await fetcher.fetch(dead)).reason != "host_unreachable":
                pass
        assert (await fetcher.fetch(web.url("/photo/a"))).reason == reason
