"""The wire format `c4c` of the ai-taxonomist web component. Its spellings are used in this module only.

Beware: `gbif_id` in its answers is the species key (the component links to gbif.org/species/<id>), and so is
`species_id` in its list of taxa.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.identifier import Identification
from aitax_ray.web import web_address


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class _CamelWire(_Wire):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class C4cImage(_CamelWire):
    """A similar photograph. No field is null: the component would print the word "null"."""

    url: str
    license: str
    rights_holder: str
    publisher: str


class C4cResult(_Wire):
    """A candidate."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    score: float
    gbif_id: str
    authorship: str
    vernacularName: str  # noqa: N815  the component's spelling
    genus: str
    family: str
    images: list[C4cImage]


class C4cAnswer(_Wire):
    """The answer of /identify: the results with the highest score come first."""

    status: str = "ok"
    results: list[C4cResult]
    engine: str


class C4cTaxon(_Wire):
    """A row of /taxa."""

    name: str
    species_id: str
    rank: str
    authorship: str
    vernacularName: str  # noqa: N815  the component's spelling
    species: str
    genus: str
    family: str


class C4cStatus(_Wire):
    """The answer of /status; the component reads only `gbif_doi`."""

    status: str = "ok"
    gbif_doi: str
    queries: int
    engine: str
    arch: str
    species: int


class C4cError(_Wire):
    """The body of every error."""

    status: str = "error"
    code: int
    message: str


class C4cRoute(_Wire):
    """A row of /help."""

    method: str
    path: str
    parameters: dict[str, str]
    description: str


def to_answer(identification: Identification, with_info: bool = True) -> C4cAnswer:
    """Convert an identification to the wire format; without info it has only names, scores and keys."""
    results = []
    for candidate in identification.candidates:
        taxon = candidate.taxon
        images = [
            C4cImage(
                url=web_address(image.url),
                license=image.license,
                # The photographer, where the archive names no holder of the rights.
                rights_holder=image.rights_holder or image.creator,
                publisher=image.publisher,
            )
            for image in (candidate.illustrations if with_info else ())
            # A photograph without an address on the web (--photos) cannot be shown.
            if web_address(image.url)
        ]
        results.append(
            C4cResult(
                name=taxon.name,
                score=round(candidate.score, 5),
                gbif_id=taxon.species_key,
                authorship=taxon.authorship if with_info else "",
                vernacularName=taxon.vernacular_name if with_info else "",
                genus=taxon.genus if with_info else "",
                family=taxon.family if with_info else "",
                images=images,
            )
        )
    return C4cAnswer(results=results, engine=identification.engine_version)


def to_taxa(taxa: Iterable[Taxon]) -> list[C4cTaxon]:
    """Convert the list of species to the wire format."""
    return [
        C4cTaxon(
            name=taxon.name,
            species_id=taxon.species_key,
            rank=taxon.rank,
            authorship=taxon.authorship,
            vernacularName=taxon.vernacular_name,
            species=taxon.name,
            genus=taxon.genus,
            family=taxon.family,
        )
        for taxon in taxa
    ]
