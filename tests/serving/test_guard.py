"""serving.guard: limits of a request, over an application that does as the test says, without a server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from aitax_ray.serving import guard
from aitax_ray.serving.guard import Guard, allowed_methods

LIMIT = 1000


class Client:
    """Sends a request to an application, piece by piece, and keeps the answer."""

    def __init__(self, app: Any, method: str = "POST", path: str = "/", headers: dict[str, str] | None = None) -> None:
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.num_read = self.num_read_before_answer = 0
        self._reads = asyncio.Condition()
        self.status, self.headers, self.body = 0, dict[str, str](), b""
        self.task = asyncio.create_task(app(self.scope, self._receive, self._send))

    def send(self, body: bytes = b"", *, more: bool = False) -> "Client":
        self._pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    def leave(self) -> "Client":
        self._pieces.put_nowait({"type": "http.disconnect"})
        return self

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(10):
            await self.task
        return self.status, self.body

    async def reads(self, number: int) -> None:
        """Wait until the application wants the piece of this number."""
        async with asyncio.timeout(10), self._reads:
            await self._reads.wait_for(lambda: self.num_read >= number)

    async def _receive(self) -> dict[str, Any]:
        async with self._reads:
            self.num_read += 1
            self._reads.notify_all()
        return await self._pieces.get()

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.num_read_before_answer = message["status"], self.num_read
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


def guarded(use: Callable[[Request], Any], max_waiting: int = 99) -> Guard:
    """An application whose every answer is made by `use`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response = await use(Request(scope, receive))
        await answer(scope, receive, send)

    return Guard(
        ExceptionMiddleware(app),
        LIMIT,
        max_waiting,
        lambda scope, status, message: PlainTextResponse(f"{scope['path']} {message}", status),
    )


async def length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


class Work:
    """An answer that takes for ever."""

    def __init__(self) -> None:
        self.has_begun, self.has_ended, self.was_cancelled = asyncio.Event(), asyncio.Event(), False

    async def __call__(self, request: Request) -> Response:
        await request.body()
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            self.has_ended.set()
        raise AssertionError


async def test_a_body_within_the_limit_arrives_in_its_pieces() -> None:
    client = Client(guarded(length)).send(b"x" * 600, more=True).send(b"y" * 400)
    assert await client.answer() == (200, b"1000")


async def test_a_body_that_passes_the_limit_while_it_is_read_is_refused() -> None:
    app = guarded(length)
    client = Client(app).send(b"x" * 600, more=True).send(b"y" * 401, more=True).send(b"z" * 10**6)
    status, body = await client.answer()
    assert status == 413
    assert b"1,000 bytes" in body
    assert app.num_bytes == 0


@pytest.mark.parametrize(
    ("declared", "expect", "num_read"),
    [(1001, {}, 3), (4000, {}, 3), (1001, {"expect": "100-continue"}, 0), (10**15, {}, 0)],
)
async def test_a_declared_length_over_the_limit_is_refused_after_a_short_body_is_dropped(
    declared: int, expect: dict[str, str], num_read: int
) -> None:
    client = Client(guarded(length), headers={"content-length": str(declared), **expect})
    client.send(b"x" * 600, more=True).send(b"y" * 600, more=True).send()
    status, body = await client.answer()
    assert status == 413
    assert b"1,000 bytes" in body
    assert client.num_read == num_read


@pytest.mark.parametrize(
    ("address", "headers", "expected"),
    [
        ("/" + "x" * guard.MAX_ADDRESS, {}, 414),
        ("/x", {str(n): "" for n in range(guard.MAX_HEADERS + 1)}, 431),
        ("/x", {"cookie": "x" * guard.MAX_HEADER_BYTES}, 431),
        ("/" + "x" * (guard.MAX_ADDRESS - 1), {str(n): "x" for n in range(guard.MAX_HEADERS)}, 200),
    ],
)
async def test_a_head_that_is_too_long_is_refused_after_a_short_body_is_dropped(
    address: str, headers: dict[str, str], expected: int
) -> None:
    client = Client(guarded(length), "POST", address, headers).send(b"x", more=True).send()
    assert (await client.answer())[0] == expected
    assert client.num_read >= 2


@pytest.mark.parametrize(
    ("pieces", "headers", "num_read"),
    [
        ([b"x" * 900, b"y" * 900, b"z" * 900], {}, 3),
        ([b"x" * 900] * 9, {}, 5),
        ([b"x"], {"expect": "100-continue"}, 0),
    ],
)
async def test_what_the_application_does_not_read_of_a_body_is_dropped_before_its_answer(
    pieces: list[bytes], headers: dict[str, str], num_read: int
) -> None:
    async def refuse(_: Request) -> Response:
        return PlainTextResponse("no such project", 404)

    app = guarded(refuse)
    client = Client(app, headers=headers)
    for place, piece in enumerate(pieces, 1):
        client.send(piece, more=place < len(pieces))
    assert await client.answer() == (404, b"no such project")
    assert client.num_read_before_answer >= num_read
    assert num_read or not client.num_read
    assert app.num_bytes == 0


async def test_a_body_that_does_not_end_holds_a_refusal_up_for_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_TIMEOUT_S", 0.05)

    async def refuse(request: Request) -> Response:
        async for _ in request.stream():
            return PlainTextResponse("too many fields", 400)
        raise AssertionError

    assert await Client(guarded(refuse)).send(b"x", more=True).answer() == (400, b"too many fields")


