"""Fetch a photograph as a guest does: few requests at a time, bounded in time and size, patient when asked to wait.

A URL that cannot be fetched is an answer with a reason, never an exception. Nothing here knows of Ray.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from aitax_ray import __version__
from aitax_ray.images import answers
from aitax_ray.images.addresses import AddressGuard, GuardedResolver, PrivateAddressError

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
DNS_TTL_S = 300


@dataclass(frozen=True)
class FetchSettings:
    """How to fetch. Limits hold for one Fetcher."""

    concurrency: int = 64  # requests at a time, and bodies in use
    per_host: int = 8  # requests at a time to one host
    timeout_s: float = 30.0  # for one request in all; half of it to connect, and between two reads
    max_bytes: int = 30_000_000
    attempts: int = 4
    backoff_s: float = 0.5  # after the first failure; twice as long after each further one
    max_wait_s: float = 60.0  # no pause is longer; a host that asks for more is left to a later run
    allow_private: bool = False
    local_folder: str = ""  # file:// URLs are read below it and nowhere else; "" for none
    contact: str = ""  # URL or e-mail address that the User-Agent names


@dataclass(frozen=True)
class Fetched:
    """What came of a URL: a body, or the reason why there is none."""

    body: bytes | None
    reason: str  # "" when there is a body
    http_status: int  # the last one seen, 0 when none was
    attempts: int


@dataclass(frozen=True)
class _Answer:
    """What came of one request."""

    body: bytes | None = None
    reason: str = ""
    status: int = 0
    location: str = ""
    retry_after_s: float | None = None


class Fetcher:
    """Fetches URLs within its settings' limits. Made anywhere, used and closed in one event loop."""

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings
        self.guard = AddressGuard(settings.allow_private)
        self._places = asyncio.Semaphore(settings.concurrency)
        self._hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.per_host))
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> Fetched:
        """Fetch a URL. Never raises for what the URL or its host does."""
        async with self.fetched(url) as fetched:
            return fetched

    @contextlib.asynccontextmanager
    async def fetched(self, url: str) -> AsyncIterator[Fetched]:
        """Fetch a URL and keep one of the `concurrency` places until the caller is done with the body.

        So a caller that decodes slowly slows the fetching down, instead of filling the memory with bodies.
        """
        if url.strip().lower().startswith("file:"):
            async with self._places:
                body, reason = await asyncio.to_thread(
                    answers.read_local, url.strip(), self.settings.local_folder, self.settings.max_bytes
                )
                yield Fetched(body, reason, 0, 1)
            return
        for attempt in range(1, self.settings.attempts + 1):
            async with self._follow(answers.parse_url(url)) as answer:
                pause_s = self._pause_s(answer, attempt)
                if pause_s is None:
                    yield Fetched(answer.body, answer.reason, answer.status, attempt)
                    return
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        # An actor ends without a last word from its event loop. aiohttp would complain of what was left open, and has
        # no public way to close it from here.
        session = self.__dict__.get("_session")
        if session is not None and not session.closed:
            session.connector._close()
            session.detach()

    def _pause_s(self, answer: _Answer, attempt: int) -> float | None:
        """How long to wait before the next attempt; None when there shall be none."""
        limits = self.settings
        if answer.reason not in answers.MAY_PASS or attempt >= limits.attempts:
            return None
        if answer.retry_after_s is not None:
            return answer.retry_after_s if answer.retry_after_s <= limits.max_wait_s else None
        backoff_s = limits.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)
        return min(backoff_s, limits.max_wait_s)

    @contextlib.asynccontextmanager
    async def _follow(self, url: URL | None) -> AsyncIterator[_Answer]:
        """Ask for a URL and for those it redirects to, each of them checked anew."""
        if url is None or (reason := self.guard.check(url)):
            yield _Answer(reason=answers.BAD_URL if url is None else reason)
            return
        seen = [url]
        while True:
            async with self._ask(url) as answer:
                if not answer.location:
                    yield answer
                    return
            target = answers.parse_url(answer.location, url)
            wrong = answers.BAD_URL if target is None else self.guard.check(target)
            if target is None or wrong:
                yield _Answer(reason=answers.BAD_REDIRECT if wrong == answers.BAD_URL else wrong, status=answer.status)
                return
            if len(seen) > MAX_REDIRECTS:
                # A server may well redirect to the same address once or twice, until its photograph is ready.
                loop = target in seen
                yield _Answer(
                    reason=answers.REDIRECT_LOOP if loop else answers.TOO_MANY_REDIRECTS, status=answer.status
                )
                return
            seen.append(target)
            url = target

    @contextlib.asynccontextmanager
    async def _ask(self, url: URL) -> AsyncIterator[_Answer]:
        # The host's turn comes first: requests that wait for a slow host hold no place that others could use. It ends
        # with the answer, while the place is kept until the body has been used.
        host = self._hosts[url.host or ""]
        async with contextlib.AsyncExitStack() as turn:
            await turn.enter_async_context(host)
            async with self._places:
                answer = await self._exchange(url)
                await turn.aclose()
                yield answer

    async def _exchange(self, url: URL) -> _Answer:
        """Send one request and read its answer."""
        status = 0
        try:
            async with self._open_session().get(url, allow_redirects=False) as response:
                status = response.status
                return await self._read(response)
        except PrivateAddressError:
            return _Answer(reason=answers.PRIVATE_ADDRESS)
        except TimeoutError:
            return _Answer(reason=answers.TIMEOUT, status=status)
        except aiohttp.ClientPayloadError:
            return _Answer(reason=answers.INCOMPLETE, status=status)
        except ValueError:  # of which aiohttp.InvalidURL is one
            return _Answer(reason=answers.BAD_URL)
        except Exception:
            # Whatever a stranger's server makes aiohttp, ssl or a codec raise costs its own row, not its batch.
            return _Answer(reason=answers.CONNECTION_FAILED, status=status)

    async def _read(self, response: aiohttp.ClientResponse) -> _Answer:
        status = response.status
        if status in REDIRECTS:
            location = response.headers.get("Location", "")
            return _Answer(status=status, location=location, reason="" if location else answers.BAD_REDIRECT)
        if reason := answers.reason_of_status(status):
            wait = response.headers.get("Retry-After")
            return _Answer(reason=reason, status=status, retry_after_s=answers.retry_after_s(wait) if wait else None)
        body = bytearray()
        if (response.content_length or 0) > self.settings.max_bytes:
            return _Answer(reason=answers.TOO_LARGE, status=status)
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self.settings.max_bytes:
                return _Answer(reason=answers.TOO_LARGE, status=status)
        return _Answer(body=bytes(body), status=status) if body else _Answer(reason=answers.EMPTY, status=status)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            total = self.settings.timeout_s
            contact = f" (+{self.settings.contact})" if self.settings.contact else ""
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # ours hold
                    resolver=GuardedResolver(self.guard, aiohttp.ThreadedResolver()),
                    ttl_dns_cache=DNS_TTL_S,
                ),
                timeout=aiohttp.ClientTimeout(total=total, connect=total / 2, sock_read=total / 2),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "User-Agent": f"aitax-ray/{__version__}{contact}",
                    "Accept": "image/*,*/*;q=0.5",
                    "Accept-Encoding": "identity",  # photographs are compressed already
                },
            )
        return self._session
