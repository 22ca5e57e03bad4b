"""The wire format `nia` of Naturalis' Nature Identification API, version 2, which iRecord and Artsorakel speak. Pure.

Source: https://multi-source.docs.biodiversityanalysis.eu/full-documentation/identify. Its trees of higher taxa
(`taxa_hierarchy_full`, `taxa_hierarchy_simplified`) are left out: known clients do not read them. The engine has no
regions, so there is one prediction and no region group.
"""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from aitax_ray.engine.info import EngineInfo
from aitax_ray.serving.assessment import Assessment, Kept, Observation, left_out_if_none, to_assessment
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.pn import gbif_key

API = "aitax-ray"
CONFIDENT, UNCERTAIN = 0.9, 0.2  # probabilities above which the format calls an answer so


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class NiaTaxon(_Wire):
    """A candidate."""

    scientific_name: str
    scientific_name_id: str
    """The key with its source, such as GBIF:2427091."""
    probability: float


class NiaTaxa(_Wire):
    """The candidates, best first."""

    type: str = "multiclass"
    items: list[NiaTaxon]


class NiaPrediction(_Wire):
    """A prediction; clients read the first one."""

    region_group_id: str
    taxa: NiaTaxa


class NiaMedium(_Wire):
    """An uploaded photograph."""

    filename: str
    id: str
    """Its md5."""


class NiaConfidence(_Wire):
    """How sure the best species is."""

    confidence: str
    """confident, uncertain or unknown."""


class NiaIdentification(_Wire):
    """What the photographs say."""

    image: NiaConfidence


class NiaGenerator(_Wire):
    """What made the answer."""

    datetime: str
    parameters: dict[str, str]
    tag: str
    version: str


class NiaRegionGroup(_Wire):
    """The region of a prediction: the engine has one, everywhere."""

    id: str
    regions: list[str]


class NiaAnswer(_Wire):
    """The answer of /v2/observation/identify."""

    generated_by: NiaGenerator
    identification: NiaIdentification
    media: list[NiaMedium]
    predictions: list[NiaPrediction]
    region_groups: list[NiaRegionGroup]
    # Ours: other clients ignore them.
    assessment: Assessment
    observation: Observation | None = left_out_if_none()
    """Where and when the individual was seen, if the request says it."""
    kept: Kept | None = left_out_if_none()
    """How to delete the photographs, if the service keeps them."""


class NiaModel(_Wire):
    """The size of the engine."""

    class_count: int
    version: str


class NiaDocumentation(_Wire):
    """The answer of /v2/observation/documentation. Texts are by language."""

    description: dict[str, str]
    model_implementation: NiaModel
    release_notes: dict[str, str]
    tag: str


def to_answer(
    identification: Identification,
    info: EngineInfo,
    media: Sequence[NiaMedium],
    now: datetime,
    parameters: dict[str, str],
    observation: Observation | None = None,
    no_reject: bool = False,
) -> NiaAnswer:
    """Convert an identification to the wire format; one that is rejected is `unknown` and has no candidates."""
    judgement = identification.judgement
    is_rejected = not judgement.is_known and not no_reject
    candidates = () if is_rejected else identification.candidates
    items = [
        NiaTaxon(
            scientific_name=candidate.taxon.name,
            scientific_name_id=f"{'GBIF' if gbif_key(candidate.taxon, info) else API}:{candidate.taxon.species_key}",
            probability=round(candidate.score, 5),
        )
        for candidate in candidates
    ]
    best = items[0].probability if items else 0.0
    confidence = "confident" if best > CONFIDENT else "uncertain" if best > UNCERTAIN else "unknown"
    return NiaAnswer(
        generated_by=NiaGenerator(
            datetime=now.isoformat(timespec="milliseconds"),
            parameters=parameters,
            tag=tag_of(info),
            version=info.version,
        ),
        identification=NiaIdentification(image=NiaConfidence(confidence=confidence)),
        media=list(media),
        predictions=[NiaPrediction(region_group_id="all", taxa=NiaTaxa(items=items))],
        region_groups=[NiaRegionGroup(id="all", regions=[])],
        assessment=to_assessment(judgement),
        observation=observation,
    )


def to_documentation(info: EngineInfo) -> NiaDocumentation:
    """Describe the engine."""
    source = f" It was trained on photographs of the GBIF download {info.doi}." if info.doi else ""
    return NiaDocumentation(
        description={"en": f"Names {len(info.classes):,} species on photographs.{source}"},
        model_implementation=NiaModel(class_count=len(info.classes), version=info.version),
        release_notes={"en": info.citation or ""},
        tag=tag_of(info),
    )


def tag_of(info: EngineInfo) -> str:
    """Name the engine and the format, as Naturalis does."""
    return f"algorithm={info.arch}:{info.version},api={API}:{info.format_version}"
