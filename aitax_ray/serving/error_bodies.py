"""The bodies of errors, in the format of the route: JSON without spaces, since some clients search in the text."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from aitax_ray.serving.c4c import C4cError
from aitax_ray.serving.pn_models import PnError

GATEWAY = "/v2/ai-taxonomist/"  # the routes below speak c4c


def error_response(path: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the answer for an error. `path` is the route that was asked, `message` is for people."""
    body: BaseModel
    if "/v2/" in path and GATEWAY not in path:  # what stands before is the prefix of the application
        body = PnError(status_code=status, error=HTTPStatus(status).phrase, message=message)
    else:
        body = C4cError(code=status, message=message)
    return JSONResponse(body.model_dump(by_alias=True), status, headers)
