"""Fetch photographs over HTTP, politely: within the limits of each host, and later when a host asks to wait.

Time and size of each request are bounded. A URL that cannot be fetched gives a reason, never an exception. This module
does not use Ray.
"""

import asyncio
import contextlib
import random
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from aitax_ray import __version__
from aitax_ray.images import answers
from aitax_ray.images.addresses import AddressGuard, GuardedResolver, PrivateAddressError
from aitax_ray.images.budget import Budget
from aitax_ray.images.connector import LenientConnector
from aitax_ray.images.content import SIGNATURE_BYTES, photo_format
from aitax_ray.images.limits import MAX_PAUSE_S
from aitax_ray.images.turns import HostClosed, Turn, Turns
from aitax_ray.images.wire import MAX_HEAD_BYTES, MAX_HEADERS
from aitax_ray.web import retry_after_s

MAX_REDIRECTS = 5
REDIRECTS = (300, 301, 302, 303, 307, 308)
DNS_TTL_S = 300
ATTEMPTS_AT_TIMEOUT = 2  # attempts for a URL that times out: each takes long
READ_BUFFER = 1 << 20  # bytes; with aiohttp's 64 KiB, reading pauses and resumes several times per photograph


@dataclass(frozen=True)
class FetchSettings:
    """Limits and manners of a `Fetcher`."""

    timeout_s: float = 60.0  # for one request from beginning to end
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 20.0  # between two pieces of an answer
    max_bytes: int = 50_000_000
    max_memory: int = 1_000_000_000  # bytes of all bodies in memory together
    attempts: int = 4
    backoff_s: float = 0.5  # pause after the first failure; it doubles with each further one
    max_pause_s: float = MAX_PAUSE_S  # a host that asks for a longer pause is left to a later run
    respect_robots: bool = True
    allow_private: bool = False
    local_folder: str = ""  # the only folder below which file:// URLs are read; "" for none
    by_port: bool = False  # the ports of a host are hosts of their own: a bad one does not close the others
    contact: str = ""  # URL or e-mail address in the User-Agent


@dataclass(frozen=True)
class Attempt:
    """One request, with its redirects, and its outcome."""

    url: str  # of the last request
    reason: str  # "" when there is a body
    http_status: int = 0  # the last one; 0 when no answer came
    num_bytes: int = 0
    content_type: str = ""  # as the server states it
    seconds: float = 0.0
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  # when it ended


@dataclass(frozen=True)
class Fetched:
    """The outcome for a URL: a body, or the reason why there is none; and all attempts."""

    body: bytes | bytearray | None
    attempts: list[Attempt]

    @property
    def reason(self) -> str:
        return self.attempts[-1].reason


@dataclass
class _Answer:
    """The outcome of one request."""

    body: bytes | bytearray | None = None
    reason: str = ""
    status: int = 0
    location: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    num_bytes: int = 0
    retry_after_s: float | None = None
    seconds: float = 0.0
    was_sent: bool = True  # no request is sent to a host that is closed for now


