"""The route by which clients delete the photographs that they have sent, where the service keeps them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from aitax_ray.errors import RequestError
from aitax_ray.serving.backend import Backend, BackendOf
from aitax_ray.serving.routes_c4c import ERRORS

router = APIRouter(tags=["service"], responses=ERRORS)

TOKEN = "The token that the answer has beside the id."


@router.delete("/queries/{id}", status_code=204, response_class=Response)
async def delete(
    backend: BackendOf,
    query_id: Annotated[str, Path(alias="id", description="As the field `kept` of an answer has it.")],
    token: Annotated[str, Query(description=TOKEN)] = "",
    header: Annotated[str, Header(alias="X-Delete-Token", description=TOKEN)] = "",
) -> None:
    """Delete the photographs of a request, and what is kept of its answer."""
    await delete_query(backend, query_id, header or token)


async def delete_query(backend: Backend, query_id: str, token: str) -> None:
    """Delete a query. Raises RequestError when that is not possible."""
    if backend.queries is None:
        raise RequestError("this service keeps no photographs", 404)
    await asyncio.to_thread(backend.queries.delete, query_id, token)
