"""serving.openapi: bodies that the routes read by themselves, and the list of routes."""

import httpx
from fastapi import FastAPI

from aitax_ray.serving.openapi import answers, as_text, list_routes, photographs_by_url, uploads


def make_app() -> FastAPI:
    app = FastAPI()

    @app.post("/identify", openapi_extra=uploads("image", organs="The organ."), responses=answers({"a": 1}))
    async def identify(lang: str = "en") -> dict[str, int]:
        """Identify."""
        return {}

    @app.get("/identify", openapi_extra=photographs_by_url("image"))
    async def identify_urls() -> None:
        pass

    return app


def test_forms_and_addresses_are_described() -> None:
    operation = make_app().openapi()["paths"]["/identify"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["image"]
    assert (form["properties"]["image"]["minItems"], form["properties"]["image"]["maxItems"]) == (1, 5)
    assert form["properties"]["organs"] == {"type": "string", "description": "The organ."}
    assert operation["responses"]["200"]["content"]["application/json"]["example"] == {"a": 1}


def test_people_can_give_their_key_in_the_docs(service: httpx.Client) -> None:
    found = service.get("/openapi.json").json()
    assert found["components"]["securitySchemes"]["api-key"] | {"description": ""} == {
        "type": "apiKey", "in": "query", "name": "api-key", "description": "",
    }  # fmt: skip
    assert found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    ways = [{"api-key": []}, {"bearer": []}, {}]  # the last: a service without keys
    for path in ("/identify", "/v2/identify/{project}", "/v2/observation/identify", "/v2/embeddings"):
        assert found["paths"][path]["post"]["security"] == ways
    assert "security" not in found["paths"]["/status"]["get"]


def test_routes_are_listed_with_the_parameters_of_address_and_form() -> None:
    routes = {route.method: route for route in list_routes(make_app())}
    assert routes["POST"].parameters.keys() == {"lang", "image", "organs"}
    assert routes["GET"].parameters.keys() == {"image"}
    assert (routes["POST"].description, routes["GET"].description) == ("Identify.", "Identify Urls")
    text = as_text(list(routes.values()))
    assert "POST /identify\n    Identify.\n" in text
    assert "    organs: The organ.\n" in text
