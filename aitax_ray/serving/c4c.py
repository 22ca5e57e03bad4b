"""The wire format `c4c` of the ai-taxonomist web component. Its spellings are used in this module only.

Beware: `gbif_id` in its answers is the species key (the component links to gbif.org/species/<id>), and so is
`species_id` in its list of taxa.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from aitax_ray.engine.bundle import Taxon
from aitax_ray.engine.info import EngineInfo
from aitax_ray.serving.assessment import Assessment, Kept, Observation, left_out_if_none, to_assessment
from aitax_ray.serving.findings import Illustration
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.judgement import GroupScore
from aitax_ray.serving.languages import ENGLISH, common_names
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
    is_added: bool = False
    """Whether the engine knows the species without training. The component does not read this."""


class C4cGroup(_Wire):
    """A genus or family, with the sum of the scores of its species."""

    name: str
    score: float


class C4cAnswer(_Wire):
    """The answer of /identify: the results with the highest score come first."""

    status: str = "ok"
    results: list[C4cResult]
    message: str = ""
    """Why there are no results."""
    # Ours: older clients ignore them.
    assessment: Assessment
    genera: list[C4cGroup] = []
    """Best first; only for requests with `detailed`."""
    families: list[C4cGroup] = []
    engine: str
    observation: Observation | None = left_out_if_none()
    """Where and when the individual was seen, if the request says it."""
    kept: Kept | None = left_out_if_none()
    """How to delete the photographs, if the service keeps them."""


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


class C4cCalibration(_CamelWire):
    """How scores become answers."""

    fusion: str
    """How several photographs are joined."""
    temperatures: list[float]
    """For one photograph, two, and so on."""
    neighbor_share: float
    """Share of the most similar photographs in a score."""
    rejection: str
    """The figure by which an answer is rejected."""
    precision: float
    """Share of accepted answers that should be right."""
    promise: float
    """Probability that the right species is among the candidates of an assessment."""


class C4cRefused(_Wire):
    """An engine that cannot be used."""

    engine: str
    """Its version, "" if it cannot be read which one is current."""
    reason: str


class C4cStatus(_Wire):
    """The answer of /status; the component reads only `gbif_doi`."""

    status: str = "ok"
    gbif_doi: str
    queries: int
    # Ours.
    engine: str
    arch: str
    species: int
    metrics: dict[str, float]
    """Figures of the classifier on test photographs."""
    calibration: C4cCalibration
    keeps_photographs: bool = False
    """Whether photographs of requests are kept."""
    refused: C4cRefused | None = left_out_if_none()
    """The current engine, if the service cannot use it and answers from another one."""


class C4cError(_Wire):
    """The body of every error."""

    status: str = "error"
    code: int
    message: str


def to_answer(
    identification: Identification,
    with_info: bool = True,
    base_url: str = "",
    no_reject: bool = False,
    *,
    language: str = ENGLISH,
    detailed: bool = False,
    observation: Observation | None = None,
) -> C4cAnswer:
    """Convert an identification to the wire format; without info it has only names, scores and keys.

    An answer that is rejected has no results, unless `no_reject`. Common names are in `language` (ISO 639-1) where the
    engine has them. With `detailed` the answer has the sums of the scores by genus and by family.

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
                vernacularName=_common_name(taxon, language) if with_info else "",
                genus=taxon.genus if with_info else "",
                family=taxon.family if with_info else "",
                images=images,
                is_added=taxon.is_added,
            )
        )
    return C4cAnswer(
        results=results,
        message=REJECTED if is_rejected else "",
        assessment=to_assessment(identification.judgement),
        genera=_to_groups(identification.genera) if detailed else [],
        families=_to_groups(identification.families) if detailed else [],
        engine=identification.engine_version,
        observation=observation,
    )


def _common_name(taxon: Taxon, language: str) -> str:
    return next(iter(common_names(taxon, language)), "")


def _to_groups(groups: Iterable[GroupScore]) -> list[C4cGroup]:
    return [C4cGroup(name=group.name, score=round(group.score, 5)) for group in groups]


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


def to_status(
    info: EngineInfo, num_queries: int, *, keeps_photographs: bool = False, refused: C4cRefused | None = None
) -> C4cStatus:
    """Describe an engine, and the copy of the service that has answered this many queries."""
    decisions = info.decisions
    calibration = C4cCalibration(
        fusion=decisions.fusion.rule,
        temperatures=list(decisions.fusion.temperatures),
        neighbor_share=decisions.vote.share,
        rejection=decisions.rejection.score,
        precision=decisions.acceptance.precision,
        promise=decisions.candidates.promise,
    )
    return C4cStatus(
        gbif_doi=info.doi or "",
        queries=num_queries,
        engine=info.version,
        arch=info.arch,
        species=len(info.classes),
        metrics=info.metrics,
        calibration=calibration,
        keeps_photographs=keeps_photographs,
        refused=refused,
    )


def to_taxa(taxa: Iterable[Taxon], language: str = ENGLISH) -> list[C4cTaxon]:
    """Convert the list of species to the wire format."""
    return [
        C4cTaxon(
            name=taxon.name,
            species_id=taxon.species_key,
            rank=taxon.rank,
            authorship=taxon.authorship,
            vernacularName=_common_name(taxon, language),
            species=taxon.name,
            genus=taxon.genus,
            family=taxon.family,
        )
        for taxon in taxa
    ]
