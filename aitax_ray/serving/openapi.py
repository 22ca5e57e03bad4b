"""What the OpenAPI says of bodies that the routes read by themselves, and the list of routes that /help makes of it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from aitax_ray.serving.identifier import MAX_IMAGES

OPEN = {"security": [dict[str, list[str]]()]}  # beside those that send a key: a service without keys asks for none
PHOTOGRAPHS = f"1 to {MAX_IMAGES} photographs of one individual"


class HelpRoute(BaseModel):
    """A row of /help."""

    model_config = ConfigDict(frozen=True)

    method: str
    path: str
    parameters: dict[str, str]
    description: str


class Help(BaseModel):
    """The answer of /help."""

    routes: list[HelpRoute]


def answers(example: Any) -> dict[int | str, dict[str, Any]]:
    """Describe the answer of a route by an example of it."""
    return {200: {"content": {"application/json": {"example": example}}}}


def uploads(name: str, num: int = MAX_IMAGES, /, **fields: str) -> dict[str, Any]:
    """Describe a form with photographs, and with text fields: name to description."""
    photographs = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": num}
    texts = {field: {"type": "string", "description": text} for field, text in fields.items()}
    title = PHOTOGRAPHS if num > 1 else "A photograph"
    schema = {
        "type": "object",
        "required": [name],
        "properties": {name: {**photographs, "description": title}, **texts},
    }
    return {**OPEN, "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def photographs_by_url(name: str) -> dict[str, Any]:
    """Describe the parameter of an address that names photographs."""
    urls = {"type": "array", "items": {"type": "string", "format": "uri"}, "minItems": 1, "maxItems": MAX_IMAGES}
    return {
        **OPEN,
        "parameters": [
            {"name": name, "in": "query", "required": True, "description": f"URLs of {PHOTOGRAPHS}", "schema": urls}
        ],
    }


def list_routes(app: FastAPI) -> list[HelpRoute]:
    """List the routes of an application with their parameters, from its OpenAPI."""
    found = []
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            parameters = {each["name"]: each.get("description", "") for each in operation.get("parameters", ())}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                properties = content["schema"].get("properties", {})
                parameters |= {name: each.get("description", "") for name, each in properties.items()}
            description = operation.get("description", operation["summary"])
            found.append(HelpRoute(method=method.upper(), path=path, parameters=parameters, description=description))
    return found


def as_text(routes: list[HelpRoute]) -> str:
    """Write a list of routes for people."""
    lines = []
    for route in routes:
        lines += [f"{route.method} {route.path}", f"    {route.description}"]
        lines += [f"    {name}: {text}" for name, text in route.parameters.items()]
        lines.append("")
    return "\n".join(lines)
