"""The routes of the format `pn` about the engine: its flora, its species, its languages."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from aitax_ray.errors import RequestError
from aitax_ray.serving.backend import Backend, BackendOf, Project
from aitax_ray.serving.examples import PN_ALIGNED, PN_PROJECTS, PN_SPECIES
from aitax_ray.serving.languages import choose_language, list_languages
from aitax_ray.serving.openapi import answers
from aitax_ray.serving.parameters import Parameters
from aitax_ray.serving.pn import NOT_FOUND
from aitax_ray.serving.pn_models import PnModel
from aitax_ray.serving.pn_taxa import PnAligned, PnProject, PnSpeciesRow, align, to_project, to_species
from aitax_ray.serving.routes_pn import ERRORS

# Functions that look at all species are no coroutines: FastAPI runs them in threads, while others are answered.
router = APIRouter(tags=["pn"], responses=ERRORS)


class PnSpeciesParameters(PnModel):
    """Parameters of the lists of species."""

    lang: Annotated[str, Field(description="Language of common names: ISO 639-1, such as fr.")] = "en"
    page: Annotated[int | None, Field(ge=1, description="Number of the page, from 1; only with pageSize.")] = None
    page_size: Annotated[int | None, Field(ge=1, description="Species per page; only with page.")] = None
    prefix: Annotated[str, Field(max_length=200, description="First letters of a scientific or common name.")] = ""
    type: Annotated[str, Field(description="It has no effect.")] = ""

    @property
    def rows(self) -> slice:
        """The rows of the page; all of them unless both parameters of pages are given."""
        if self.page is None or self.page_size is None:
            return slice(None)
        return slice((self.page - 1) * self.page_size, self.page * self.page_size)


@router.get("/v2/projects", responses=answers(PN_PROJECTS))
async def projects(backend: BackendOf, parameters: Annotated[Parameters, Query()]) -> list[PnProject]:
    """List the floras: the engine is one, wherever lat and lon lie."""
    return [to_project(backend.info, backend.project)]


@router.get("/v2/species", responses=answers(PN_SPECIES))
def species(backend: BackendOf, parameters: Annotated[PnSpeciesParameters, Query()]) -> list[PnSpeciesRow]:
    """List the species that the engine knows, by name."""
    return _rows(backend, parameters)


@router.get("/v2/projects/{project}/species", responses=answers(PN_SPECIES))
def species_of_project(
    backend: BackendOf, project: Project, parameters: Annotated[PnSpeciesParameters, Query()]
) -> list[PnSpeciesRow]:
    """List the species of a flora, by name."""
    return _rows(backend, parameters)


@router.get("/v2/projects/{project}/species/align", responses=answers(PN_ALIGNED))
def species_align(
    backend: BackendOf,
    project: Project,
    name: Annotated[str, Query(min_length=1, max_length=200, description="A scientific name.")],
    authorship: Annotated[bool, Query(description="Names in the answer have their author.")] = True,
    synonyms: Annotated[bool, Query(description="It has no effect: the engine knows accepted names only.")] = True,
    fuzzy: Annotated[bool, Query(description="Accept a name that differs by a letter or two.")] = False,
) -> PnAligned:
    """Find the species of a flora that a name means."""
    found = align(backend.taxa, backend.info, project, name, authorship, fuzzy)
    if found is None:
        raise RequestError(NOT_FOUND, 404)
    return found


@router.get("/v2/languages", responses=answers(["en", "fr"]))
def languages(backend: BackendOf) -> list[str]:
    """List the languages of common names that the engine has (ISO 639-1), and English, the default."""
    return list_languages(backend.taxa)


def _rows(backend: Backend, parameters: PnSpeciesParameters) -> list[PnSpeciesRow]:
    language = choose_language(parameters.lang)
    return to_species(backend.taxa, backend.info, language, parameters.prefix, parameters.rows)
