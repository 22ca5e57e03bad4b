"""serving.telemetry: each request has an id and is reported, whatever becomes of it; over real HTTP."""

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from aitax_ray.serving import access_log, metrics
from aitax_ray.serving.admission import IDENTIFIES
from aitax_ray.serving.decoding import MAX_BYTES
from aitax_ray.serving.http import ROUTES, make_app
from aitax_ray.serving.identifier import Identification, Identifier
from aitax_ray.serving.record import PARTS
from aitax_ray.serving.telemetry import FORMATS, HEADER, Telemetry
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.recorded import Recorded, recorded
from tests.serving.service import RED_URL, LocalBackend, serve

SECRET = "very-secret-key"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, reported: Path) -> Iterator[httpx.Client]:
    backend = LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))
    access_log.start(str(reported), 10**9, 1)
    yield from serve(backend)
    access_log.stop()


@pytest.fixture
def kept(client: httpx.Client) -> Iterator[Recorded]:
    with recorded() as found:
        yield found


def line(reported: Path, answer: httpx.Response) -> dict[str, Any]:
    """The line of a request. It is written after its answer."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for text in reported.read_text(encoding="utf-8").splitlines():
            found: dict[str, Any] = json.loads(text)
            if found["request_id"] == answer.headers[HEADER]:
                return found
    raise AssertionError("there is no line for this request")


def test_an_identification_is_reported_with_all_its_parts(client: httpx.Client, kept: Recorded, reported: Path) -> None:
    images = [("image", (f"secret-{n}.png", photo(COLOURS["11"]))) for n in range(2)]
    answer = client.post(f"/identify?api-key={SECRET}", files=images, headers={HEADER: "my-id"})
    assert (answer.status_code, answer.headers.get_list(HEADER)) == (200, ["my-id"])
    found = line(reported, answer)
    assert (found["method"], found["route"], found["status"]) == ("POST", "/identify", 200)
    assert (found["format"], found["photographs"], found["engine"]) == ("c4c", 2, "colours-1")
    assert found["bytes_in"] == int(answer.request.headers["content-length"])
    assert found["bytes_out"] == len(answer.content)
    assert set(found["parts"]) == {"read", "decode", "serialise"} <= set(PARTS)
    assert sum(found["parts"].values()) <= found["seconds"] + 0.001
    assessment = answer.json()["assessment"]
    expected = "rejected" if not assessment["isKnown"] else "accepted" if assessment["isAccepted"] else "unsure"
    assert found["outcome"] == expected
    assert kept.labels(metrics.IDENTIFICATIONS) == [("c4c", expected, "200")]
    assert kept.of(metrics.IDENTIFICATION_SECONDS)[0][0] == pytest.approx(found["seconds"], abs=0.001)
    text = reported.read_text(encoding="utf-8")
    assert "client" not in found
    assert SECRET not in text
    assert "secret-" not in text


@pytest.mark.parametrize(
    ("method", "path", "format_"),
    [
        ("POST", "/v2/identify/all", "pn"),
        ("POST", "/v2/ai-taxonomist/all/identify", "c4c"),
        ("POST", f"/v2/observation/identify/token/{SECRET}", "nia"),
        ("POST", "/identify/", "c4c"),
        ("POST", "/", "page"),
    ],
)
def test_the_format_is_that_of_the_route(
    client: httpx.Client, kept: Recorded, reported: Path, method: str, path: str, format_: str
) -> None:
    name = "image" if format_ != "pn" else "images"
    answer = client.request(method, path, files={name: photo(COLOURS["11"])})
    found = line(reported, answer)
    assert (found["format"], SECRET in json.dumps(found)) == (format_, False)
    assert [labels[0] for labels in kept.labels(metrics.IDENTIFICATIONS)] == [format_]


def test_every_route_that_identifies_has_a_format() -> None:
    routes = [route for each in ROUTES for route in each.router.routes]
    identifying = {
        (method, route.path)
        for route in routes
        for method in route.methods
        if IDENTIFIES in getattr(route, "dependencies", ())
    }
    assert identifying == FORMATS.keys() - {("POST", "/")}


REFUSED: list[tuple[str, str, dict[str, Any], int, str | None, str]] = [
    ("POST", "/identify", {"files": {"image": b"no photograph"}}, 415, "no_photograph", "/identify"),
    ("POST", "/identify", {"files": {"other": b""}}, 400, "bad_request", "/identify"),
    ("POST", "/identify", {"content": b"x" * (MAX_BYTES + 1)}, 413, "too_large", "/identify"),
    ("GET", f"/identify?image=https://{SECRET}.example/", {}, 400, "bad_request", "/identify"),
    ("GET", f"/v2/identify/{SECRET}?images={RED_URL}", {}, 404, None, "/v2/identify/{project}"),
    ("GET", f"/nothing/{SECRET}", {}, 404, None, ""),
    ("PUT", "/identify", {}, 405, None, "/identify"),
    ("GET", f"/images/{SECRET}", {}, 404, None, "/images/{image_id}"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "reason", "route"), REFUSED)
def test_errors_have_an_id_and_are_reported(
    client: httpx.Client,
    kept: Recorded,
    reported: Path,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    reason: str | None,
    route: str,
) -> None:
    answer = client.request(method, path, headers={HEADER: "x" * 101, "Origin": "https://pages.example"}, **options)
    assert answer.status_code == status
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers[HEADER])
    assert HEADER in answer.headers["Access-Control-Expose-Headers"]
    found = line(reported, answer)
    assert (found["status"], found["outcome"], found["route"]) == (status, "error", route)
    assert SECRET not in reported.read_text(encoding="utf-8")
    assert kept.labels(metrics.REFUSALS) == ([(reason,)] if reason else [])
    if found["format"]:
        assert kept.labels(metrics.IDENTIFICATIONS) == [("c4c" if route == "/identify" else "pn", "error", str(status))]


def test_a_rejected_photograph_is_no_error(
    client: httpx.Client, kept: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Identifier.identify

    def reject(*given: Any) -> Identification:
        found = original(*given)
        return replace(found, judgement=replace(found.judgement, is_known=False))

    monkeypatch.setattr(Identifier, "identify", reject)
    answer = client.post("/v2/identify/all", files={"images": photo(COLOURS["11"])})
    assert (answer.status_code, answer.json()["message"]) == (404, "Species not found")
    assert kept.labels(metrics.IDENTIFICATIONS) == [("pn", "rejected", "404")]


def test_a_photograph_by_its_url_has_the_part_fetch(client: httpx.Client, reported: Path) -> None:
    found = line(reported, client.get("/identify", params={"image": RED_URL}))
    assert list(found["parts"])[:2] == ["fetch", "decode"]


def test_probes_are_not_reported_while_all_is_well(client: httpx.Client, kept: Recorded, reported: Path) -> None:
    answer = client.get("/healthz")
    assert answer.headers[HEADER]
    line(reported, client.get("/status"))
    assert answer.headers[HEADER] not in reported.read_text(encoding="utf-8")
    assert dict(kept.values).keys() & {metrics.REFUSALS.name, metrics.IDENTIFICATIONS.name} == set()


def test_a_client_that_leaves_is_reported(client: httpx.Client, kept: Recorded, reported: Path) -> None:
    request = f"POST /identify HTTP/1.1\r\nHost: a\r\n{HEADER}: gone\r\nContent-Length: 1000\r\n"
    request += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(request.encode() + b"x" * 10)
    found = line(reported, httpx.Response(200, headers={HEADER: "gone"}))
    assert (found["status"], found["outcome"]) == (499, "left")
    assert kept.labels(metrics.IDENTIFICATIONS) == [("c4c", "left", "499")]


async def test_the_address_of_a_client_is_logged_only_if_a_setting_says_so(
    backend: LocalBackend, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    transport = httpx.ASGITransport(make_app(lambda: backend, log_clients=True), client=("192.0.2.7", 1))
    access_log.start(str(path), 10**9, 1)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert line(path, await client.get("/status"))["client"] == "192.0.2.7"
    finally:
        access_log.stop()


async def call(app: Any, headers: dict[str, str]) -> list[bytes]:
    """The ids that the answer to a request has."""
    found: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        found.extend(value for name, value in message.get("headers", ()) if name == HEADER.lower().encode())

    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "BREW", "path": "/", "headers": pairs}, receive, send)
    return found


async def test_behind_ray_serve_the_id_of_the_client_is_not_added_twice() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("")(scope, receive, send)

    telemetry = Telemetry(app, [], serve_adds_id=True)
    assert await call(telemetry, {HEADER: "mine"}) == []
    assert len(await call(telemetry, {HEADER: "not harmless"})) == 1
    assert await call(Telemetry(app, []), {HEADER: "mine"}) == [b"mine"]


async def test_the_cost_of_a_report_is_far_below_that_of_an_identification(tmp_path: Path) -> None:
    """An identification takes 15 ms or more of a core."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("")(scope, receive, send)

    async def measure(app: Any) -> float:
        start = time.process_time()
        for _ in range(200):
            await call(app, {})
        return (time.process_time() - start) / 200

    routes = FastAPI().routes + [route for each in ROUTES for route in each.router.routes]
    access_log.start(str(tmp_path / "access.log"), 10**9, 1)
    try:
        plain = min([await measure(app) for _ in range(5)])
        cost = min([await measure(Telemetry(app, routes)) for _ in range(5)]) - plain
    finally:
        access_log.stop()
    assert cost < 0.45e-3
