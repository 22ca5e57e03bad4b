"""The routes of the format `pn` that take photographs: identification and embeddings."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from aitax_ray.errors import RequestError
from aitax_ray.serving.admission import EMBEDS, IDENTIFIES
from aitax_ray.serving.backend import Backend, BackendOf, Project, base_url, num_remaining
from aitax_ray.serving.examples import PN_ANSWER, PN_EMBEDDING
from aitax_ray.serving.languages import choose_language
from aitax_ray.serving.openapi import answers, photographs_by_url, uploads
from aitax_ray.serving.parameters import Parameters
from aitax_ray.serving.photographs import Sent, fetch_photographs, keep, read_uploads
from aitax_ray.serving.pn import AUTO, NOT_FOUND, ORGANS, PnRequest, to_answer, version_of
from aitax_ray.serving.pn_models import PnAnswer, PnError, PnModel

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": PnError}, "5XX": {"model": PnError}}
router = APIRouter(tags=["pn"], responses=ERRORS)
LISTS = frozenset({"organs"})
ORGANS_FIELD = f"An organ per photograph, or none at all: {', '.join(ORGANS)}. The engine makes no use of them."


class PnParameters(Parameters):
    """Parameters of /v2/identify."""

    organs: Annotated[list[str], Field(default_factory=list, description=ORGANS_FIELD)]
    include_related_images: Annotated[bool, Field(description="Add similar photographs.")] = False
    nb_results: Annotated[int, Field(ge=1, description="Largest number of species in the answer.")] = 10
    type: Annotated[str, Field(description="The answer repeats it; the engine has no types.")] = ""


class PnEmbedding(PnModel):
    """The answer of /v2/embeddings."""

    embeddings: list[float]
    """Of unit length."""
    version: str


@router.post(
    "/v2/identify/{project}",
    dependencies=[IDENTIFIES],
    responses=answers(PN_ANSWER),
    openapi_extra=uploads("images", organs=ORGANS_FIELD),
)
async def identify(
    request: Request, backend: BackendOf, project: Project, parameters: Annotated[PnParameters, Query()]
) -> PnAnswer:
    """Identify uploaded photographs of one individual (multipart/form-data)."""
    sent, form = await read_uploads(request, backend)
    return await _answer(request, backend, project, sent, parameters.with_fields(form.fields, LISTS))


@router.get(
    "/v2/identify/{project}",
    dependencies=[IDENTIFIES],
    responses=answers(PN_ANSWER),
    openapi_extra=photographs_by_url("images"),
)
async def identify_urls(
    request: Request, backend: BackendOf, project: Project, parameters: Annotated[PnParameters, Query()]
) -> PnAnswer:
    """Identify photographs of one individual by their URLs."""
    return await _answer(request, backend, project, await fetch_photographs(request, backend), parameters)


@router.post(
    "/v2/embeddings",
    dependencies=[EMBEDS],
    responses=answers(PN_EMBEDDING),
    openapi_extra=uploads("image", 1),
)
async def embeddings(request: Request, backend: BackendOf) -> PnEmbedding:
    """Compute the embedding of an uploaded photograph (multipart/form-data)."""
    sent, _ = await read_uploads(request, backend)
    if len(sent.photos) > 1:
        raise RequestError("send one photograph")
    return PnEmbedding(embeddings=await backend.embed(sent.photos[0]), version=version_of(backend.info))


async def _answer(request: Request, backend: Backend, project: str, sent: Sent, parameters: PnParameters) -> PnAnswer:
    organs = choose_organs(parameters.organs, len(sent.photos))
    found = await backend.identify(sent.photos, parameters.nb_results, parameters.include_related_images)
    if not found.judgement.is_known and not parameters.no_reject:
        raise RequestError(NOT_FOUND, 404)
    asked = PnRequest(
        project=project,
        images=sent.names,
        filenames=sent.filenames,
        organs=organs,
        language=choose_language(parameters.lang),
        include_related_images=parameters.include_related_images,
        no_reject=parameters.no_reject,
        detailed=parameters.detailed,
        type=parameters.type,
        observation=parameters.observation,
        base_url=base_url(request),
    )
    kept = keep(backend, sent, found, parameters.observation)
    return to_answer(found, asked, backend.info, num_remaining(request)).model_copy(update={"kept": kept})


def choose_organs(given: Sequence[str], num_photographs: int) -> list[str]:
    """Choose the organ of each photograph; `auto` if the request names none. Raises RequestError.

    One value may hold several organs with commas between them.
    """
    organs = [organ.strip().lower() for value in given for organ in value.split(",") if organ.strip()]
    if unknown := [organ for organ in organs if organ not in ORGANS]:
        raise RequestError(f"organs: {unknown[0][:50]!r} is none of {', '.join(ORGANS)}")
    if organs and len(organs) != num_photographs:
        raise RequestError(f"organs: give one per photograph, so {num_photographs} and not {len(organs)}, or none")
    return organs or [AUTO] * num_photographs
