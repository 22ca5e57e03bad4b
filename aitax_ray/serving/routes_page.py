"""The routes of the page for people."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from aitax_ray.errors import RequestError
from aitax_ray.serving.admission import admit_page
from aitax_ray.serving.backend import Backend, BackendOf
from aitax_ray.serving.page import FOLDER, Page, negotiate, read_texts
from aitax_ray.serving.photographs import uploaded

router = APIRouter(include_in_schema=False)

# Nothing comes from another host, no script stands in the page, and no other page may show it in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Language",
}
FILES = {"page.css": "text/css", "page.js": "text/javascript", "leaf.svg": "image/svg+xml"}
MAX_QUERY = 100  # characters

Language = Annotated[str, Query(alias="lang", max_length=20)]


@router.get("/")
async def ask(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Show the form."""
    return HTMLResponse(_page(request, backend, language).ask(), headers=HEADERS)


@router.post("/")
async def answer(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Answer the form: with the whole page, or with the answer alone where the script asks for it."""
    page, is_part = _page(request, backend, language), request.headers.get("x-part") == "answer"
    try:
        await admit_page(request, backend)
        sent, _ = await uploaded(request, backend)
        found = page.answer(await backend.identify(sent.photos, None), sent.photos)
    except RequestError as error:
        text = page.say_failed(str(error))
        html = page.error_part(text) if is_part else page.ask(error=text)
        return HTMLResponse(html, error.status, headers=HEADERS | error.headers)
    return HTMLResponse(page.answer_part(found) if is_part else page.ask(answer=found), headers=HEADERS)


@router.get("/species")
async def species(
    request: Request,
    backend: BackendOf,
    language: Language = "",
    q: Annotated[str, Query(max_length=MAX_QUERY)] = "",
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Show the list of species."""
    return HTMLResponse(_page(request, backend, language).species(q, page), headers=HEADERS)


@router.get("/page/{name}")
async def file(name: Annotated[str, Path()]) -> Response:
    """Give the style sheet, the script and the picture of the page."""
    if name not in FILES:
        raise RequestError("there is no such file", 404)
    headers = HEADERS | {"Cache-Control": "public, max-age=3600"}
    return FileResponse(FOLDER / name, media_type=FILES[name], headers=headers)


def _page(request: Request, backend: Backend, language: str) -> Page:
    """The page in the language of the request. One per language is kept, until there is another engine."""
    chosen = language if language in read_texts() else negotiate(request.headers.get("accept-language", ""))
    kept: tuple[str, dict[str, Page]] | None = getattr(request.app.state, "pages", None)
    if kept is None or kept[0] != backend.info.version:
        kept = request.app.state.pages = (backend.info.version, {})
    if chosen not in kept[1]:
        kept[1][chosen] = Page(backend.info, backend.taxa, chosen)
    return kept[1][chosen]
