"""The HTTP routes: decode requests, ask a `Backend`, encode answers. They know neither Ray nor the engine."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Protocol
from urllib.parse import quote

from fastapi import Depends, FastAPI, File, Form, Path, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from aitax_ray import __version__
from aitax_ray.errors import ClusterError, RequestError
from aitax_ray.serving.c4c import C4cAnswer, C4cError, C4cRoute, C4cStatus, C4cTaxon, to_answer, to_taxa
from aitax_ray.serving.decoding import MAX_BYTES, PhotoDecoder
from aitax_ray.serving.identifier import MAX_IMAGES, Identification

if TYPE_CHECKING:
    from PIL import Image

    from aitax_ray.engine.bundle import Taxon
    from aitax_ray.engine.info import EngineInfo
    from aitax_ray.serving.gallery import Picture

log = logging.getLogger(__name__)

IMAGE_ID = re.compile(r"[0-9a-f]{40}")
# A day: a photograph that is withdrawn, or has got other pixels, is in the caches of others no longer than that.
CACHE_CONTROL = "public, max-age=86400, immutable"
URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%~"  # that are not escaped in a header
TOO_LARGE = f"all photographs together may have {MAX_BYTES:,} bytes"


class Backend(Protocol):
    """Answers questions: the Ray Serve ingress, or a stand-in."""

    info: "EngineInfo"
    taxa: "Sequence[Taxon]"
    num_queries: int
    decoder: PhotoDecoder

    async def identify(self, photos: "Sequence[Image.Image]", max_results: int | None) -> Identification:
        """Identify one individual."""
        ...

    async def picture(self, image_id: str) -> "Picture | None":
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        ...

    async def fetch(self, url: str) -> bytes:
        """Fetch a photograph by its URL. Raises RequestError when that is not possible or not allowed."""
        ...


def make_app(get_backend: Callable[[], Backend]) -> FastAPI:
    """Make the application. It calls `get_backend` for each request."""
    app = FastAPI(
        title="aitax_ray",
        version=__version__,
        description="Names the species on a photograph.",
    )
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BYTES)  # below those that make its answer readable
    app.middleware("http")(_answer_every_error)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(PlainPaths)
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(ClusterError, _cluster_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    BackendOf = Annotated[Backend, Depends(get_backend)]  # noqa: N806  a type
    MaxResults = Annotated[  # noqa: N806
        int | None, Query(alias="nb-results", ge=1, description="Largest number of species in the answer.")
    ]
    Info = Annotated[bool, Query(description="With taxonomy and similar photographs.")]  # noqa: N806
    NoReject = Annotated[  # noqa: N806
        bool, Query(alias="no-reject", description="List species also if probably none of them is right.")
    ]

    async def answer(
        request: Request,
        backend: Backend,
        bodies: Sequence[bytes],
        max_results: int | None,
        info: bool,
        no_reject: bool,
    ) -> C4cAnswer:
        if not 1 <= len(bodies) <= MAX_IMAGES:
            raise RequestError(f"send 1 to {MAX_IMAGES} photographs of one individual, not {len(bodies)}")
        names = ["the photograph"] if len(bodies) == 1 else [f"photograph {n}" for n in range(1, len(bodies) + 1)]
        photos = await asyncio.gather(*map(backend.decoder.decode, bodies, names))
        return to_answer(await backend.identify(photos, max_results), info, _base_url(request), no_reject)

    @app.post("/identify", tags=["c4c"])
    async def identify(
        request: Request,
        backend: BackendOf,
        image: Annotated[list[UploadFile], File(description="1 to 5 photographs of one individual.")],
        nb_results: MaxResults = None,
        info: Info = True,
        no_reject: NoReject = False,
        info_part: Annotated[bool, Form(alias="info", description="The same, as the web component sends it.")] = True,
    ) -> C4cAnswer:
        """Identify uploaded photographs (multipart/form-data)."""
        bodies = [await part.read() for part in image]
        return await answer(request, backend, bodies, nb_results, info and info_part, no_reject)

    @app.get("/identify", tags=["c4c"])
    async def identify_urls(
        request: Request,
        backend: BackendOf,
        image: Annotated[list[str], Query(description="URLs of 1 to 5 photographs of one individual.")],
        nb_results: MaxResults = None,
        info: Info = True,
        no_reject: NoReject = False,
    ) -> C4cAnswer:
        """Identify photographs by their URLs."""
        if len(image) > MAX_IMAGES:
            raise RequestError(f"name 1 to {MAX_IMAGES} photographs of one individual, not {len(image)}")
        bodies = await asyncio.gather(*map(backend.fetch, image))
        return await answer(request, backend, bodies, nb_results, info, no_reject)

    @app.head("/images/{image_id}", include_in_schema=False)
    @app.get("/images/{image_id}", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
    async def picture(
        request: Request, backend: BackendOf, image_id: Annotated[str, Path(description="As answers have it.")]
    ) -> Response:
        """Show the thumbnail of a similar photograph (WebP). The header Link names its licence."""
        found = await backend.picture(image_id) if IMAGE_ID.fullmatch(image_id) else None
        return error_response(404, "there is no such photograph") if found is None else _show(request, found)

    @app.get("/status", tags=["c4c"])
    async def status(backend: BackendOf) -> C4cStatus:
        """Describe the engine, and count the queries that this copy of the service has answered."""
        engine = backend.info
        return C4cStatus(
            gbif_doi=engine.doi or "",
            queries=backend.num_queries,
            engine=engine.version,
            arch=engine.arch,
            species=len(engine.classes),
        )

    @app.get("/taxa", tags=["c4c"])
    async def taxa(backend: BackendOf) -> list[C4cTaxon]:
        """List the species that the engine knows."""
        return to_taxa(backend.taxa)

    @app.get("/help", tags=["c4c"])
    async def help_() -> dict[str, list[C4cRoute]]:
        """List the routes."""
        return {
            "routes": [
                _describe(route) for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema
            ]
        }

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer as long as the process lives."""
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    return app


