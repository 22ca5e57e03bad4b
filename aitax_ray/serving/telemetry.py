"""ASGI middleware that gives each request an id and a record, and reports it: metrics, access log, traces."""

import time
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitax_ray.serving import access_log, metrics, tracing
from aitax_ray.serving.guard import METHODS, PROBES
from aitax_ray.serving.record import Record, add_part, choose_request_id, recording

HEADER = "X-Request-ID"
LEFT = 499  # the status that logs of web servers have when the client went away before its answer
FORMATS = {
    ("POST", "/identify"): "c4c",
    ("GET", "/identify"): "c4c",
    ("POST", "/v2/ai-taxonomist/{project}/identify"): "c4c",
    ("GET", "/v2/ai-taxonomist/{project}/identify"): "c4c",
    ("POST", "/v2/identify/{project}"): "pn",
    ("GET", "/v2/identify/{project}"): "pn",
    ("POST", "/v2/observation/identify"): "nia",
    ("POST", "/v2/observation/identify/token/{token}"): "nia",
    ("POST", "/"): "page",
}
REFUSALS = {
    400: "bad_request",
    401: "no_key",
    403: "other_origin",
    408: "slow_client",
    413: "too_large",
    415: "no_photograph",
    429: "quota",
    503: "busy",
}


class Telemetry:
    """Reports each request to an application that has these routes.

    `serve_adds_id`: Ray Serve adds the id of the client to the answer by itself. `log_clients`: with their addresses.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[BaseRoute], serve_adds_id: bool = False, log_clients: bool = False
    ) -> None:
        self.app, self._routes, self._serve_adds_id, self._log_clients = app, routes, serve_adds_id, log_clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, start = Headers(scope=scope), time.perf_counter()
        given = headers.get(HEADER, "")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        route = find_route(self._routes, scope, method)
        record = Record(
            request_id=choose_request_id(given),
            method=scope["method"] if method in (*METHODS, "OPTIONS") else "OTHER",
            route=route,
            format=FORMATS.get((method, route), ""),
        )
        adds_id = not (self._serve_adds_id and given == record.request_id)
        num_bytes, status = [0, 0], LEFT

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if record.end_of_work:
                    seconds = time.perf_counter() - record.end_of_work
                    add_part("serialise", seconds)
                    tracing.past_span("serialise", seconds)
                if adds_id:
                    mark = HEADER.lower().encode(), record.request_id.encode()
                    message = {**message, "headers": [*message.get("headers", ()), mark]}
            num_bytes[1] += len(message.get("body", b""))
            await send(message)

        async def count_body() -> Message:
            message = await receive()
            num_bytes[0] += len(message.get("body", b""))
            return message

        attributes = {"http.request.method": record.method, "http.route": route, "aitax.request_id": record.request_id}
        with recording(record), tracing.request_span(f"{record.method} {route}", headers, attributes) as span:
            try:
                await self.app(scope, count_body, count)
            finally:
                outcome, seconds = _outcome(record, status), time.perf_counter() - start
                if span is not None:
                    span.set_attributes({"http.response.status_code": status, "aitax.outcome": outcome})
                if route not in PROBES:
                    _measure(record, status, outcome, seconds)
                if route not in PROBES or status >= 400:
                    client = (scope.get("client") or ("",))[0] if self._log_clients else ""
                    access_log.write(record, seconds, status, outcome, num_bytes[0], num_bytes[1], client)


def find_route(routes: Sequence[BaseRoute], scope: Scope, method: str) -> str:
    """Find the template of the route for a request; "" if there is none."""
    path = ""
    for route in routes:
        match, _ = route.matches({**scope, "method": method})
        if match == Match.FULL:
            return str(getattr(route, "path", ""))
        if match == Match.PARTIAL:
            path = path or str(getattr(route, "path", ""))
    return path


def _outcome(record: Record, status: int) -> str:
    """Say how a request ended. An identification that was rejected may have the status 404."""
    if status == LEFT:
        return "left"
    if record.judgement and (status < 400 or status == 404):
        return record.judgement
    return "ok" if status < 400 else "error"


def _measure(record: Record, status: int, outcome: str, seconds: float) -> None:
    if record.format:
        metrics.IDENTIFICATIONS.record(format=record.format, outcome=outcome, status=str(status))
        metrics.IDENTIFICATION_SECONDS.record(seconds, format=record.format)
    if status in REFUSALS:
        metrics.REFUSALS.record(reason=REFUSALS[status])
