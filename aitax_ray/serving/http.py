"""The HTTP application: it joins the routes of all formats, and answers every error in the format of its route."""

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from aitax_ray import __version__
from aitax_ray.errors import ClusterError, RequestError
from aitax_ray.serving import (
    routes_c4c,
    routes_nia,
    routes_page,
    routes_pn,
    routes_pn_account,
    routes_pn_taxa,
    routes_queries,
    routes_service,
)
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.decoding import MAX_BYTES
from aitax_ray.serving.error_bodies import error_response
from aitax_ray.serving.guard import Guard, allowed_methods
from aitax_ray.serving.policy import Hosts, Policy
from aitax_ray.serving.record import current
from aitax_ray.serving.settings import MAX_WAITING
from aitax_ray.serving.telemetry import HEADER, Telemetry

log = logging.getLogger(__name__)

ROUTES = (
    *(routes_c4c, routes_pn, routes_pn_taxa, routes_pn_account, routes_nia),
    *(routes_page, routes_queries, routes_service),
)
# Headers that scripts of pages may read.
EXPOSED = (HEADER, "Retry-After", "RateLimit", "RateLimit-Policy", "X-RateLimit-Remaining")


def make_app(
    get_backend: Callable[[], Backend],
    max_waiting: int = MAX_WAITING,
    cors_origins: Sequence[str] = (),
    allowed_hosts: Sequence[str] = (),
    log_clients: bool = False,
    serve_adds_id: bool = False,
) -> FastAPI:
    """Make the application. It calls `get_backend` for each request; at most `max_waiting` wait for their answers.

    Without origins, or hosts, all are allowed. For `log_clients` and `serve_adds_id` see Telemetry.
    """
    app = FastAPI(
        title="aitax_ray",
        version=__version__,
        description="Names the species on a photograph. Formats: c4c (ai-taxonomist), pn (Pl@ntNet), nia (Naturalis).",
    )
    app.state.get_backend = get_backend

    def make_error(scope: Scope, status: int, message: str) -> Response:
        if routes_page.is_form(scope):
            return routes_page.refuse_form(scope, get_backend(), status, message)
        return error_response(scope["path"], status, message)

    app.add_middleware(Hosts, allowed=allowed_hosts)
    # Above what may refuse a request: Guard reads its body first. Below CORS: pages can read their answers.
    app.add_middleware(Guard, max_bytes=MAX_BYTES, max_waiting=max_waiting, make_error=make_error)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(cors_origins) or ["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
    app.add_middleware(Policy)
    known = [route for each in ROUTES for route in each.router.routes]
    app.add_middleware(Telemetry, routes=known, log_clients=log_clients, serve_adds_id=serve_adds_id)
    app.add_middleware(PlainPaths)
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(ClusterError, _cluster_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each bad form
    for routes in ROUTES:
        app.include_router(routes.router)
    return app


def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(request.url.path, error.status, str(error), error.headers)


def _cluster_error(request: Request, error: Exception) -> Response:
    log.error("request %s: %s", current().request_id, error)
    return error_response(request.url.path, 503, "the service has no room to answer now; try again later")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": allowed_methods(request)}
    return error_response(request.url.path, error.status_code, error.detail, headers)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = []
    for each in error.errors():
        name = ".".join(map(str, each["loc"][1:])) or "the request"
        problems.append(f"{name}: {each['msg'].removeprefix('Value error, ')}")
    return error_response(request.url.path, 400, "; ".join(problems) + "; see /help")


class PlainPaths:
    """Treat `//identify` and `/identify/` as `/identify`: clients join addresses in many ways.

    An application with the prefix `/frogs` has its page at `/frogs/`: links of the page would lead out of `/frogs`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.app
        if scope["type"] == "http":
            prefix = scope.get("root_path", "")
            route = scope["path"].removeprefix(prefix)
            scope = {**scope, "path": f"{prefix}/" + "/".join(filter(None, route.split("/")))}
            if prefix and not route:
                query = scope["query_string"].decode("latin-1")
                app = RedirectResponse(f"{prefix}/{'?' * bool(query)}{query}")
        await app(scope, receive, send)
