"""serving.routes_pn: identification as Pl@ntNet's clients ask for it. Their requests stand in test_contract.py."""

import hashlib
import math
from dataclasses import replace
from typing import Any

import httpx
import pytest

from aitax_ray.errors import RequestError
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.routes_pn import choose_organs
from tests.engines import COLOURS, photo
from tests.serving.service import RED_URL, LocalBackend

RED, BLUE = photo(COLOURS["11"]), photo(COLOURS["33"])
IDENTIFY = "/v2/identify/all"


def post(service: httpx.Client, *bodies: bytes, path: str = IDENTIFY, **options: Any) -> Any:
    files = [("images", (f"{n}.png", body)) for n, body in enumerate(bodies or (RED,))]
    return service.post(path, files=files, **options)


def test_uploads_are_named_by_their_md5_and_photographs_on_the_web_by_their_address(service: httpx.Client) -> None:
    found = post(service, RED, BLUE, data={"organs": ["leaf", "bark"]}).json()
    assert found["query"]["images"] == [hashlib.md5(body).hexdigest() for body in (RED, BLUE)]
    assert [(each["filename"], each["organ"]) for each in found["predictedOrgans"]] == [
        ("0.png", "leaf"),
        ("1.png", "bark"),
    ]
    found = service.get(IDENTIFY, params={"images": RED_URL, "organs": "auto"}).json()
    assert (found["query"]["images"], found["predictedOrgans"][0]["filename"]) == ([RED_URL], RED_URL)
    assert found["bestMatch"] == "Ruber primus L."


def test_parameters_may_stand_in_the_form(service: httpx.Client) -> None:
    fields = {"nb-results": "1", "include-related-images": "TRUE", "lang": "fr", "type": "kt", "no-reject": "1"}
    for answer in (post(service, params=fields), post(service, data=fields)):
        found = answer.json()
        assert len(found["results"]) == 1
        assert len(found["results"][0]["images"]) == 4
        assert found["results"][0]["species"]["commonNames"] == ["le rouge"]
        assert (found["language"], found["query"]["type"], found["query"]["noReject"]) == ("fr", "kt", True)
        assert found["query"]["includeRelatedImages"] is True


def test_related_images_are_there_only_on_request_and_the_service_has_their_thumbnails(service: httpx.Client) -> None:
    assert "images" not in post(service).json()["results"][0]
    first, second, *_ = post(service, params={"include-related-images": "true"}).json()["results"][0]["images"]
    assert first["url"]["o"] == "https://photos.example/11/0.jpg"
    assert service.get(first["url"]["m"]).headers["content-type"] == "image/webp"
    assert (first["date"]["string"], second["date"]["string"]) == ("", "2023-05-02")
    assert second["citation"] == "author 1 / Colour Society, cc-by"


def test_a_rejected_photograph_is_not_found_unless_the_client_wants_it_all_the_same(
    service: httpx.Client, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = LocalBackend.identify

    async def reject(*given: Any) -> Identification:
        found = await known(*given)
        return replace(found, judgement=replace(found.judgement, is_known=False))

    monkeypatch.setattr(LocalBackend, "identify", reject)
    answer = post(service)
    assert answer.status_code == 404
    assert answer.text == '{"statusCode":404,"error":"Not Found","message":"Species not found"}'
    found = post(service, params={"no-reject": "true"}).json()
    assert found["results"][0]["species"]["scientificName"] == "Ruber primus L."
    assert found["assessment"]["isKnown"] is False


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"path": "/v2/identify/k-world-flora"}, 404, "Project not found"),
        ({"data": {"organs": ["leaf", "leaf"]}}, 400, "organs: give one per photograph, so 1 and not 2"),
        ({"params": {"organs": "wing"}}, 400, "organs: 'wing' is none of auto, leaf"),
        ({"params": {"nb-results": "0"}}, 400, "nb-results"),
        ({"data": {"nb-results": "many"}}, 400, "nb-results"),
        ({"params": {"no-reject": "perhaps"}}, 400, "no-reject"),
        ({"data": {"date": "tomorrow"}}, 400, "ISO 8601"),
        ({"params": {"lat": "1"}}, 400, "both lat and lon"),
    ],
)
def test_a_bad_request_gets_an_error_of_this_format(
    service: httpx.Client, options: dict[str, Any], status: int, message: str
) -> None:
    answer = post(service, **options)
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)
    assert answer.json().keys() == {"statusCode", "error", "message"}
    assert message in answer.json()["message"]
    assert '": ' not in answer.text


def test_what_is_no_photograph_gets_an_error_of_this_format(service: httpx.Client) -> None:
    for answer, status in (
        (post(service, b"hello"), 415),
        (service.post(IDENTIFY), 400),
        (service.get(IDENTIFY), 400),
        (service.get(IDENTIFY, params={"images": "https://photos.example/no.jpg"}), 400),
        (service.put(IDENTIFY), 405),
        (service.get("/v2/nothing"), 404),
    ):
        assert (answer.status_code, answer.json()["statusCode"]) == (status, status)


@pytest.mark.parametrize("name", ["image", "images"])
def test_embedding_is_a_flat_list_of_numbers(service: httpx.Client, name: str) -> None:
    found = service.post("/v2/embeddings?api-key=K", files={name: ("k1", RED, "image/jpeg")}).json()
    assert math.hypot(*found["embeddings"]) == pytest.approx(1)
    assert len(found["embeddings"]) == 3
    assert found["version"].startswith("2026-01-01 (")
    both = service.post("/v2/embeddings", files=[("image", RED), ("image", BLUE)])
    assert (both.status_code, both.json()["message"]) == (400, "send one photograph")


def test_organs_are_one_per_photograph_or_none_at_all() -> None:
    assert choose_organs([], 2) == ["auto", "auto"]
    assert choose_organs(["", " "], 1) == ["auto"]
    assert choose_organs(["Leaf", "flower"], 2) == choose_organs(["leaf, flower"], 2) == ["leaf", "flower"]
    for wrong in (["leaf"], ["leaf"] * 3):
        with pytest.raises(RequestError, match=f"so 2 and not {len(wrong)}"):
            choose_organs(wrong, 2)
