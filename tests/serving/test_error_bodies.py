"""serving.error_bodies: each route has the errors of its format."""

import pytest

from aitax_ray.serving.error_bodies import error_response


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/identify", b'{"status":"error","code":429,"message":"Wait."}'),
        ("/nothing", b'{"status":"error","code":429,"message":"Wait."}'),
        ("/v2/ai-taxonomist/anura/identify", b'{"status":"error","code":429,"message":"Wait."}'),
        ("/v2/identify/all", b'{"statusCode":429,"error":"Too Many Requests","message":"Wait."}'),
        ("/frogs/v2/ai-taxonomist/anura/identify", b'{"status":"error","code":429,"message":"Wait."}'),
        ("/frogs/v2/identify/all", b'{"statusCode":429,"error":"Too Many Requests","message":"Wait."}'),
        ("/v2/nothing", b'{"statusCode":429,"error":"Too Many Requests","message":"Wait."}'),
        ("/v2/observation/identify", b'{"statusCode":429,"error":"Too Many Requests","message":"Wait."}'),
    ],
)
def test_an_error_is_json_without_spaces_in_the_format_of_its_route(path: str, body: bytes) -> None:
    response = error_response(path, 429, "Wait.", {"Retry-After": "Sat, 28 Nov 2026 00:00:00 GMT"})
    assert (response.status_code, response.body) == (429, body)
    assert response.headers["retry-after"] == "Sat, 28 Nov 2026 00:00:00 GMT"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (404, "Not Found"),
        (501, "Not Implemented"),
        (503, "Service Unavailable"),
    ],
)
def test_the_error_of_pn_is_the_phrase_of_its_status(status: int, phrase: str) -> None:
    assert f'"error":"{phrase}"'.encode() in bytes(error_response("/v2/x", status, "").body)
