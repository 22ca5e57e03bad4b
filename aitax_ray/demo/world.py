"""Builds the demo world: photographs of invented species, and the archive that lists them as a GBIF download does.

    folder/photos/*.jpg     the photographs, 1 to 4 per occurrence
    folder/archive.zip      Darwin Core Archive: one row of multimedia.txt per photograph
    folder/download.json    GBIF's description of the download, with which `server.py` answers

A few additional rows have the flaws of rows in real archives (see `Flaw`), so that the user sees the reasons for which
rows are left out. Everything follows from the seed. Each photograph follows from a hash of (seed, species, occurrence,
photograph), so a larger world contains the photographs of a smaller one.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
from PIL import Image

from aitax_ray.demo.archive import Row, write_archive
from aitax_ray.demo.observation import CREATED, DATASETS, Observation, observe
from aitax_ray.demo.paint import make_encounter, paint, photograph
from aitax_ray.demo.species import SPECIES, DemoSpecies

DOI = "10.15468/dl.demo01"
DOWNLOAD_KEY = "0000000-260101000000000"
LICENSE = "http://creativecommons.org/licenses/by-nc/4.0/legalcode"
BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"  # GBIF's checklist with numeric keys
FIRST_GBIF_ID = 9_900_000_000  # far above the real ones: a demo key leads to no real occurrence
KEYS_PER_SPECIES = 10_000  # of occurrences

WIDTH, HEIGHT, QUALITY = 360, 270, 90
GROUP_SIZES = (0.58, 0.24, 0.12, 0.06)  # share of occurrences with 1, 2, 3, 4 photographs
FLAWED_SHARE = 0.015  # flawed rows per row


class Flaw(Enum):
    """The flaw of a row, and how the pipeline must treat it."""

    DEAD_LINK = "the photograph is no longer at its address: 404 when it is fetched"
    SOUND = "a recording, type Sound: no photograph to fetch"
    NO_IDENTIFIER = "neither identifier nor references: nothing to fetch"
    NO_SPECIES = "identified to the genus only: speciesKey is empty"


@dataclass(frozen=True)
class World:
    """A world that was built. The archive also holds flawed rows, which do not count as images or occurrences."""

    folder: Path
    doi: str
    download_key: str
    num_images: int
    num_occurrences: int
    species: tuple[DemoSpecies, ...]


def photo_counts(num_species: int, fewest: int, most: int) -> list[int]:
    """Count the photographs of each species: from `most` down to `fewest` by a constant factor, as a long tail."""
    return [round(x) for x in np.geomspace(most, fewest, num_species)]


def num_photos(num_species: int | None = None, fewest: int = 30, most: int = 110) -> int:
    """Count the photographs of a world: the sum of what `build_world` reports to `advance`."""
    return sum(photo_counts(len(SPECIES) if num_species is None else num_species, fewest, most))


def build_world(
    folder: Path,
    *,
    num_species: int | None = None,
    fewest: int = 30,
    most: int = 110,
    seed: int = 0,
    base_url: str,
    advance: Callable[[int], object] | None = None,
) -> World:
    """Draw the photographs and write the archive, with addresses below `base_url`.

    The world has the first `num_species` of `SPECIES`. `advance` is called with 1 per photograph.
    Raises ValueError for more species than there are, or when `fewest` is above `most`.
    """
    num_species = len(SPECIES) if num_species is None else num_species
    if not 1 <= num_species <= len(SPECIES) or not 1 <= fewest <= most:
        raise ValueError(f"the demo world has 1 to {len(SPECIES)} species, each with 1 <= fewest <= most photographs")
    base_url = base_url.rstrip("/")
    species = SPECIES[:num_species]
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    observations: list[Observation] = []
    occurrences: list[Row] = []
    media: list[Row] = []
    for kind, count in zip(species, photo_counts(num_species, fewest, most), strict=True):
        for number, size in enumerate(_group_sizes(kind, count, seed)):
            rng = _rng(seed, kind, number)
            observation, encounter = observe(kind, _gbif_id(kind, number), rng), make_encounter(kind, rng)
            for photo in range(size):
                name = f"{observation.gbif_id}-{photo + 1}.jpg"
                picture = photograph(encounter, _rng(seed, kind, number, photo), WIDTH, HEIGHT)
                (photos / name).write_bytes(_jpeg(picture))
                media.append(observation.media_row(f"{base_url}/photos/{name}"))
                if advance is not None:
                    advance(1)
            observations.append(observation)
            occurrences.append(observation.occurrence_row(base_url, size))
    world = World(folder, DOI, DOWNLOAD_KEY, len(media), len(occurrences), species)
    _add_flaws(photos, base_url, seed, observations, occurrences, media)
    _write(world, occurrences, media)
    return world


def unseen_photo(species: DemoSpecies, seed: int) -> bytes:
    """Draw an individual that is in no archive; a JPEG."""
    return _jpeg(paint(species, _rng(seed, species, "unseen"), WIDTH, HEIGHT))


def _group_sizes(species: DemoSpecies, count: int, seed: int) -> Iterator[int]:
    """Draw the number of photographs of each occurrence; their sum is `count`."""
    rng = _rng(seed, species, "groups")
    while count > 0:
        size = min(count, 1 + int(rng.choice(len(GROUP_SIZES), p=GROUP_SIZES)))
        yield size
        count -= size


def _add_flaws(
    photos: Path, base_url: str, seed: int, observations: list[Observation], occurrences: list[Row], media: list[Row]
) -> None:
    """Add flawed rows to some occurrences, at least one of each kind."""
    flaws = list(Flaw)
    for turn in range(max(len(flaws), round(FLAWED_SHARE * len(media)))):
        observation = observations[turn * 37 % len(observations)]
        # No occurrence has so many photographs, so nothing is at this address.
        row = observation.media_row(f"{base_url}/photos/{observation.gbif_id}-{90 + turn}.jpg")
        match flaws[turn % len(flaws)]:
            case Flaw.DEAD_LINK:
                pass
            case Flaw.SOUND:
                row |= {
                    "type": "Sound",
                    "format": "audio/mpeg",
                    "identifier": row["identifier"].replace(".jpg", ".mp3"),
                }
            case Flaw.NO_IDENTIFIER:
                row |= {"identifier": "", "references": ""}
            case Flaw.NO_SPECIES:
                kind = observation.species
                genus = replace(observation, gbif_id=_gbif_id(kind, KEYS_PER_SPECIES - 1 - turn))
                occurrences.append(genus.occurrence_row(base_url, 1) | _to_genus(kind))
                name = f"{genus.gbif_id}-1.jpg"
                (photos / name).write_bytes(_jpeg(paint(kind, _rng(seed, kind, "genus", turn), WIDTH, HEIGHT)))
                row = genus.media_row(f"{base_url}/photos/{name}") | {"title": kind.genus}
        media.append(row)


def _to_genus(species: DemoSpecies) -> Row:
    """The columns of occurrence.txt for an organism that is identified to its genus only."""
    below = ("specificEpithet", "vernacularName", "speciesKey", "species")
    genus_key = species.species_key[:-2] + "00"
    names = ("scientificName", "acceptedScientificName", "verbatimScientificName")
    return (
        dict.fromkeys(below, "")
        | dict.fromkeys(names, species.genus)
        | {"taxonRank": "GENUS", "taxonKey": genus_key, "acceptedTaxonKey": genus_key}
    )


def _write(world: World, occurrences: list[Row], media: list[Row]) -> None:
    datasets = [(dataset.name, LICENSE) for dataset in DATASETS]
    record = {
        "key": world.download_key,
        "doi": world.doi,
        "license": LICENSE,
        "request": {
            "predicate": {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage", "matchCase": False},
            "sendNotification": False,
            "format": "DWCA",
            "type": "OCCURRENCE",
            "verbatimExtensions": [],
            "checklistKey": BACKBONE,
        },
        "created": CREATED,
        "modified": CREATED,
        "eraseAfter": CREATED.replace("2026", "2126"),
        "status": "SUCCEEDED",
        "totalRecords": len(occurrences),
        "numberDatasets": len(datasets),
    }
    write_archive(
        world.folder / "archive.zip",
        occurrences,
        media,
        doi=world.doi,
        download_key=world.download_key,
        created=CREATED,
        datasets=datasets,
    )
    (world.folder / "download.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _gbif_id(species: DemoSpecies, number: int) -> str:
    return str(FIRST_GBIF_ID + SPECIES.index(species) * KEYS_PER_SPECIES + number)


def _rng(seed: int, species: DemoSpecies, *place: int | str) -> np.random.Generator:
    digest = hashlib.sha256(repr((seed, species.species_key, *place)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
