"""ASGI middleware that bounds a request: its head, its bytes, its time, and the work that goes on without its client.

It answers HEAD wherever GET is answered.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitax_ray.serving import metrics
from aitax_ray.serving.record import current

log = logging.getLogger(__name__)

BODY_PAUSE_S = 10.0  # longest time between two pieces of a body
BODY_TIMEOUT_S = 50.0  # for the whole body
DRAINED = 4  # x max_bytes are read and dropped before a refusal: a browser that is interrupted shows a network error
DRAIN_TIMEOUT_S = 10.0
TIMEOUT_S = 55.0  # for the whole request; Ray Serve gives up after 60 s, in plain text
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")

# Five addresses of photographs take less. Servers and proxies have limits of 8 to 64 KB; browsers may send 16 KB of
# cookies.
MAX_ADDRESS = 16_000  # bytes of path and query
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32_000  # of all together

MAX_ALL_BYTES = 400_000_000  # of the bodies of all requests together, in one process
RETRY_AFTER_S = 5
BUSY = "the service has too many photographs to identify now; try again in some seconds"

PROBES = ("/healthz", "/readyz")  # load balancers ask for them, by address, and most when many requests wait
IDENTIFYING, READING = "identifying", "reading"  # kinds of requests: a page with dozens of thumbnails stops no answer
IDENTIFICATION = re.compile(r"/identify(/[^/]*)?$")  # with GET; all other addresses are only read
MAX_READING = 4  # x max_waiting

MakeError = Callable[[Scope, int, str], Response]


def is_probe(scope: Scope) -> bool:
    """Tell whether a load balancer asks how the service is."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "")) in PROBES


