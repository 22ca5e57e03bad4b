"""ASGI middleware for what holds for every answer: hosts by whose name the service is called, headers."""

from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitax_ray.serving.error_bodies import error_response

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PROBES = ("/healthz", "/readyz")  # load balancers ask for them by address


class Policy:
    """Adds headers to all answers, also those of a route (`request.state.headers`), and refuses other hosts."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str] = ()) -> None:
        self.app, self._hosts = app, {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state: dict[str, Mapping[str, str]] = dict(scope.get("state", {}))  # the server may share its own

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (HEADERS | dict(state.get("headers", {}))).items():
                    headers.setdefault(name, value)
            await send(message)

        app: ASGIApp = self.app
        if self._hosts and _host(scope) not in self._hosts and not scope["path"].endswith(PROBES):
            app = error_response(scope["path"], 400, "this service has another name: see its --allowed-hosts")
        await app({**scope, "state": state}, receive, send_with_headers)


def _host(scope: Scope) -> str:
    """The name in the header Host, without its port."""
    host = Headers(scope=scope).get("host", "").lower()
    return host.split("]")[0] + "]" if host.startswith("[") else host.split(":")[0]