def _base_url(request: Request) -> str:
    """Give the address of the service as the client sees it, with a slash at its end."""
    url = request.base_url
    # A proxy that speaks https with clients, and http with us, says so.
    return str(url.replace(scheme="https") if request.headers.get("x-forwarded-proto") == "https" else url)


def _show(request: Request, picture: "Picture") -> Response:
    etag = f'"{hashlib.sha256(picture.content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "X-Content-Type-Options": "nosniff"}
    if picture.license_address:
        headers["Link"] = f'<{quote(picture.license_address, safe=URL_CHARACTERS)}>; rel="license"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type="image/webp", headers=headers)


def _describe(route: APIRoute) -> C4cRoute:
    fields = [*route.dependant.path_params, *route.dependant.query_params, *route.dependant.body_params]
    parameters = {field.alias: str(field.field_info.description or "") for field in fields}
    method = ", ".join(sorted(route.methods or ()))
    return C4cRoute(method=method, path=route.path, parameters=parameters, description=route.description)


async def _answer_every_error(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer unexpected errors too, with the headers that a browser needs to show them."""
    try:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BYTES:
            return error_response(413, TOO_LARGE)  # in JSON; starlette's answer is plain text
        return await call_next(request)
    except Exception:
        log.exception("%s %s failed", request.method, request.url.path)
        return error_response(500, "the service failed; try again")


def error_response(code: int, message: str) -> JSONResponse:
    """Make the answer for an error."""
    return JSONResponse(C4cError(code=code, message=message).model_dump(), status_code=code)


def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error.status, str(error))


def _cluster_error(_: Request, error: Exception) -> Response:
    log.error("%s", error)
    return error_response(503, "the service has no room to answer now; try again later")


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return error_response(413, TOO_LARGE)
    return error_response(error.status_code, error.detail)


def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = (f"{'.'.join(str(p) for p in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors())
    return error_response(400, "; ".join(problems) + "; see /help")


class PlainPaths:
    """Treat `//identify` as `/identify`: clients send it when their address of the service ends in a slash."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "//" in scope["path"]:
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
        await self.app(scope, receive, send)
