"""The wire format `pn`: the flora of an engine and its species, and which of them a name means. Pure."""

import difflib
from collections.abc import Sequence

from aitax_ray.engine.bundle import Taxon
from aitax_ray.engine.info import EngineInfo
from aitax_ray.serving.assessment import left_out_if_none
from aitax_ray.serving.languages import common_names
from aitax_ray.serving.pn import full_name, gbif_key
from aitax_ray.serving.pn_models import PnId, PnModel

MIN_LIKENESS = 0.9  # of two names that differ by a letter or two (difflib's ratio)


class PnProject(PnModel):
    """A flora; the engine is one."""

    id: str
    title: str
    name: str
    description: str
    species_count: int


class PnSpeciesRow(PnModel):
    """A row of the list of species."""

    id: str
    common_names: list[str]
    scientific_name_without_author: str
    scientific_name_authorship: str
    gbif_id: int | None = left_out_if_none()
    """Left out where the key is none of GBIF's."""
    powo_id: str = ""
    iucn_category: str = ""


class PnAligned(PnModel):
    """The species that a name means."""

    searched_name: str
    matching_name: str
    accepted_name: str
    is_synonym: bool = False
    """The engine knows accepted names only."""
    project: str
    family: str
    genus: str
    gbif: PnId | None = left_out_if_none()
    match_type: str
    """Ours: exact, canonical (without the author) or close."""


def project_of(info: EngineInfo, name: str | None = None) -> str:
    """Name the engine's flora: `name`, else the last part of its DOI, such as dl.abc123, else its version."""
    return name or (info.doi or "").rpartition("/")[2] or info.version


def to_project(info: EngineInfo, project: str) -> PnProject:
    """Describe the engine as a flora."""
    title = f"Species of the GBIF download {info.doi}" if info.doi else f"Species of the engine {info.version}"
    return PnProject(
        id=project,
        title=title,
        name=title,
        description=info.citation or f"The {len(info.classes):,} species that the engine {info.version} knows.",
        species_count=len(info.classes),
    )


def to_species(
    taxa: Sequence[Taxon], info: EngineInfo, language: str, prefix: str = "", page: slice = slice(None)
) -> list[PnSpeciesRow]:
    """List a page of the species by name; with a prefix, those whose scientific or common name starts with it."""
    start = prefix.casefold()
    found = sorted(
        (taxon for taxon in taxa if not start or _starts(taxon, start, language)), key=lambda taxon: taxon.name
    )
    rows = []
    for taxon in found[page]:
        key = gbif_key(taxon, info)
        row = PnSpeciesRow(
            id=taxon.species_key,
            common_names=common_names(taxon, language),
            scientific_name_without_author=taxon.name,
            scientific_name_authorship=taxon.authorship,
            gbif_id=int(key) if key else None,
        )
        rows.append(row)
    return rows


def align(
    taxa: Sequence[Taxon], info: EngineInfo, project: str, name: str, authorship: bool = True, fuzzy: bool = False
) -> PnAligned | None:
    """Find the species that a name means; None if there is none.

    It is the species with this name, with or without its author; else the one whose name the searched one starts with
    ("Rana temporaria Linnaeus"); else, with `fuzzy`, the one with the most similar name. With `authorship`, the names
    in the answer have their author.
    """
    searched = " ".join(name.split())
    taxon, match_type = _find(taxa, searched.casefold(), fuzzy)
    if taxon is None:
        return None
    shown, key = full_name(taxon) if authorship else taxon.name, gbif_key(taxon, info)
    return PnAligned(
        searched_name=name,
        matching_name=shown,
        accepted_name=shown,
        project=project,
        family=taxon.family,
        genus=taxon.genus,
        gbif=PnId(id=key) if key else None,
        match_type=match_type,
    )


def _find(taxa: Sequence[Taxon], searched: str, fuzzy: bool) -> tuple[Taxon | None, str]:
    full = {full_name(taxon).casefold(): taxon for taxon in taxa}
    names = {taxon.name.casefold(): taxon for taxon in taxa}
    if found := full.get(searched) or names.get(searched):
        return found, "exact"
    words = searched.split(" ")
    for number in range(len(words) - 1, 1, -1):
        if found := names.get(" ".join(words[:number])):
            return found, "canonical"
    if fuzzy:
        # The author, if there is one, comes after the name: compare the first words too.
        for wanted in dict.fromkeys((searched, " ".join(words[:2]))):
            if close := difflib.get_close_matches(wanted, names, 1, MIN_LIKENESS):
                return names[close[0]], "close"
    return None, ""


def _starts(taxon: Taxon, start: str, language: str) -> bool:
    return any(name.casefold().startswith(start) for name in (taxon.name, *common_names(taxon, language)))
