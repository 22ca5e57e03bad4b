"""The routes of the format `c4c`: identification, the engine, its species."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from aitax_ray.serving.admission import IDENTIFIES
from aitax_ray.serving.backend import Backend, BackendOf, Project, base_url, check_project
from aitax_ray.serving.c4c import C4cAnswer, C4cError, C4cStatus, C4cTaxon, to_answer, to_status, to_taxa
from aitax_ray.serving.examples import C4C_ANSWER, C4C_STATUS, C4C_TAXA
from aitax_ray.serving.languages import choose_language
from aitax_ray.serving.openapi import answers, photographs_by_url, uploads
from aitax_ray.serving.parameters import Parameters
from aitax_ray.serving.photographs import Sent, fetch_photographs, keep, read_uploads
from aitax_ray.serving.pn_models import PnError

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": C4cError}, "5XX": {"model": C4cError}}
OF_PROJECT = [Depends(check_project)]
PN_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": PnError}, "5XX": {"model": PnError}}
router = APIRouter(tags=["c4c"], responses=ERRORS)


class C4cParameters(Parameters):
    """Parameters of /identify."""

    nb_results: Annotated[int | None, Field(ge=1, description="Largest number of species in the answer.")] = None
    info: Annotated[bool, Field(description="With taxonomy and similar photographs.")] = True


@router.post(
    "/identify",
    dependencies=[IDENTIFIES],
    responses=answers(C4C_ANSWER),
    openapi_extra=uploads("image", info="The same as in the address."),
)
async def identify(request: Request, backend: BackendOf, parameters: Annotated[C4cParameters, Query()]) -> C4cAnswer:
    """Identify uploaded photographs of one individual (multipart/form-data)."""
    sent, form = await read_uploads(request, backend)
    return await answer(request, backend, sent, parameters, parameters.with_fields(form.fields))


@router.get(
    "/identify",
    dependencies=[IDENTIFIES],
    responses=answers(C4C_ANSWER),
    openapi_extra=photographs_by_url("image"),
)
async def identify_urls(
    request: Request, backend: BackendOf, parameters: Annotated[C4cParameters, Query()]
) -> C4cAnswer:
    """Identify photographs of one individual by their URLs."""
    return await answer(request, backend, await fetch_photographs(request, backend), parameters, parameters)


@router.post(
    "/v2/ai-taxonomist/{project}/identify",
    dependencies=[IDENTIFIES],
    responses=answers(C4C_ANSWER),
    openapi_extra=uploads("image"),
)
async def identify_by_gateway(
    request: Request, backend: BackendOf, project: Project, parameters: Annotated[C4cParameters, Query()]
) -> C4cAnswer:
    """Do the same as POST /identify, at the address that Pl@ntNet's gateway has."""
    return await identify(request, backend, parameters)


@router.get(
    "/v2/ai-taxonomist/{project}/identify",
    dependencies=[IDENTIFIES],
    responses=answers(C4C_ANSWER),
    openapi_extra=photographs_by_url("image"),
)
async def identify_urls_by_gateway(
    request: Request, backend: BackendOf, project: Project, parameters: Annotated[C4cParameters, Query()]
) -> C4cAnswer:
    """Do the same as GET /identify, at the address that Pl@ntNet's gateway has."""
    return await identify_urls(request, backend, parameters)


@router.get("/status", responses=answers(C4C_STATUS))
@router.get("/v2/ai-taxonomist/{project}/status", dependencies=OF_PROJECT, responses=answers(C4C_STATUS))
async def status(backend: BackendOf) -> C4cStatus:
    """Describe the engine, and count the queries that this copy of the service has answered."""
    keeps = backend.queries is not None
    return to_status(backend.info, backend.num_queries, keeps_photographs=keeps, refused=backend.refused)


@router.get("/taxa", responses=answers(C4C_TAXA))
@router.get("/v2/ai-taxonomist/{project}/taxa", dependencies=OF_PROJECT, responses=answers(C4C_TAXA))
# The component asks for it if its `apiUrl` is that of Pl@ntNet's format, and a page has set its `doiUrl`.
@router.get("/v2/identify/{project}/taxa", dependencies=OF_PROJECT, responses=answers(C4C_TAXA) | PN_ERRORS)
def taxa(
    backend: BackendOf, lang: Annotated[str, Query(description="Language of common names.")] = "en"
) -> list[C4cTaxon]:
    """List the species that the engine knows."""
    return to_taxa(backend.taxa, choose_language(lang))


async def answer(
    request: Request, backend: Backend, sent: Sent, address: C4cParameters, parameters: C4cParameters
) -> C4cAnswer:
    """Identify photographs. The component sends `info` in each form, so an address that says no counts too."""
    has_info = address.info and parameters.info
    identification = await backend.identify(sent.photos, parameters.nb_results, has_info)
    kept = keep(backend, sent, identification, parameters.observation)
    converted = to_answer(
        identification,
        has_info,
        base_url(request),
        parameters.no_reject,
        language=choose_language(parameters.lang),
        detailed=parameters.detailed,
        observation=parameters.observation,
    )
    return converted.model_copy(update={"kept": kept})
