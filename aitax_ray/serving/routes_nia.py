"""The routes of the format `nia`: identification, and a description of the engine."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from aitax_ray.errors import RequestError
from aitax_ray.serving.admission import IDENTIFIES
from aitax_ray.serving.backend import Backend, BackendOf
from aitax_ray.serving.examples import NIA_ANSWER, NIA_DOCUMENTATION
from aitax_ray.serving.nia import NiaAnswer, NiaDocumentation, NiaMedium, to_answer, to_documentation
from aitax_ray.serving.openapi import answers, uploads
from aitax_ray.serving.parameters import Parameters
from aitax_ray.serving.photographs import keep, read_uploads
from aitax_ray.serving.routes_pn import ERRORS

router = APIRouter(tags=["nia"], responses=ERRORS)
PLACE = "location_coordinates"
SECRETS = ("api-key", "username", "password")  # fields of the form that the answer does not repeat
FORM = uploads(
    "image",
    **{PLACE: "Latitude and longitude of the individual in degrees, with a comma between them."},
    autozoom_enabled="It has no effect.",
    taxon_namespace="It has no effect: keys are those of the engine.",
)


class NiaParameters(Parameters):
    """Parameters of /v2/observation/identify, beside those of its form."""

    nb_results: Annotated[int | None, Field(ge=1, description="Largest number of species in the answer.")] = None


@router.post(
    "/v2/observation/identify",
    dependencies=[IDENTIFIES],
    responses=answers(NIA_ANSWER),
    openapi_extra=FORM,
)
async def identify(request: Request, backend: BackendOf, parameters: Annotated[NiaParameters, Query()]) -> NiaAnswer:
    """Identify uploaded photographs of one individual (multipart/form-data)."""
    return await _answer(request, backend, parameters)


@router.post(
    "/v2/observation/identify/token/{token}",
    dependencies=[IDENTIFIES],
    responses=answers(NIA_ANSWER),
    openapi_extra=FORM,
)
async def identify_with_token(
    request: Request, backend: BackendOf, token: str, parameters: Annotated[NiaParameters, Query()]
) -> NiaAnswer:
    """Do the same. The token, which chooses a region at Naturalis, has no effect."""
    return await _answer(request, backend, parameters)


@router.get("/v2/observation/documentation", responses=answers(NIA_DOCUMENTATION))
async def documentation(backend: BackendOf) -> NiaDocumentation:
    """Describe the engine."""
    return to_documentation(backend.info)


async def _answer(request: Request, backend: Backend, parameters: NiaParameters) -> NiaAnswer:
    sent, form = await read_uploads(request, backend)
    given = {name: values[-1] for name, values in form.fields.items() if name not in SECRETS}
    parameters = parameters.with_fields(form.fields | _read_place(given))
    found = await backend.identify(sent.photos, parameters.nb_results, False)
    media = [NiaMedium(filename=name, id=key) for name, key in zip(sent.filenames, sent.names, strict=True)]
    now, observation, no_reject = datetime.now(UTC), parameters.observation, parameters.no_reject
    kept = keep(backend, sent, found, observation)
    answer = to_answer(found, backend.info, media, now, given, observation, no_reject)
    return answer.model_copy(update={"kept": kept})


def _read_place(given: Mapping[str, str]) -> dict[str, Sequence[str]]:
    if not given.get(PLACE):
        return {}
    parts = given[PLACE].split(",")
    if len(parts) != 2:
        raise RequestError(f"{PLACE}: give latitude and longitude with a comma between them")
    return {"lat": [parts[0].strip()], "lon": [parts[1].strip()]}
