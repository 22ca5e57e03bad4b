"""Every request of the programs for the Pl@ntNet API gets an answer that the strictest of them reads."""

from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from tests.engines import COLOURS, photo
from tests.serving import contract
from tests.serving.contract import IDENTIFY, NOT_OFFERED, OTHERS, Shape
from tests.serving.service import RED_URL

RED = photo(COLOURS["11"], form="JPEG")


def values(node: Any) -> list[Any]:
    """All values of a document that are no list and no object."""
    if isinstance(node, dict):
        return [value for child in node.values() for value in values(child)]
    return [value for child in node for value in values(child)] if isinstance(node, list) else [node]


@pytest.mark.parametrize("shape", IDENTIFY, ids=lambda shape: shape.program)
def test_an_identification_is_read_by_a_strict_client(service: httpx.Client, shape: Shape) -> None:
    response = shape.send(service, RED, RED_URL)
    assert response.status_code == 200, response.text
    has_images = any(f"include-related-images={word}" in shape.query for word in ("true", "1"))
    model = contract.IllustratedAnswer if has_images else contract.Answer
    model = contract.DetailedAnswer if "detailed" in shape.query else model
    answer = model.model_validate_json(response.content)
    assert None not in values(response.json())
    num = sum(content == contract.PHOTO for *_, content in shape.parts) or shape.query.count("{url}")
    assert len(answer.query.images) == len(answer.query.organs) == len(answer.predicted_organs) == num
    given = [content for name, _, _, content in shape.parts if name == "organs"]
    assert answer.query.organs == (given or ["auto"] * num)
    filenames = [filename or "" for _, filename, _, content in shape.parts if content == contract.PHOTO]
    assert [each.filename for each in answer.predicted_organs] == (filenames or [RED_URL] * num)
    assert answer.best_match == answer.results[0].species.scientific_name == "Ruber primus L."
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert answer.language == ("fr" if "lang=fr" in shape.query else "de" if "lang=de" in shape.query else "en")
    assert answer.query.no_reject is ("no-reject=true" in shape.query)
    assert answer.query.include_related_images is has_images


@pytest.mark.parametrize("shape", OTHERS, ids=lambda shape: f"{shape.program} {shape.path}")
def test_other_answers_are_read_by_a_strict_client(service: httpx.Client, shape: Shape) -> None:
    response = shape.send(service, RED, RED_URL)
    assert response.status_code == 200, response.text
    assert TypeAdapter(contract.MODELS[shape.path.rpartition("/")[2]]).validate_json(response.content, strict=True)
    assert None not in values(response.json())


@pytest.mark.parametrize("shape", NOT_OFFERED, ids=lambda shape: f"{shape.program} {shape.path}")
def test_what_is_not_offered_is_an_error_that_clients_read(service: httpx.Client, shape: Shape) -> None:
    response = shape.send(service, RED, RED_URL)
    assert response.status_code == contract.Error.model_validate_json(response.content).status_code == 501


def test_errors_are_found_by_the_pattern_that_a_client_searches_with(service: httpx.Client) -> None:
    response = Shape("pollinator", "POST", "/v2/identify/nowhere", parts=(contract.image(),)).send(service, RED, "")
    assert contract.Error.model_validate_json(response.content).error == "Not Found"
    assert '"message":"Project not found' in response.text


@pytest.mark.parametrize("query", ["lang=fr", "lang=xx&api-key=K", "lang=en&no-reject=true&detailed=true", ""])
def test_c4c_is_read_by_a_strict_client(service: httpx.Client, query: str) -> None:
    parts = (contract.text("info", "true"), contract.image(name="image"), contract.image("b.jpg", name="image"))
    response = Shape("web component", "POST", "//identify", query, parts).send(service, RED, "")
    answer = contract.C4cAnswer.model_validate_json(response.content)
    assert answer.results[0].name == "Ruber primus"
    assert len(answer.results[0].images) == 4
    assert None not in values(response.json())


@pytest.mark.parametrize("path", ["/identify", "/v2/ai-taxonomist/all/identify", "/nothing"])
def test_errors_of_c4c_are_read_by_a_strict_client(service: httpx.Client, path: str) -> None:
    response = Shape("web component", "POST", path, parts=(contract.text("info", "true"),)).send(service, RED, "")
    assert contract.C4cError.model_validate_json(response.content).code == response.status_code