class Fetcher:
    """Fetches URLs within the limits of its settings. Use it and close it in one event loop."""

    def __init__(self, settings: FetchSettings, turns: Turns) -> None:
        self.settings, self.turns = settings, turns
        self.guard = AddressGuard(settings.allow_private)
        self._budget = Budget(settings.max_memory)
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> Fetched:
        """Fetch a URL. Raises nothing, whatever the URL is or its host does."""
        async with self.fetched(url) as fetched:
            return fetched

    @contextlib.asynccontextmanager
    async def fetched(self, url: str, on_start: Callable[[], object] = lambda: None) -> AsyncIterator[Fetched]:
        """Fetch a URL and occupy one of the worker's places until the caller has finished with the body.

        A caller that decodes slowly therefore slows down fetching, instead of filling the memory with bodies.
        `on_start` is called whenever a request is sent.
        """
        attempts: list[Attempt] = []
        if url.strip().lower().startswith("file:"):
            on_start()
            async with self._budget.room(self.settings.max_bytes):
                body, reason = await asyncio.to_thread(
                    answers.read_local, url.strip(), self.settings.local_folder, self.settings.max_bytes
                )
                yield Fetched(body, [Attempt(url.strip(), reason, num_bytes=len(body or b""))])
            return
        while True:
            async with self._follow(url, on_start, first=bool(attempts)) as (answer, final):
                if answer.was_sent or not attempts:  # an earlier attempt says more
                    attempts.append(
                        Attempt(
                            final,
                            answer.reason,
                            answer.status,
                            answer.num_bytes,
                            answer.content_type,
                            answer.seconds,
                        )
                    )
                pause_s = self._choose_pause_s(answer, len(attempts)) if answer.was_sent else None
                if pause_s is None:
                    yield Fetched(answer.body, attempts)
                    return
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close the connections and give back the places at hosts."""
        await self.turns.close()
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        # The event loop of a Ray actor ends without notice. aiohttp would warn of open connections, and it has no
        # public way to close them here.
        session = self.__dict__.get("_session")
        if session is not None and not session.closed:
            session.connector._close()
            session.detach()

    def _choose_pause_s(self, answer: _Answer, attempt: int) -> float | None:
        """Choose how long to wait before the next attempt; None if there is none."""
        limits = self.settings
        attempts = min(limits.attempts, ATTEMPTS_AT_TIMEOUT) if answer.reason == answers.TIMEOUT else limits.attempts
        if answer.reason not in answers.PASSING or attempt >= attempts:
            return None
        if answer.retry_after_s is not None:
            # The whole host pauses (see limits.py).
            return max(answer.retry_after_s, limits.backoff_s) if answer.retry_after_s <= limits.max_pause_s else None
        return limits.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)

    @contextlib.asynccontextmanager
    async def _follow(
        self, text: str, on_start: Callable[[], object], *, first: bool
    ) -> AsyncIterator[tuple[_Answer, str]]:
        """Request a URL and follow its redirects. The address of each is checked."""
        url = answers.parse_url(text)
        if url is None or (wrong := self.guard.check(url)):
            yield _Answer(reason=answers.BAD_URL if url is None else wrong), text.strip()
            return
        seen, seconds, status = [url], 0.0, 0
        cookies: dict[str, dict[str, str]] = {}  # by host; some hosts redirect until their cookie comes back
        while True:
            host = url.host or ""
            async with self._ask(url, on_start, cookies.get(host, {}), first=first or len(seen) > 1) as answer:
                cookies[host] = cookies.get(host, {}) | answer.cookies
                seconds = answer.seconds = seconds + answer.seconds
                status = answer.status = answer.status or status
                if not answer.location:
                    yield answer, str(url)
                    return
            target = answers.parse_url(answer.location, url)
            wrong = answers.BAD_URL if target is None else self.guard.check(target)
            if wrong or target is None:
                answer.reason = answers.BAD_REDIRECT if wrong == answers.BAD_URL else wrong
            elif len(seen) > MAX_REDIRECTS:
                # Some servers redirect to the same address once or twice, until the photograph is ready.
                answer.reason = answers.REDIRECT_LOOP if target in seen else answers.TOO_MANY_REDIRECTS
            if answer.reason or target is None:
                yield answer, str(url)
                return
            seen.append(target)
            url = target

    @contextlib.asynccontextmanager
    async def _ask(
        self, url: URL, on_start: Callable[[], object], cookies: dict[str, str], *, first: bool
    ) -> AsyncIterator[_Answer]:
        """Send one request when it is its turn. The host's place and the body's memory are free afterwards."""
        async with contextlib.AsyncExitStack() as reserved:
            host = (url.host or "").rstrip(".")
            host = f"{host}:{url.port}" if self.settings.by_port else host
            try:
                turn = await reserved.enter_async_context(self.turns.turn(host, first=first))
            except HostClosed as closed:
                answer = _Answer(reason=closed.reason, was_sent=False)
            else:
                on_start()
                answer = await self._exchange(url, cookies, turn, reserved)
            yield answer

    async def _exchange(
        self, url: URL, cookies: dict[str, str], turn: Turn, reserved: contextlib.AsyncExitStack
    ) -> _Answer:
        """Send one request and read its answer. The body's memory is reserved in `reserved`."""
        loop = asyncio.get_running_loop()
        begin, answer = loop.time(), _Answer()
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else None
        try:
            async with (
                asyncio.timeout(self.settings.timeout_s) as limit,
                await self._send(url, headers) as response,
            ):
                await self._read(response, answer, reserved, limit)
        except PrivateAddressError:
            answer.reason = answers.PRIVATE_ADDRESS
        except TimeoutError:
            answer.reason = answers.TIMEOUT
        except aiohttp.ClientPayloadError:
            answer.reason = answers.INCOMPLETE
        except aiohttp.ClientConnectorDNSError:
            answer.reason = answers.NO_SUCH_HOST
        except (aiohttp.ClientSSLError, ssl.SSLError):
            answer.reason = answers.TLS_FAILED
        except ValueError:  # includes aiohttp.InvalidURL
            answer.reason = answers.BAD_URL
        except Exception:
            # Any server may make aiohttp or a codec raise anything. Only this row fails, not its batch.
            answer.reason = answers.CONNECTION_FAILED
        answer.seconds = loop.time() - begin
        # A host that was not asked is not to blame. Status 0 counts as no answer: a host that begins to answer and
        # then hangs is as good as dead.
        is_refused_by_us = answer.reason in (answers.PRIVATE_ADDRESS, answers.BAD_URL)
        status = 0 if answer.reason == answers.TIMEOUT else answer.status or int(is_refused_by_us)
        turn.answered(status, answer.num_bytes, answer.seconds, answer.retry_after_s)
        return answer

    async def _send(self, url: URL, headers: dict[str, str] | None) -> aiohttp.ClientResponse:
        """Send a request and return the answer with its body unread.

        Many hosts close a connection after an answer without saying so. A request on it is lost: it is sent again, as
        curl and browsers do (RFC 9112, 9.3.1). It counts as one request, since the host has not taken the first.
        """
        session = self._open_session()
        while True:
            reused: list[bool] = []
            try:
                return await session.get(url, headers=headers, allow_redirects=False, trace_request_ctx=reused)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not reused:
                    raise

    async def _read(
        self,
        response: aiohttp.ClientResponse,
        answer: _Answer,
        reserved: contextlib.AsyncExitStack,
        limit: asyncio.Timeout,
    ) -> None:
        status, headers = response.status, response.headers
        answer.status, answer.content_type = status, answers.plain_text(headers.get("Content-Type", ""))[:100]
        if status in REDIRECTS and (status != 300 or "Location" in headers):
            answer.location = answers.plain_url(headers.get("Location", ""))
            answer.reason = "" if answer.location else answers.BAD_REDIRECT
            cookies = {name: cookie.coded_value for name, cookie in response.cookies.items()}
            answer.cookies = {name: value for name, value in cookies.items() if f"{name}{value}".isascii()}
        elif reason := answers.reason_of_status(status):
            wait = headers.get("Retry-After")
            answer.reason = reason
            answer.retry_after_s = retry_after_s(wait, headers.get("Date", "")) if wait else None
        elif self.settings.respect_robots and answers.forbids_ai(headers.getall("X-Robots-Tag", [])):
            answer.reason = answers.NO_AI
        else:
            await self._read_body(response, answer, reserved, limit)

    async def _read_body(
        self,
        response: aiohttp.ClientResponse,
        answer: _Answer,
        reserved: contextlib.AsyncExitStack,
        limit: asyncio.Timeout,
    ) -> None:
        max_bytes, length = self.settings.max_bytes, response.content_length
        codings = answers.codings(response.headers.getall("Content-Encoding", []))
        if (length or 0) > max_bytes:
            answer.reason = answers.TOO_LARGE
            return
        # Waiting for memory does not count as the host's time.
        loop, end = asyncio.get_running_loop(), limit.when() or 0.0
        begin = loop.time()
        limit.reschedule(None)
        await reserved.enter_async_context(self._budget.room(length if length and not codings else max_bytes))
        limit.reschedule(end + loop.time() - begin)
        inflater = answers.Inflater(codings) if codings else None
        body = bytearray()
        async for chunk in read_chunks(response.content):
            if not answer.num_bytes and photo_format(chunk):
                inflater = None  # some hosts name a coding and send the photograph as it is
            elif not answer.num_bytes and codings is None:
                answer.reason = answers.BAD_ENCODING
                return
            answer.num_bytes += len(chunk)
            try:
                body += chunk if inflater is None else inflater.feed(chunk, max_bytes + 1 - len(body))
            except zlib.error:
                answer.reason = answers.BAD_ENCODING
                return
            if max(len(body), answer.num_bytes) > max_bytes:
                answer.reason = answers.TOO_LARGE
                return
        if inflater is not None and not inflater.complete:
            answer.reason = answers.INCOMPLETE
        elif not body:
            answer.reason = answers.EMPTY
        else:
            answer.body = body

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self.settings
            contact = f" (+{limits.contact})" if limits.contact else ""
            reuse = aiohttp.TraceConfig()
            reuse.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=LenientConnector(
                    limit=0,  # Turns limits them
                    resolver=GuardedResolver(self.guard, aiohttp.ThreadedResolver()),
                    ttl_dns_cache=DNS_TTL_S,
                    family=socket.AF_UNSPEC,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=limits.connect_timeout_s, sock_read=limits.read_timeout_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[reuse],
                auto_decompress=False,  # aiohttp would inflate a bomb before we see its size
                read_bufsize=READ_BUFFER,
                max_line_size=MAX_HEAD_BYTES,
                max_field_size=MAX_HEAD_BYTES,
                max_headers=MAX_HEADERS,
                headers={
                    "User-Agent": f"aitax-ray/{__version__}{contact}",
                    "Accept": "image/*,*/*;q=0.5",
                    "Accept-Encoding": "identity",  # photographs are compressed already
                },
            )
            # Else aiohttp repeats any request when a server hangs up: beyond the host's limits, and without our notice.
            self._session._retry_connection = False
        return self._session


async def read_chunks(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Read a body in chunks as they come. The first one is long enough to recognise a photograph by it."""
    head = b""
    async for chunk in content.iter_any():
        if len(head) >= SIGNATURE_BYTES:
            yield chunk
        elif len(head := head + chunk) >= SIGNATURE_BYTES:
            yield head
    if 0 < len(head) < SIGNATURE_BYTES:
        yield head


async def _note_reuse(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
    """Tell the sender of a request that it goes over a connection that an earlier answer left open."""
    context.trace_request_ctx.append(True)
