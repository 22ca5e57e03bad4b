from collections import Counter

import numpy as np

from aitax_ray.demo.archive import MULTIMEDIA_TERMS, OCCURRENCE_TERMS
from aitax_ray.demo.observation import LICENCES, OBSERVERS, observe
from aitax_ray.demo.species import SPECIES

URL = "http://127.0.0.1:9"


def test_every_value_has_its_column():
    observation = observe(SPECIES[0], "9900000001", np.random.default_rng(0))
    assert observation.occurrence_row(URL, 2).keys() <= {term.rsplit("/", 1)[1] for term in OCCURRENCE_TERMS}
    assert observation.media_row(URL).keys() <= {term.rsplit("/", 1)[1] for term in MULTIMEDIA_TERMS}


def test_an_occurrence_says_which_species_and_how_many_photographs():
    row = observe(SPECIES[0], "9900000001", np.random.default_rng(0)).occurrence_row(URL, 2)
    assert row["speciesKey"] == row["acceptedTaxonKey"] == SPECIES[0].species_key
    assert row["scientificName"] == f"{row['species']} {SPECIES[0].authorship}"
    assert row["species"] == f"{row['genus']} {row['specificEpithet']}"
    assert row["mediaType"] == "StillImage;StillImage"
    assert row["references"] == f"{URL}/occurrence/9900000001"


def test_a_photograph_and_its_occurrence_name_the_same_observer():
    observation = observe(SPECIES[2], "9900000001", np.random.default_rng(1))
    media, occurrence = observation.media_row(URL), observation.occurrence_row(URL, 1)
    assert media["gbifID"] == occurrence["gbifID"] == "9900000001"
    assert media["creator"] == media["rightsHolder"] == occurrence["recordedBy"]
    assert media["identifier"] == URL


def test_all_licences_are_given_in_about_their_share_and_names_are_unique():
    counts = Counter(observer.media_license for observer in OBSERVERS)
    assert {url: count / len(OBSERVERS) for url, count in counts.items()} == {url: share for url, _, share in LICENCES}
    assert len({observer.name for observer in OBSERVERS}) == len(OBSERVERS)


def test_observers_keep_one_licence_and_occurrences_have_one_that_gbif_admits():
    admitted = {"CC0_1_0", "CC_BY_4_0", "CC_BY_NC_4_0"}
    assert {observer.occurrence_license for observer in OBSERVERS} == admitted
    reserved = [o for o in OBSERVERS if o.media_license == "all rights reserved"]
    assert reserved
    assert all(o.occurrence_license == "CC_BY_NC_4_0" for o in reserved)
