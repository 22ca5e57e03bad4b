"""The rows of an observation in GBIF's terms: who saw it, when, where, under which licence.

The people are invented. Each person has one licence for all photographs. The licence of the occurrence may differ,
because GBIF accepts only three licences for occurrences.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from aitax_ray.demo.archive import Row
from aitax_ray.demo.species import DemoSpecies

CREATED = "2026-01-01T00:00:00.000+00:00"
FIRST_DAY = date(2018, 3, 1)
NUM_DAYS = 7 * 365
HOME_RANGE = 1.2  # degrees, standard deviation

LICENCES = (  # spelling in multimedia.txt, spelling in occurrence.txt, share of the observers
    ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0_1_0", 0.25),
    ("http://creativecommons.org/licenses/by/4.0/", "CC_BY_4_0", 0.35),
    ("http://creativecommons.org/licenses/by-nc/4.0/", "CC_BY_NC_4_0", 0.3),
    ("all rights reserved", "CC_BY_NC_4_0", 0.1),
)
FORENAMES = ("Ada", "Basil", "Clover", "Daisy", "Elm", "Fern", "Hazel", "Ivy", "Linden", "Moss")
SURNAMES = ("Example", "Invented", "Nobody", "Placeholder")


@dataclass(frozen=True)
class Dataset:
    """A dataset that publishes occurrences; its key is a made-up UUID."""

    key: str
    name: str
    publisher: str


DATASETS = (
    Dataset("00000000-0000-4000-8000-0000000000d1", "Demo naturalists' observations", "Demo Naturalists"),
    Dataset("00000000-0000-4000-8000-0000000000d2", "Invented museum of living things", "Invented Museum"),
)


@dataclass(frozen=True)
class Observer:
    """An invented person, and the licence of the photographs: as written in multimedia.txt and in occurrence.txt."""

    name: str
    media_license: str
    occurrence_license: str


def _observers() -> tuple[Observer, ...]:
    names = [f"{forename} {surname}" for surname in SURNAMES for forename in FORENAMES]
    ends = np.cumsum([share for _, _, share in LICENCES])
    chosen = [LICENCES[int(np.searchsorted(ends, (i * 7 % len(names) + 0.5) / len(names)))] for i in range(len(names))]
    return tuple(Observer(name, media, occurrence) for name, (media, occurrence, _) in zip(names, chosen, strict=True))


OBSERVERS = _observers()


@dataclass(frozen=True)
class Observation:
    """One occurrence: it has one `occurrence_row()`, and one `media_row()` per photograph."""

    gbif_id: str
    species: DemoSpecies
    observer: Observer
    dataset: Dataset
    day: date
    latitude: float
    longitude: float
    uncertainty_m: int

    def occurrence_row(self, base_url: str, num_images: int) -> Row:
        """The row of occurrence.txt."""
        species, day = self.species, self.day
        return {
            **species.lineage,
            "gbifID": self.gbif_id,
            "license": self.observer.occurrence_license,
            "modified": f"{day.isoformat()}T20:00:00Z",
            "publisher": self.dataset.publisher,
            "references": f"{base_url}/occurrence/{self.gbif_id}",
            "rightsHolder": self.observer.name,
            "type": "StillImage",
            "institutionCode": "DEMO",
            "collectionCode": "Observations",
            "datasetName": self.dataset.name,
            "basisOfRecord": "HUMAN_OBSERVATION",
            "occurrenceID": f"urn:demo:occurrence:{self.gbif_id}",
            "catalogNumber": self.gbif_id,
            "recordedBy": self.observer.name,
            "individualCount": "1",
            "occurrenceStatus": "PRESENT",
            "eventDate": day.isoformat(),
            "year": str(day.year),
            "month": str(day.month),
            "day": str(day.day),
            "countryCode": species.country_code,
            "decimalLatitude": f"{self.latitude:.5f}",
            "decimalLongitude": f"{self.longitude:.5f}",
            "coordinateUncertaintyInMeters": f"{self.uncertainty_m}.0",
            "identifiedBy": self.observer.name,
            "scientificName": species.scientific_name,
            "genericName": species.genus,
            "specificEpithet": species.name.split()[1],
            "taxonRank": "SPECIES",
            "vernacularName": species.vernacular_name,
            "taxonomicStatus": "ACCEPTED",
            "datasetKey": self.dataset.key,
            "publishingCountry": species.country_code,
            "lastInterpreted": CREATED,
            "mediaType": ";".join(["StillImage"] * num_images),
            "hasCoordinate": "true",
            "hasGeospatialIssues": "false",
            "taxonKey": species.species_key,
            "acceptedTaxonKey": species.species_key,
            "speciesKey": species.species_key,
            "species": species.name,
            "acceptedScientificName": species.scientific_name,
            "verbatimScientificName": species.name,
            "protocol": "DWC_ARCHIVE",
        }

    def media_row(self, url: str) -> Row:
        """The row of multimedia.txt of a photograph."""
        return {
            "gbifID": self.gbif_id,
            "type": "StillImage",
            "format": "image/jpeg",
            "identifier": url,
            "references": url,
            "title": self.species.name,
            "created": f"{self.day.isoformat()}T12:00:00Z",
            "creator": self.observer.name,
            "publisher": self.dataset.publisher,
            "license": self.observer.media_license,
            "rightsHolder": self.observer.name,
        }


def observe(species: DemoSpecies, gbif_id: str, rng: np.random.Generator) -> Observation:
    """Draw at random who saw an individual of the species, when and where."""
    return Observation(
        gbif_id,
        species,
        observer=OBSERVERS[rng.integers(len(OBSERVERS))],
        dataset=DATASETS[int(rng.random() < 0.3)],
        day=FIRST_DAY + timedelta(days=int(rng.integers(NUM_DAYS))),
        latitude=float(np.clip(species.home[0] + rng.normal(0, HOME_RANGE), -85, 85)),
        longitude=float(species.home[1] + rng.normal(0, HOME_RANGE)),
        uncertainty_m=int(rng.choice([5, 10, 31, 100, 1000])),
    )
