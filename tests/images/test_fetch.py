import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from aitax_ray.images import answers
from aitax_ray.images.fetch import Fetched, Fetcher, FetchSettings
from tests.web import Web, photo


def fetcher(**changes: object) -> Fetcher:
    settings = {"timeout_s": 0.5, "attempts": 3, "backoff_s": 0.01, "max_bytes": 1_000_000, "allow_private": True}
    return Fetcher(FetchSettings(**{**settings, **changes}))  # type: ignore[arg-type]


async def fetch(url: str, **changes: object) -> Fetched:
    async with fetcher(**changes) as guest:
        return await guest.fetch(url)


async def test_a_photograph_comes_as_it_is(web: Web) -> None:
    assert await fetch(web.url("/photo/a")) == Fetched(photo("jpeg", "a"), "", 200, 1)


@pytest.mark.parametrize(
    ("path", "reason", "status", "attempts"),
    [
        ("/status/404/a", "not_found", 404, 1),
        ("/status/410/a", "gone", 410, 1),
        ("/status/403/a", "forbidden", 403, 1),
        ("/status/401/a", "forbidden", 401, 1),
        ("/status/418/a", "http_error", 418, 1),
        ("/status/304/a", "http_error", 304, 1),
        ("/status/500/a", "server_error", 500, 3),
        ("/status/429/a", "too_many_requests", 429, 3),
        ("/empty/a", "empty", 200, 1),
        ("/status/204/a", "empty", 204, 1),
        ("/short/a", "incomplete", 200, 3),
        ("/endless/a", "too_large", 200, 1),
        ("/declared/a", "too_large", 200, 1),
        ("/loop/a", "redirect_loop", 302, 1),
        ("/chain/6/a", "too_many_redirects", 302, 1),
        ("/to/nowhere", "bad_redirect", 302, 1),
        ("/to/file:///etc/passwd", "bad_redirect", 302, 1),
        ("/to/ftp://127.0.0.1/a", "bad_redirect", 302, 1),
        ("/to/http://[bad/a", "bad_redirect", 302, 1),
        ("/to/http://169.254.169.254/latest/meta-data/", "private_address", 302, 1),
        ("/to/http://[fe80::1]/", "private_address", 302, 1),
    ],
)
async def test_a_failure_has_a_reason(web: Web, path: str, reason: str, status: int, attempts: int) -> None:
    assert await fetch(web.url(path)) == Fetched(None, reason, status, attempts)
    assert reason in answers.REASONS


@pytest.mark.parametrize("path", ["/hang/a", "/drip/a"])
async def test_a_host_that_hangs_or_drips_is_given_up(web: Web, path: str) -> None:
    begin = time.monotonic()
    fetched = await fetch(web.url(path), attempts=2)
    assert (fetched.reason, fetched.attempts) == ("timeout", 2)
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.jpg",
        "http://",
        "http://h:99999/",
        "http://[::1/",
        "ftp://127.0.0.1/a",
        "mailto:a@b",
        "http://\x00/",
        "//x/y",
    ],
)
async def test_what_is_no_url_is_refused(url: str) -> None:
    assert (await fetch(url)).reason == "bad_url"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "http://no-such-host.invalid/a"])