async def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_ALL_BYTES", 1500)
    app = guarded(length)
    first = Client(app).send(b"x" * 900, more=True)
    await first.reads(2)
    second = Client(app).send(b"x" * 900)
    assert (await second.answer())[0] == 503
    assert second.headers["retry-after"] == "5"
    assert await first.send().answer() == (200, b"900")
    assert app.num_bytes == 0
    assert await Client(app).send(b"x" * 900).answer() == (200, b"900")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_more_requests_wait_than_permitted_and_slow_senders_do_not_count(method: str) -> None:
    work = Work()
    app = guarded(work, 2)
    slow = Client(app).send(b"x", more=True)
    await slow.reads(2)
    waiting = [Client(app, "POST").send(b"x"), Client(app, "GET", "/v2/identify/all").send()]
    for client in waiting:
        await client.reads(2)  # it has arrived
    refused = Client(app, method, "/identify").send(b"x")
    assert (await refused.answer())[0] == 503
    assert refused.headers["retry-after"] == "5"
    probe = Client(app, "GET", "/healthz").send()
    named_like_a_probe = Client(app, "POST", "/v2/observation/identify/token/healthz").send(b"x")
    assert (await named_like_a_probe.answer())[0] == 503
    thumbnails = [Client(app, "GET", "/images/1").send() for _ in range(2 * guard.MAX_READING)]
    for client in thumbnails:
        await client.reads(2)
    assert (await Client(app, "GET", "/v2/identify/all/taxa").send().answer())[0] == 503
    slow.send()
    assert (await slow.answer())[0] == 503
    assert app.num_waiting == {"identifying": 2, "reading": len(thumbnails)}
    for client in [*waiting, *thumbnails, probe]:
        assert not client.task.done()
        client.leave()
        await client.answer()
    assert (app.num_waiting.total(), app.num_bytes) == (0, 0)


@pytest.mark.parametrize("name", ["BODY_PAUSE_S", "BODY_TIMEOUT_S"])
async def test_a_body_that_trickles_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, name, 0.1)
    client = Client(guarded(length))

    async def trickle() -> None:
        while name == "BODY_TIMEOUT_S":
            client.send(b"x", more=True)
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    status, body = await client.answer()
    trickling.cancel()
    assert (status, client.headers["connection"]) == (408, "close")
    assert b"did not arrive in time" in body


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_work_for_a_client_that_leaves_is_ended(method: str) -> None:
    work = Work()
    client = Client(guarded(work), method).send(b"x")
    await work.has_begun.wait()
    client.leave()
    assert await client.answer() == (0, b"")
    assert work.was_cancelled
    assert client.task.cancelling() == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten() -> None:
    app = guarded(length)
    client = Client(app).send(b"x" * 500, more=True).leave()
    assert await client.answer() == (0, b"")
    assert app.num_bytes == 0


async def test_a_cancellation_by_the_server_goes_on_to_the_server() -> None:
    work = Work()
    client = Client(guarded(work)).send()
    await work.has_begun.wait()
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert work.was_cancelled


async def test_a_client_that_leaves_after_its_answer_disturbs_nothing() -> None:
    client = Client(guarded(length)).send(b"x")
    client.leave()
    assert (await client.answer())[0] in (0, 200)

    async def stream(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a", b"b"):
                yield part

        return StreamingResponse(parts())

    assert await Client(guarded(stream), "GET").answer() == (200, b"ab")


async def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "TIMEOUT_S", 0.05)
    work = Work()
    client = Client(guarded(work)).send()
    assert (await client.answer())[0] == 503
    assert client.headers["retry-after"] == "5"
    assert work.was_cancelled


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), TimeoutError("unforeseen")])
async def test_an_unforeseen_error_is_answered_without_its_text(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Request) -> Response:
        raise error

    client = Client(guarded(fail), "GET", "/")
    assert await client.answer() == (500, b"/ the service failed; try again")
    assert "unforeseen" in caplog.text


async def test_head_is_answered_as_get_without_the_body() -> None:
    async def use(request: Request) -> Response:
        return PlainTextResponse(f"{request.method} {len(await request.body())}")

    client = Client(guarded(use), "HEAD")
    assert await client.answer() == (200, b"")
    assert client.headers["content-length"] == str(len("GET 0"))
    assert await Client(guarded(use), "GET").send(b"a body where none belongs").answer() == (200, b"GET 0")


def test_allowed_methods_are_those_of_all_routes() -> None:
    app = FastAPI()
    app.get("/a/{name}")(length)
    app.post("/a/{name}")(length)
    app.post("/b")(length)

    def allowed(path: str) -> str:
        return allowed_methods(Request({"type": "http", "method": "PUT", "path": path, "app": app, "headers": []}))

    assert (allowed("/a/x"), allowed("/b"), allowed("/c")) == ("GET, POST, HEAD", "POST", "")


@pytest.mark.parametrize(("path", "root_path"), [("/healthz", ""), ("/frogs/readyz", "/frogs")])
def test_load_balancers_are_known_by_the_whole_address(path: str, root_path: str) -> None:
    assert guard.is_probe({"path": path, "root_path": root_path})
    assert not guard.is_probe({"path": f"/x{path}", "root_path": root_path})
