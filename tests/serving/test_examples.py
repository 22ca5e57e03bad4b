"""serving.examples: the OpenAPI has an example of each answer, and the example is one."""

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from aitax_ray.serving import examples, http

ROUTES = [
    route
    for module in http.ROUTES
    for route in module.router.routes
    if isinstance(route, APIRoute) and route.include_in_schema and route.response_model is not None
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_the_example_of_a_route_has_the_form_of_its_answer(route: APIRoute) -> None:
    example = route.responses[200]["content"]["application/json"]["example"]
    adapter = TypeAdapter(route.response_model)
    assert adapter.dump_python(adapter.validate_python(example), mode="json", by_alias=True) == example


def test_examples_have_what_readers_look_for() -> None:
    assert examples.PN_ANSWER["results"][0]["images"][0]["url"]["m"].startswith(examples.SERVICE)
    assert examples.C4C_ANSWER["results"][0]["images"]
    assert examples.PN_ALIGNED["gbif"] == {"id": examples.TAXON.species_key}


def test_the_openapi_shows_them(service: httpx.Client) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    for route in ROUTES:
        operation = paths[route.path][min(route.methods or ()).lower()]
        assert "example" in operation["responses"]["200"]["content"]["application/json"]
