"""serving.policy: headers of every answer, and the names of the service."""

from collections.abc import Iterator

import httpx
import pytest

from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.service import LocalBackend, serve

FROGS = "https://frogs.example"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    backend = LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))
    yield from serve(backend, cors_origins=(FROGS,), allowed_hosts=("Engine.example", "[::1]"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/status"),
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/status"),
        ("HEAD", "/healthz"),
        ("GET", "/docs"),
    ],
)
def test_every_answer_has_the_headers_that_protect(service: httpx.Client, method: str, path: str) -> None:
    answer = service.request(method, path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]


def test_the_answer_to_a_question_before_a_request_has_them_too(service: httpx.Client) -> None:
    asked = {"Origin": FROGS, "Access-Control-Request-Method": "POST"}
    answer = service.options("/identify", headers=asked)
    assert (answer.status_code, answer.headers["referrer-policy"]) == (200, "no-referrer")


@pytest.mark.parametrize("host", ["engine.example", "ENGINE.example:8000", "[::1]", "[::1]:80"])
def test_the_service_answers_to_its_names(named: httpx.Client, host: str) -> None:
    assert named.get("/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["other.example", "engine.example.other", "", "127.0.0.1"])
def test_other_names_are_refused_in_the_format_of_the_route(named: httpx.Client, host: str) -> None:
    answer = named.get("/status", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert answer.headers["x-content-type-options"] == "nosniff"
    with_origin = named.get("/status", headers={"Host": host, "Origin": FROGS})
    assert with_origin.headers["access-control-allow-origin"] == FROGS
    token = "/v2/observation/identify/token/healthz"  # ends as a probe does
    assert named.post(token, headers={"Host": host}).status_code == 400
    assert named.get("/v2/languages", headers={"Host": host}).json()["statusCode"] == 400
    assert named.get("/healthz", headers={"Host": host}).status_code == 200


def test_an_upload_to_another_name_is_read_to_its_end_before_it_is_refused(named: httpx.Client) -> None:
    """Otherwise browsers show a network error. The body is larger than what sockets hold."""
    answer = named.post("/identify", headers={"Host": "other.example"}, files={"image": b"0" * 20_000_000})
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


@pytest.mark.parametrize(("origin", "allowed"), [(FROGS, FROGS), ("https://other.example", None)])
def test_answers_and_errors_can_be_read_by_pages_of_the_origins_that_are_set(
    named: httpx.Client, origin: str, allowed: str | None
) -> None:
    headers = {"Host": "engine.example", "Origin": origin}
    for answer in (
        named.get("/status", headers=headers),
        named.get("/nothing", headers=headers),
        named.post("/identify", headers=headers, files={"image": photo(COLOURS["11"])}),
        named.post("/identify", headers=headers, files={"image": b"none"}),
    ):
        assert answer.headers.get("access-control-allow-origin") == allowed
