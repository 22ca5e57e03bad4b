"""Writes an identification in the format `pn` of the Pl@ntNet API. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aitax_ray.engine.bundle import Taxon
from aitax_ray.engine.info import EngineInfo
from aitax_ray.schemas import BACKBONE
from aitax_ray.serving.assessment import Observation, to_assessment
from aitax_ray.serving.findings import Illustration
from aitax_ray.serving.identifier import Candidate, Identification
from aitax_ray.serving.judgement import GroupScore
from aitax_ray.serving.languages import common_names
from aitax_ray.serving.pn_models import (
    PnAnswer,
    PnDate,
    PnFamily,
    PnGenus,
    PnId,
    PnImage,
    PnName,
    PnOrgan,
    PnOthers,
    PnQuery,
    PnResult,
    PnSpecies,
    PnUrls,
)
from aitax_ray.web import web_address

NOT_FOUND = "Species not found"  # clients compare this text, letter by letter
AUTO = "auto"  # the organ of a photograph of which no organ is known
ORGANS = (
    *(AUTO, "leaf", "flower", "fruit", "bark", "habit", "scan", "branch", "sheet", "other", "drawing", "seed", "bud"),
    *("anatomy", "aerial"),
)


@dataclass(frozen=True)
class PnRequest:
    """What a request asks for, beside its photographs."""

    project: str
    images: Sequence[str]
    """The address of each photograph, or the md5 of an upload."""
    filenames: Sequence[str]
    organs: Sequence[str]
    """One per photograph."""
    language: str = "en"
    include_related_images: bool = False
    no_reject: bool = False
    detailed: bool = False
    type: str = ""
    observation: Observation | None = None
    base_url: str = ""
    """The address of the service, with a slash at its end: it has the thumbnails."""


def to_answer(identification: Identification, request: PnRequest, info: EngineInfo, remaining: int) -> PnAnswer:
    """Convert an identification to the wire format. `remaining` is the number of requests left to the client today."""
    candidates = identification.candidates
    return PnAnswer(
        query=PnQuery(
            project=request.project,
            images=list(request.images),
            organs=list(request.organs),
            include_related_images=request.include_related_images,
            no_reject=request.no_reject,
            type=request.type,
        ),
        predicted_organs=[
            PnOrgan(image=image, filename=filename, organ=organ, score=float(organ != AUTO))
            for image, filename, organ in zip(request.images, request.filenames, request.organs, strict=True)
        ],
        language=request.language,
        prefered_referential=referential(info),
        best_match=full_name(candidates[0].taxon) if candidates else "",
        results=[_to_result(candidate, request, info) for candidate in candidates],
        other_results=_to_others(identification) if request.detailed else None,
        version=version_of(info),
        remaining_identification_requests=remaining,
        assessment=to_assessment(identification.judgement),
        observation=request.observation,
    )


def full_name(taxon: Taxon) -> str:
    """Give the scientific name with its authorship."""
    return taxon.scientific_name or f"{taxon.name} {taxon.authorship}".strip()


def gbif_key(taxon: Taxon, info: EngineInfo) -> str | None:
    """Give the key under which GBIF has a page of the species; None if its key is of another checklist."""
    is_of_gbif = taxon.species_key.isascii() and taxon.species_key.isdecimal()
    return taxon.species_key if is_of_gbif and info.checklist_key in (None, "", BACKBONE) else None


def referential(info: EngineInfo) -> str:
    """Name the checklist that names come from."""
    return "gbif-backbone" if info.checklist_key in (None, "", BACKBONE) else str(info.checklist_key)


def version_of(info: EngineInfo) -> str:
    """Name the engine as Pl@ntNet does: its day, and a version number in brackets (that of the engine's format)."""
    return f"{info.created:%Y-%m-%d} ({info.format_version}.0)"


def to_name(name: str) -> PnName:
    """Convert the name of a genus or family."""
    return PnName(scientific_name_without_author=name, scientific_name=name)


def short_license(license_id: str) -> str:
    """Write a licence as Pl@ntNet does: in lower case, without version.

    >>> short_license("CC-BY-SA-4.0"), short_license("CC0-1.0"), short_license("all-rights-reserved")
    ('cc-by-sa', 'cc0', 'all-rights-reserved')
    """
    return re.sub(r"-\d[\d.]*$", "", license_id.lower())


def to_date(event_date: str) -> PnDate:
    """Convert the date of an occurrence (ISO 8601), or the start of an interval.

    >>> to_date("2023-05-01T10:00:00Z/2023-05-03").string, to_date("2019").timestamp, to_date("in spring").string
    ('2023-05-01', 1546300800000, '')
    """
    found = re.match(r"\s*(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?!\d)", event_date)
    if found is None:
        return PnDate(timestamp=0, string="")
    parts = [part for part in found.groups() if part]
    try:
        start = datetime.fromisoformat("-".join([*parts, "01", "01"][:3])).replace(tzinfo=UTC)
    except ValueError:
        return PnDate(timestamp=0, string="")
    return PnDate(timestamp=int(start.timestamp()) * 1000, string="-".join(parts))


def _to_result(candidate: Candidate, request: PnRequest, info: EngineInfo) -> PnResult:
    taxon, images = candidate.taxon, None
    if request.include_related_images:
        converted = (_to_image(image, request.base_url) for image in candidate.illustrations)
        images = [image for image in converted if image.url.o]
    key = gbif_key(taxon, info)
    return PnResult(
        score=round(candidate.score, 5),
        species=PnSpecies(
            scientific_name_without_author=taxon.name,
            scientific_name_authorship=taxon.authorship,
            scientific_name=full_name(taxon),
            genus=to_name(taxon.genus),
            family=to_name(taxon.family),
            common_names=common_names(taxon, request.language),
        ),
        images=images,
        gbif=PnId(id=key) if key else None,
        is_added=taxon.is_added,
    )


def _to_image(image: Illustration, base_url: str) -> PnImage:
    thumbnail = f"{base_url}images/{image.image_id}" if base_url and image.has_thumbnail else ""
    original = web_address(image.url) or thumbnail
    author = image.creator or image.rights_holder
    license_ = short_license(image.license_id) or image.license
    credits = " / ".join(filter(None, (author, image.publisher)))
    return PnImage(
        organ=AUTO,
        author=author,
        license=license_,
        date=to_date(image.event_date),
        url=PnUrls(o=original, m=thumbnail or original, s=thumbnail or original),
        citation=", ".join(filter(None, (credits, license_))),
    )


def _to_others(identification: Identification) -> PnOthers:
    def score(group: GroupScore) -> float:
        return round(group.score, 5)

    return PnOthers(
        genus=[PnGenus(score=score(group), genus=to_name(group.name)) for group in identification.genera],
        family=[PnFamily(score=score(group), family=to_name(group.name)) for group in identification.families],
    )