class Guard:
    """Calls an application within limits. `make_error` makes the answer for a request, a status and a message."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_waiting: int, make_error: MakeError) -> None:
        self.app, self.max_bytes, self.make_error = app, max_bytes, make_error
        self.max_waiting = {IDENTIFYING: max_waiting, READING: MAX_READING * max_waiting}
        self.num_waiting = Counter[str]()  # requests that have arrived as a whole, and have no answer yet
        self.num_bytes = 0  # of all bodies that are being read or used

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request(self, scope, receive, send)
        length = Headers(scope=scope).get("content-length", "0")
        num_bytes = int(length) if length.isdecimal() else 0
        refusal = self._refuse_head(scope) or ((413, self.too_large) if num_bytes > self.max_bytes else None)
        if refusal is None:
            await request.answer()
            return
        if num_bytes <= DRAINED * self.max_bytes:
            await request.drain()
        await request.refuse(*refusal)

    def _refuse_head(self, scope: Scope) -> tuple[int, str] | None:
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_ADDRESS:
            return 414, f"an address may have {MAX_ADDRESS:,} bytes: send long values in a form, with POST"
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            return 431, f"a request may have {MAX_HEADERS} headers, together {MAX_HEADER_BYTES:,} bytes"
        return None

    def report(self) -> None:
        """Report the load."""
        metrics.WAITING_REQUESTS.record(self.num_waiting.total())
        metrics.BODY_BYTES.record(self.num_bytes)

    @property
    def too_large(self) -> str:
        """The message for a body of too many bytes."""
        return f"all photographs together may have {self.max_bytes:,} bytes"


class _Request:
    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._receive, self._send = guard, receive, send
        self._is_head = scope["method"] == "HEAD"
        self._scope = {**scope, "method": "GET"} if self._is_head else scope
        self._has_body = scope["method"] not in WITHOUT_BODY
        self._is_started = self._is_complete = self._has_left = False
        self._messages: asyncio.Queue[Message | HTTPException] = asyncio.Queue()
        self._wanted, self._is_over = asyncio.Event(), asyncio.Event()
        self._is_over.set()  # no body is being read
        self._is_dropping = False
        self._task = asyncio.current_task()
        self._num_bytes = 0
        self._is_waiting = False
        self._kind = IDENTIFYING if self._has_body or IDENTIFICATION.search(scope["path"]) else READING

    async def answer(self) -> None:
        """Call the application. Its work ends when the client leaves, or when it takes too long."""
        if not self._has_body and not self._begin_to_wait():
            await self.refuse(503, BUSY)
            return
        self._is_over.clear()
        reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(TIMEOUT_S) as limit:
                await self._guard.app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self._has_left or self._task is None or self._task.uncancel():
                raise  # somebody else cancels
        except Exception as error:
            if self._is_started:
                raise
            if isinstance(error, TimeoutError) and limit.expired():
                await self.refuse(503, "the service has no answer in time; try again later")
                return
            record = current()
            log.exception("request %s failed: %s %s", record.request_id, record.method, record.route)
            await self.refuse(500, "the service failed; try again")
        finally:
            reader.cancel()
            self._guard.num_bytes -= self._num_bytes
            self._guard.num_waiting[self._kind] -= self._is_waiting
            self._guard.report()

    def _begin_to_wait(self) -> bool:
        """Count the request, which has arrived as a whole. False: too many wait already.

        Those that are still being sent do not count: slow clients could refuse all others.
        """
        if is_probe(self._scope):
            return True
        if self._guard.num_waiting[self._kind] >= self._guard.max_waiting[self._kind]:
            return False
        self._guard.num_waiting[self._kind] += 1
        self._is_waiting = True
        self._guard.report()
        return True

    async def drain(self) -> None:
        """Drop the body, unless the client waits for leave to send it."""
        if "expect" in Headers(scope=self._scope):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while (await self._receive()).get("more_body", False):
                    pass

    async def refuse(self, status: int, message: str) -> None:
        """Answer an error."""
        await self._guard.make_error(self._scope, status, message)(self._scope, self._receive, self.send)

    async def receive(self) -> Message:
        """Give the application the next piece of the body. Raises HTTPException (408, 413)."""
        self._wanted.set()
        message = await self._messages.get()
        if isinstance(message, HTTPException):
            raise message
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer; of an answer to HEAD only the headers."""
        if message["type"] == "http.response.start":
            await self._drop_rest()
            self._is_started = True
            message = {**message, "headers": [*message.get("headers", ()), *_more_headers(message["status"])]}
        else:
            self._is_complete = not message.get("more_body", False)
            if self._is_head:
                message = {**message, "body": b""}
        await self._send(message)

    async def _drop_rest(self) -> None:
        """Drop what the application did not read of the body, unless the client waits for leave to send it."""
        if self._num_bytes or "expect" not in Headers(scope=self._scope):
            self._is_dropping = True
            self._wanted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await self._is_over.wait()
        self._is_over.set()  # an error after this answer does not wait again

    async def _read(self) -> None:
        """Read the body, piece by piece as the application wants it, and then wait until the client leaves."""
        message: Message = {"type": "http.request", "body": b"", "more_body": False}
        if self._has_body:
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    message = await self._read_body()
            except TimeoutError:
                self._messages.put_nowait(HTTPException(408, "the photographs did not arrive in time"))
        else:
            self._messages.put_nowait(message)
        left = DRAINED * self._guard.max_bytes
        while message["type"] != "http.disconnect":
            left -= len(message.get("body", b""))
            if left < 0 or not message.get("more_body", False):
                self._is_over.set()
            message = await self._receive()  # a body after its limit, or that nobody wants, is dropped
        self._messages.put_nowait(message)
        if not self._is_complete and self._task is not None:
            self._has_left = True
            self._task.cancel()

    async def _read_body(self) -> Message:
        """Read the body up to its end or limit. Returns the last message."""
        while True:
            await self._wanted.wait()
            if self._is_dropping:
                return {"type": "http.request", "more_body": True}
            self._wanted.clear()
            async with asyncio.timeout(BODY_PAUSE_S):
                message = await self._receive()
            self._num_bytes += len(message.get("body", b""))
            self._guard.num_bytes += len(message.get("body", b""))
            if self._num_bytes > self._guard.max_bytes:
                self._messages.put_nowait(HTTPException(413, self._guard.too_large))
                return message
            if self._guard.num_bytes > MAX_ALL_BYTES:
                self._messages.put_nowait(HTTPException(503, BUSY))
                return message
            if message["type"] == "http.disconnect":
                return message
            is_last = not message.get("more_body", False)
            if is_last and not self._begin_to_wait():
                self._messages.put_nowait(HTTPException(503, BUSY))
                return message
            self._messages.put_nowait(message)
            if is_last:
                return message


def _more_headers(status: int) -> list[tuple[bytes, bytes]]:
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return [(b"retry-after", str(RETRY_AFTER_S).encode())]
    # The rest of the body is still on its way: this connection is of no use any more.
    return [(b"connection", b"close")] if status == HTTPStatus.REQUEST_TIMEOUT else []


def allowed_methods(request: Request) -> str:
    """List the methods of all routes for an address, for the header Allow. Starlette lists those of one route."""
    routes, scope = request.app.routes, dict(request.scope)
    allowed = [m for m in METHODS if any(r.matches({**scope, "method": m})[0] == Match.FULL for r in routes)]
    return ", ".join(allowed + ["HEAD"] * ("GET" in allowed))
