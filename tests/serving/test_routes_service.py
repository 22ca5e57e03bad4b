"""serving.routes_service: thumbnails, the list of routes, whether the service lives."""

import httpx
import pytest

from aitax_ray.schemas import image_id
from tests.engines import COLOURS, thumbnail
from tests.serving.service import LocalBackend

RED_ID = image_id("https://photos.example/11/0.jpg")


def test_thumbnail_is_a_webp_that_may_be_kept_for_a_day_and_names_its_licence(service: httpx.Client) -> None:
    got, head = (service.request(method, f"/images/{RED_ID}") for method in ("GET", "HEAD"))
    assert (got.status_code, head.status_code) == (200, 200)
    assert got.content == thumbnail(COLOURS["11"], 0)
    assert head.content == b""
    for name, value in (
        ("content-type", "image/webp"),
        ("content-length", str(len(got.content))),
        ("cache-control", "public, max-age=86400, immutable"),
        ("x-content-type-options", "nosniff"),
        ("link", '<https://creativecommons.org/licenses/by/4.0/>; rel="license"'),
    ):
        assert (got.headers[name], head.headers[name]) == (value, value)
    again = service.get(f"/images/{RED_ID}", headers={"If-None-Match": f'W/"old", {got.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == got.headers["etag"] == head.headers["etag"]
    assert service.get(f"/images/{RED_ID}", headers={"If-None-Match": '"old"'}).status_code == 200


@pytest.mark.parametrize(
    "key", ["0" * 40, RED_ID.upper(), RED_ID[:-1], f"{RED_ID}0", f"{RED_ID}.webp", "..%2f..%2fetc%2fpasswd", "é", "%00"]
)
def test_what_is_no_photograph_of_the_engine_is_not_found(service: httpx.Client, key: str) -> None:
    answer = service.get(f"/images/{key}")
    assert (answer.status_code, answer.json()["status"]) == (404, "error")
    assert service.head(f"/images/{key}").status_code == 404


def test_healthz_and_docs_answer(service: httpx.Client) -> None:
    assert service.get("/healthz").json() == {"status": "ok"}
    assert "/identify" in service.get("/openapi.json").json()["paths"]


def test_readyz_says_whether_the_engine_is_loaded(service: httpx.Client, backend: LocalBackend) -> None:
    assert service.get("/readyz").json() == {"status": "ok"}
    backend.is_loaded = False
    try:
        answer = service.get("/readyz")
    finally:
        backend.is_loaded = True
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["status"]) == (503, "5", "error")


def test_help_is_json_or_for_people_text_and_names_every_route_with_its_parameters(service: httpx.Client) -> None:
    routes = {(row["method"], row["path"]): row for row in service.get("/help").json()["routes"]}
    known = {
        (method.upper(), path) for path, each in service.get("/openapi.json").json()["paths"].items() for method in each
    }
    assert routes.keys() == known
    assert set(routes["POST", "/identify"]["parameters"]) == {
        *("image", "info", "nb-results", "no-reject", "lang", "detailed", "lat", "lon", "date")
    }
    assert {"images", "organs", "include-related-images"} <= routes["GET", "/v2/identify/{project}"][
        "parameters"
    ].keys()
    assert all(row["description"] for row in routes.values())
    for accepted, kind in (
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
    ):
        assert service.get("/help", headers={"Accept": accepted}).headers["content-type"] == kind
    text = service.get("/help", headers={"Accept": "text/plain"}).text
    assert all(f"{method} {path}\n    {row['description']}" in text for (method, path), row in routes.items())
