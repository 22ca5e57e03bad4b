"""The routes about the service itself: its thumbnails, the list of routes, whether it lives."""

import hashlib
import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from aitax_ray.errors import RequestError
from aitax_ray.serving.backend import BackendOf, base_url
from aitax_ray.serving.citation import to_bibtex
from aitax_ray.serving.examples import HELP
from aitax_ray.serving.openapi import Help, answers, as_text, list_routes
from aitax_ray.serving.routes_c4c import ERRORS

if TYPE_CHECKING:
    from aitax_ray.serving.gallery import Picture

IMAGE_ID = re.compile(r"[0-9a-f]{40}")
# A day: a photograph that is withdrawn, or has got other pixels, is in the caches of others no longer than that.
CACHE_CONTROL = "public, max-age=86400, immutable"
URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%~"  # that are not escaped in a header

router = APIRouter(tags=["service"], responses=ERRORS)


@router.get("/images/{image_id}", response_class=Response, responses={200: {"content": {"image/webp": {}}}})
async def picture(
    request: Request, backend: BackendOf, image_id: Annotated[str, Path(description="As answers have it.")]
) -> Response:
    """Show the thumbnail of a similar photograph (WebP). The header Link names its licence."""
    found = await backend.picture(image_id) if IMAGE_ID.fullmatch(image_id) else None
    if found is None:
        raise RequestError("there is no such photograph", 404)
    return _show(request, found)


@router.get("/cite", response_class=PlainTextResponse, responses={200: {"content": {"text/plain": {}}}})
async def cite(request: Request, backend: BackendOf) -> PlainTextResponse:
    """Say how to cite the data, the engine and the program, as BibTeX."""
    headers = {"Content-Disposition": 'inline; filename="cite.bib"'}
    return PlainTextResponse(to_bibtex(backend.info, base_url(request)), headers=headers)


@router.get("/help", response_model=Help, responses=answers(HELP))
async def help_(request: Request) -> Response:
    """List the routes: as JSON, or as text for a client that accepts no JSON but text."""
    routes, accepted = list_routes(request.app), request.headers.get("accept", "")
    if "application/json" not in accepted and "text/" in accepted:
        return PlainTextResponse(as_text(routes))
    return JSONResponse(Help(routes=routes).model_dump())


@router.get("/healthz", responses=answers({"status": "ok"}))
async def healthz() -> dict[str, str]:
    """Answer as long as the process lives."""
    return {"status": "ok"}


@router.get("/readyz", responses=answers({"status": "ok"}))
async def readyz(backend: BackendOf) -> dict[str, str]:
    """Answer when the service can identify photographs; before, 503."""
    if not await backend.is_ready():
        raise RequestError("the engine is not loaded yet", 503)
    return {"status": "ok"}


def _show(request: Request, picture: "Picture") -> Response:
    etag = f'"{hashlib.sha256(picture.content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "X-Content-Type-Options": "nosniff"}
    if picture.license_address:
        headers["Link"] = f'<{quote(picture.license_address, safe=URL_CHARACTERS)}>; rel="license"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type="image/webp", headers=headers)
