"""serving.routes_page: the page over HTTP."""

import httpx
import pytest
from starlette.exceptions import HTTPException

from aitax_ray.errors import ClusterError
from aitax_ray.serving import routes_page
from aitax_ray.serving.page import FOLDER
from aitax_ray.serving.routes_page import FILES
from tests.engines import COLOURS, photo
from tests.serving.service import LocalBackend

UPLOAD = {"image": ("red.png", photo(COLOURS["11"]), "image/png")}


def test_the_form_comes_in_the_language_of_the_visitor_and_loads_nothing_from_elsewhere(service: httpx.Client) -> None:
    answer = service.get("/", headers={"Accept-Language": "fr"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<html lang="fr">' in answer.text
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["vary"].lower().count("accept-language") == 1
    assert '<html lang="de">' in service.get("/?lang=de", headers={"Accept-Language": "fr"}).text
    assert '<html lang="fr">' in service.get("/?lang=xx", headers={"Accept-Language": "fr"}).text


def test_an_upload_is_answered_with_the_page_or_with_the_answer_alone(service: httpx.Client) -> None:
    whole = service.post("/", files=UPLOAD)
    part = service.post("/", files=UPLOAD, headers={"X-Part": "answer"})
    assert (whole.status_code, part.status_code) == (200, 200)
    assert "<html" in whole.text
    assert "<html" not in part.text
    for answer in (whole, part):
        assert "<i>Ruber primus</i>" in answer.text


@pytest.mark.parametrize(
    ("upload", "status"),
    [({"image": ("a.jpg", b"no photograph")}, 415), ({"image": ("", b"")}, 400), ({"other": ("a", b"b")}, 400)],
)
def test_what_cannot_be_used_gets_a_page_with_the_reason(
    service: httpx.Client, upload: dict[str, tuple[str, bytes]], status: int
) -> None:
    whole = service.post("/?lang=es", files=upload)
    assert whole.status_code == status
    assert "Las fotos no se pudieron usar" in whole.text
    part = service.post("/?lang=es", files=upload, headers={"X-Part": "answer"})
    assert part.status_code == status
    assert part.text.startswith('<p class="banner error"')


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ClusterError("the queue is full"), 503, "Der Dienst kann gerade nicht antworten."),
        (HTTPException(503, "too many photographs"), 503, "Der Dienst kann gerade nicht antworten."),
        (HTTPException(408, "too slow"), 408, "Die Fotos konnten nicht verwendet werden: too slow"),
        (HTTPException(413, "too large"), 413, "Die Fotos konnten nicht verwendet werden: too large"),
    ],
)
def test_what_fails_is_said_on_the_page_too(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(routes_page, "admit_page", fail)
    monkeypatch.setattr(routes_page, "read_form", fail)
    for path, said in (("/?lang=de", text), ("/forget?lang=de", "Die Fotos wurden nicht gelöscht.")):
        whole, part = (service.post(path, files=UPLOAD, headers=headers) for headers in ({}, {"X-Part": "answer"}))
        assert (whole.status_code, part.status_code) == (status, status)
        assert ("<html" in whole.text, said in whole.text, "x-part" in whole.headers) == (True, True, False)
        assert (said in part.text, part.headers["x-part"]) == (True, "answer")
        assert part.text.startswith("<p class")


BROWSER = {"Accept": "text/html,application/xhtml+xml", "Accept-Language": "es"}


def test_a_form_that_a_browser_sends_without_the_script_is_refused_with_a_page(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.serving.guard.MAX_ALL_BYTES", 100)
    refused = service.post("/", files=UPLOAD, headers=BROWSER)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.headers["content-security-policy"]
    monkeypatch.undo()
    monkeypatch.setattr("aitax_ray.serving.guard.MAX_HEADERS", 5)
    for path in ("/", "/forget"):
        answer = service.post(path, files=UPLOAD, headers=BROWSER)
        assert (answer.status_code, answer.headers["content-type"]) == (431, "text/html; charset=utf-8")
        assert '<html lang="es">' in answer.text
        assert "Las fotos no se pudieron usar: a request may have 5 headers" in answer.text
    for path, headers in (("/identify", BROWSER), ("/", {}), ("/", BROWSER | {"X-Part": "answer"})):
        assert service.post(path, files=UPLOAD, headers=headers).json()["code"] == 431


def test_a_wish_to_delete_that_is_no_form_gets_a_page(service: httpx.Client) -> None:
    answer = service.post("/forget?lang=en", content=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status_code, "were not deleted" in answer.text) == (415, True)


def test_the_species_are_listed_and_found(service: httpx.Client) -> None:
    assert service.get("/species").text.count("<tr><th") == 3
    assert service.get("/species", params={"q": "viridis", "lang": "en"}).text.count("<tr><th") == 1
    assert service.get("/species", params={"page": "0"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/data-card", "text/html", "<h1>Data card</h1>"),
        ("/evaluation", "text/html", "<h1>How good is the engine?</h1>"),
        ("/model-card", "text/plain", "# Model card"),
    ],
)
def test_the_pages_of_the_engine_are_shown_and_run_no_script(
    service: httpx.Client, path: str, kind: str, text: str
) -> None:
    answer = service.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert text in answer.text
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert not {"script-src", "connect-src"} & policy.keys()
    assert (policy["img-src"], policy["frame-ancestors"]) == ("data:", "'none'")


def test_an_engine_without_pages_has_an_about_page_without_links_to_them(
    service: httpx.Client, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_links = service.get("/about").text
    assert all(f'href="./{path}"' in with_links for path in ("data-card", "evaluation", "model-card"))
    files = {name: file for name, file in backend.info.files.items() if not name.endswith((".html", ".md"))}
    info = backend.info.model_copy(update={"files": files, "caveats": [], "version": "old"})
    monkeypatch.setattr(backend, "info", info)
    monkeypatch.setattr(backend._identifier.engine, "info", info)
    monkeypatch.setattr(backend, "figures", {})
    without = service.get("/about")
    assert (without.status_code, "./evaluation" in without.text) == (200, False)
    assert service.get("/evaluation").status_code == 404
    assert "Photographs</th>" in service.get("/species?lang=en").text


def test_the_files_of_the_page_are_served_and_no_others(service: httpx.Client) -> None:
    for name, kind in FILES.items():
        answer = service.get(f"/page/{name}")
        assert answer.headers["content-type"].split(";")[0] == kind
        assert answer.content == (FOLDER / name).read_bytes()
    for name in ("page.html", "texts/en.json", "..%2fpage.py", "%2e%2e%2fpage.py"):
        assert service.get(f"/page/{name}").status_code == 404