async def test_a_host_that_is_not_there_is_tried_again_and_then_given_up(url: str) -> None:
    assert await fetch(url, attempts=2) == Fetched(None, "connection_failed", 0, 2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_private_hosts_are_refused_by_number_and_by_name(web: Web, host: str) -> None:
    assert await fetch(web.url("/photo/a", host), allow_private=False) == Fetched(None, "private_address", 0, 1)
    assert not web.requests


async def test_a_photograph_comes_after_two_errors(web: Web) -> None:
    assert await fetch(web.url("/flaky/a")) == Fetched(photo("jpeg", "a"), "", 200, 3)


@pytest.mark.parametrize("path", ["/redirect/a", "/again/a", "/chain/5/a"])
async def test_redirects_are_followed(web: Web, path: str) -> None:
    fetched = await fetch(web.url(path))
    assert (fetched.reason, fetched.attempts) == ("", 1)
    assert fetched.body == photo("jpeg", "a")


async def test_a_host_is_waited_for_as_long_as_it_asks(web: Web) -> None:
    begin = time.monotonic()
    assert await fetch(web.url("/busy/1/a")) == Fetched(photo("jpeg", "a"), "", 200, 2)
    assert time.monotonic() - begin >= 1


async def test_a_host_that_asks_for_too_long_is_left_alone(web: Web) -> None:
    assert await fetch(web.url("/busy/3600/a")) == Fetched(None, "too_many_requests", 429, 1)
    assert web.requests["/busy/3600/a"] == 1


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert answers.retry_after_s("7") == 7
    assert 25 < (answers.retry_after_s(soon) or 0) <= 30
    assert answers.retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert answers.retry_after_s("later") is None


async def test_no_more_requests_run_at_a_time_than_allowed(web: Web) -> None:
    async with fetcher(concurrency=3, per_host=8) as guest:
        fetched = await asyncio.gather(*(guest.fetch(web.url(f"/slow/0.02/{n}")) for n in range(12)))
    assert all(f.body for f in fetched)
    assert web.peak == 3


async def test_a_host_gets_no_more_requests_at_a_time_than_allowed(web: Web) -> None:
    async with fetcher(concurrency=64, per_host=2) as guest:
        await asyncio.gather(*(guest.fetch(web.url(f"/slow/0.02/{n}")) for n in range(8)))
    assert web.peak == 2


async def test_a_host_that_hangs_does_not_hold_up_others(web: Web) -> None:
    async with fetcher(concurrency=4, per_host=2, timeout_s=20, attempts=1) as guest:
        stuck = [asyncio.ensure_future(guest.fetch(web.url(f"/hang/{n}", "localhost"))) for n in range(8)]
        fetched = await asyncio.wait_for(asyncio.gather(*(guest.fetch(web.url(f"/photo/{n}")) for n in range(8))), 5)
        assert all(f.body for f in fetched)
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_place_is_kept_while_a_body_is_in_use(web: Web) -> None:
    async with fetcher(concurrency=1) as guest:
        async with guest.fetched(web.url("/photo/a")):
            other = asyncio.ensure_future(guest.fetch(web.url("/photo/b")))
            done, _ = await asyncio.wait([other], timeout=0.1)
            assert not done
        assert (await other).body
    assert web.requests["/photo/b"] == 1


async def test_we_say_who_we_are(web: Web) -> None:
    await fetch(web.url("/photo/a"), contact="https://example.org/bot")
    (agent,) = web.agents
    assert agent.startswith("aitax-ray/")
    assert agent.endswith(" (+https://example.org/bot)")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://h/a%2Fb?x=a+b&sig=%7E", "http://h/a%2Fb?x=a+b&sig=%7E"),
        (" http://h/with space/ä.jpg ", "http://h/with%20space/%C3%A4.jpg"),
        ("http://h/100%.jpg", "http://h/100%25.jpg"),
    ],
)
def test_a_url_is_quoted_only_where_it_needs_to_be(text: str, sent: str) -> None:
    assert str(answers.parse_url(text)) == sent


async def test_files_are_read_below_the_given_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"photo")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "link.jpg").symlink_to("/etc/passwd")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")

    async def reason(url: str, local_folder: str = str(folder)) -> str:
        return (await fetch(url, local_folder=local_folder)).reason

    assert (await fetch((folder / "a.jpg").as_uri(), local_folder=str(folder))).body == b"photo"
    assert await reason((folder / "empty.jpg").as_uri()) == "empty"
    assert await reason((folder / "none.jpg").as_uri()) == "not_found"
    assert await reason(folder.as_uri()) == "not_found"
    assert await reason(secret.as_uri()) == "bad_url"
    assert await reason(f"{folder.as_uri()}/../secret.jpg") == "bad_url"
    assert await reason((folder / "link.jpg").as_uri()) == "bad_url"
    assert await reason((folder / "a.jpg").as_uri(), local_folder="") == "bad_url"
    assert (await fetch((folder / "a.jpg").as_uri(), local_folder=str(folder), max_bytes=4)).reason == "too_large"


async def test_a_fetcher_that_nobody_closes_makes_no_noise(web: Web, recwarn: pytest.WarningsRecorder) -> None:
    guest = fetcher()
    await guest.fetch(web.url("/photo/a"))
    del guest
    assert not recwarn.list
