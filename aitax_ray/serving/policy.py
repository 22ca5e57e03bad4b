"""ASGI middleware for what holds for every answer: hosts by whose name the service is called, headers, its failures."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitax_ray.errors import AitaxError
from aitax_ray.serving.error_bodies import error_response
from aitax_ray.serving.guard import is_probe

log = logging.getLogger(__name__)

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Hosts:
    """Answers only those who call the service by one of these names; without names, all."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str] = ()) -> None:
        self.app, self._allowed = app, {host.lower() for host in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self.app
        if scope["type"] == "http" and self._allowed and _host(scope) not in self._allowed and not is_probe(scope):
            app = error_response(scope["path"], 400, "this service has another name: see its --allowed-hosts")
        await app(scope, receive, send)


class Policy:
    """Adds headers to all answers, also those of a route (`request.state.headers`).

    If the service fails (a status from 500 on), it calls what a route left in `request.state.on_failure`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state: dict[str, Any] = dict(scope.get("state", {}))  # the server may share its own

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers, own = MutableHeaders(scope=message), dict(state.get("headers", {}))
                if message["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR and "on_failure" in state:
                    own = {}  # the counts in them do not hold any more
                    await _call(state.pop("on_failure"))
                for name, value in (HEADERS | own).items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app({**scope, "state": state}, receive, send_with_headers)


async def _call(on_failure: Callable[[], Awaitable[None]]) -> None:
    try:
        await on_failure()
    except AitaxError as error:
        log.warning("an identification that failed was counted: %s", error)


def _host(scope: Scope) -> str:
    """The name in the header Host, without its port."""
    host = Headers(scope=scope).get("host", "").lower()
    return host.split("]")[0] + "]" if host.startswith("[") else host.split(":")[0]
