"""The wire format `c4c` of the ai-taxonomist web component. Its spellings are used in this module only.

Beware: `gbif_id` in its answers is the species key (the component links to gbif.org/species/<id>), and so is
`species_id` in its list of taxa.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.gallery import Illustration
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.judgement import Judgement
from aitax_ray.web import web_address

REJECTED = "No species that this engine knows was recognised."


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class _CamelWire(_Wire):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class C4cImage(_CamelWire):
    """A similar photograph. No field is null: the component would print the word "null"."""

    url: str
    """The original; where the web has none, the thumbnail."""
    license: str
    rights_holder: str
    """The photographer, where the archive names no holder of the rights."""
    publisher: str
    # The component does not read the following fields. "" where there is none.
    creator: str = ""
    thumbnail: str = ""
    """A small copy, which the service has."""
    occurrence: str = ""
    """Page of the record at GBIF."""
    similarity: float = 0.0
    """Cosine with the most similar photograph of the request."""


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


class C4cAssessment(_CamelWire):
    """How far the answer can be believed. It is ours: older clients ignore it."""

    is_known: bool
    """False: probably no species that the engine knows."""
    rank: str
    """The lowest rank that is certain enough: species, genus, family, or "" for none."""
    name: str
    score: float
    is_accepted: bool
    """The best species may be accepted without a look at the photograph."""
    precision: float
    """Share of accepted answers that should be right."""
    candidates: list[str]
    """Keys of the species among which the right one is, with the probability `promise`."""
    promise: float
    lookalikes: list[str]
    """Names of the species that the engine cannot separate from the best one."""
    similarity: float
    """Cosine with the most similar photograph that the engine knows, of any species."""


class C4cAnswer(_Wire):
    """The answer of /identify: the results with the highest score come first."""

    status: str = "ok"
    results: list[C4cResult]
    message: str = ""
    """Why there are no results."""
    assessment: C4cAssessment
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


def to_answer(
    identification: Identification, with_info: bool = True, base_url: str = "", no_reject: bool = False
) -> C4cAnswer:
    """Convert an identification to the wire format; without info it has only names, scores and keys.

    An answer that is rejected has no results, unless `no_reject`.

    `base_url` is the address of the service, with a slash at its end: it has the thumbnails. Photographs that have no
    address, since there is no service and no original on the web (--photos), are left out.
    """
    results = []
    is_rejected = not identification.judgement.is_known and not no_reject
    for candidate in () if is_rejected else identification.candidates:
        taxon = candidate.taxon
        shown = [_to_image(image, base_url) for image in (candidate.illustrations if with_info else ())]
        images = [image for image in shown if image.url]
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
    return C4cAnswer(
        results=results,
        message=REJECTED if is_rejected else "",
        assessment=_to_assessment(identification.judgement),
        engine=identification.engine_version,
    )


def _to_assessment(judgement: Judgement) -> C4cAssessment:
    return C4cAssessment(
        is_known=judgement.is_known,
        rank=judgement.rank,
        name=judgement.name,
        score=round(judgement.score, 5),
        is_accepted=judgement.is_accepted,
        precision=judgement.precision,
        candidates=list(judgement.candidates),
        promise=judgement.promise,
        lookalikes=list(judgement.lookalikes),
        similarity=round(judgement.similarity, 4),
    )


def _to_image(image: Illustration, base_url: str) -> C4cImage:
    thumbnail = f"{base_url}images/{image.image_id}" if base_url and image.has_thumbnail else ""
    return C4cImage(
        url=web_address(image.url) or thumbnail,
        license=image.license,
        rights_holder=image.rights_holder or image.creator,
        publisher=image.publisher,
        creator=image.creator,
        thumbnail=thumbnail,
        occurrence=image.occurrence,
        similarity=image.similarity,
    )


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
