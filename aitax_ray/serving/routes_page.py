"""The routes of the page for people."""

import logging
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from aitax_ray.engine.documents import DATA_CARD, MODEL_CARD, REPORT
from aitax_ray.errors import ClusterError, RequestError
from aitax_ray.serving.admission import admit_page
from aitax_ray.serving.backend import Backend, BackendOf, base_url
from aitax_ray.serving.citation import list_references, to_bibtex
from aitax_ray.serving.form import read_form
from aitax_ray.serving.page import BY_ACCURACY, BY_NAME, DOCUMENTS, FOLDER, Page, negotiate, read_texts
from aitax_ray.serving.photographs import keep, read_uploads
from aitax_ray.serving.record import current
from aitax_ray.serving.routes_queries import delete_query

log = logging.getLogger(__name__)

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
# Says to the script that an answer is a part of the page: proxies and public networks answer HTML too.
PART = {"X-Part": "answer"}
# The pages of an engine have their style and their plots inside, and no script.
DOCUMENT_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
}
FILES = {"page.css": "text/css", "page.js": "text/javascript", "leaf.svg": "image/svg+xml"}
FORMS = ("/", "/forget")  # routes to which the page sends forms
MAX_QUERY = 100  # characters

Language = Annotated[str, Query(alias="lang", max_length=20)]

FAILURES = (RequestError, ClusterError, HTTPException)  # the last is of Guard: 408, 413, 503


@router.get("/")
async def ask(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Show the form."""
    return HTMLResponse(_page(request, backend, language).ask(), headers=HEADERS)


@router.post("/")
async def answer(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Answer the form: with the whole page, or with the answer alone where the script asks for it."""
    page, is_part, headers = _page(request, backend, language), _is_part(request), _headers(request)
    try:
        await admit_page(request, backend)
        sent, _ = await read_uploads(request, backend)
        identification = await backend.identify(sent.photos, None)
        found = page.answer(identification, sent.photos, keep(backend, sent, identification))
    except FAILURES as error:
        status, reason, more = _explain(error)
        text = _say_why(page, status, reason)
        html = page.error_part(text) if is_part else page.ask(error=text)
        return HTMLResponse(html, status, headers=headers | more)
    return HTMLResponse(page.answer_part(found) if is_part else page.ask(answer=found), headers=headers)


@router.post("/forget")
async def forget(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Delete the photographs that a visitor has sent: the button below an answer."""
    page, is_part, headers = _page(request, backend, language), _is_part(request), _headers(request)
    status = 200
    try:
        fields = (await read_form(request)).last()
        await delete_query(backend, fields.get("id", ""), fields.get("token", ""))
    except FAILURES as error:
        status, _, more = _explain(error)
        headers |= more
    notice = page.say_deleted(is_deleted=status == 200)
    return HTMLResponse(page.notice_part(notice) if is_part else page.ask(notice=notice), status, headers=headers)


def is_form(scope: Scope) -> bool:
    """Tell whether a browser sends a form of the page by itself, without the script: it shows any answer as a page."""
    route = scope["path"].removeprefix(scope.get("root_path", ""))
    headers = Headers(scope=scope)
    is_html = "text/html" in headers.get("accept", "") and "x-part" not in headers
    return is_html and scope["method"] == "POST" and route in FORMS


def refuse_form(scope: Scope, backend: Backend, status: int, reason: str) -> Response:
    """Make the page that says why a form was not read."""
    request = Request(scope)
    page = _page(request, backend, request.query_params.get("lang", ""))
    return HTMLResponse(page.ask(error=_say_why(page, status, reason)), status, headers=HEADERS)


@router.get("/about")
async def about(request: Request, backend: BackendOf, language: Language = "") -> Response:
    """Say what the engine knows and does not, and how to cite it."""
    documents = [name for name in DOCUMENTS if name in backend.info.files]
    references, bibtex = list_references(backend.info, base_url(request)), to_bibtex(backend.info, base_url(request))
    return HTMLResponse(_page(request, backend, language).about(documents, references, bibtex), headers=HEADERS)


@router.get("/data-card")
async def data_card(backend: BackendOf) -> Response:
    """Show the data card of the engine."""
    return await _document(backend, DATA_CARD, "text/html")


@router.get("/evaluation")
async def evaluation(backend: BackendOf) -> Response:
    """Show the evaluation of the engine."""
    return await _document(backend, REPORT, "text/html")


@router.get("/model-card")
async def model_card(backend: BackendOf) -> Response:
    """Show the model card of the engine, as Markdown."""
    return await _document(backend, MODEL_CARD, "text/plain")


@router.get("/species")
async def species(
    request: Request,
    backend: BackendOf,
    language: Language = "",
    q: Annotated[str, Query(max_length=MAX_QUERY)] = "",
    page: Annotated[int, Query(ge=1)] = 1,
    order: Annotated[str, Query(max_length=20)] = BY_NAME,
) -> Response:
    """Show the list of species, by name, or the hardest first (`order=accuracy`)."""
    order = order if order == BY_ACCURACY else BY_NAME
    return HTMLResponse(_page(request, backend, language).species(q, page, order), headers=HEADERS)


@router.get("/page/{name}")
async def file(name: Annotated[str, Path()]) -> Response:
    """Give the style sheet, the script and the picture of the page."""
    if name not in FILES:
        raise RequestError("there is no such file", 404)
    headers = HEADERS | {"Cache-Control": "public, max-age=3600"}
    return FileResponse(FOLDER / name, media_type=FILES[name], headers=headers)


def _say_why(page: Page, status: int, reason: str) -> str:
    return page.say_failed(reason) if status < 500 else page.say_busy()


async def _document(backend: Backend, name: str, kind: str) -> Response:
    content = await backend.document(name)
    if content is None:
        raise RequestError("this engine has no such page: an earlier version made it", 404)
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=HEADERS | DOCUMENT_HEADERS)


def _explain(error: RequestError | ClusterError | HTTPException) -> tuple[int, str, dict[str, str]]:
    """Give the status of an error, its reason and its headers."""
    if isinstance(error, RequestError):
        return error.status, str(error), error.headers
    if isinstance(error, HTTPException):
        return error.status_code, error.detail, dict(error.headers or {})
    log.error("request %s: %s", current().request_id, error)
    return 503, str(error), {}


def _is_part(request: Request) -> bool:
    return request.headers.get("x-part") == "answer"


def _headers(request: Request) -> dict[str, str]:
    return HEADERS | (PART if _is_part(request) else {})


def _page(request: Request, backend: Backend, language: str) -> Page:
    """The page in the language of the request. One per language is kept, until there is another engine."""
    chosen = language if language in read_texts() else negotiate(request.headers.get("accept-language", ""))
    kept: tuple[str, dict[str, Page]] | None = getattr(request.app.state, "pages", None)
    if kept is None or kept[0] != backend.info.version:
        kept = request.app.state.pages = (backend.info.version, {})
    if chosen not in kept[1]:
        is_keeping = backend.queries is not None
        kept[1][chosen] = Page(backend.info, backend.taxa, chosen, backend.figures, is_keeping=is_keeping)
    return kept[1][chosen]
