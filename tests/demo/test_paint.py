from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aitax_ray.demo.background import HABITATS
from aitax_ray.demo.paint import make_encounter, paint, photograph
from aitax_ray.demo.species import SPECIES, DemoSpecies

WIDTH, HEIGHT = 120, 90
ROSE_5, ROSE_8 = SPECIES[0], SPECIES[1]
EMBER_MIDDLE, EMBER_EDGE = SPECIES[2], SPECIES[3]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference of two pictures, in grey levels."""
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).mean())


@pytest.mark.parametrize("species", SPECIES, ids=lambda s: s.name)
def test_a_photograph_has_the_size_asked_for_and_is_full_of_detail(species: DemoSpecies):
    picture = paint(species, generator(), WIDTH, HEIGHT)
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.mode == "RGB"
    pixels = np.asarray(picture)
    assert pixels.std() > 10
    assert 30 < pixels.mean() < 225


def test_the_same_seed_paints_the_same_photograph_and_another_seed_another_one():
    first, again, other = (paint(ROSE_5, generator(seed), WIDTH, HEIGHT) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert difference(first, other) > 5


@pytest.mark.parametrize("habitat", HABITATS)
def test_every_habitat_can_be_painted_behind_both_kinds(habitat: str):
    for species in (ROSE_5, EMBER_EDGE):
        encounter = replace(make_encounter(species, generator(5)), habitat=habitat)
        assert np.asarray(photograph(encounter, generator(), WIDTH, HEIGHT)).std() > 10


def test_photographs_of_one_encounter_are_more_alike_than_those_of_two():
    """Alike in colour: pose and place on the photograph differ each time."""
    rng = generator(3)
    encounters = [make_encounter(ROSE_5, rng) for _ in range(8)]
    colours = np.array([[mean_colour(photograph(e, rng, WIDTH, HEIGHT)) for _ in range(4)] for e in encounters])
    within = colours.std(axis=1).mean()
    between = colours.mean(axis=1).std(axis=0).mean()
    assert between > 1.5 * within


def test_two_photographs_of_one_encounter_are_not_the_same():
    encounter, rng = make_encounter(EMBER_MIDDLE, generator(3)), generator(4)
    first, second = (photograph(encounter, rng, WIDTH, HEIGHT) for _ in range(2))
    assert difference(first, second) > 5


@pytest.mark.parametrize("pair", [(ROSE_5, ROSE_8), (EMBER_MIDDLE, EMBER_EDGE)], ids=["petals", "band"])
def test_the_species_of_a_pair_differ_where_all_else_is_equal(pair: tuple[DemoSpecies, DemoSpecies]):
    encounter = make_encounter(pair[0], generator(7))
    first, again, twin = (
        photograph(replace(encounter, species=s), generator(8), WIDTH, HEIGHT) for s in (pair[0], pair[0], pair[1])
    )
    assert difference(first, again) == 0
    assert difference(first, twin) > 2


def test_species_of_different_genera_differ_in_their_mean_photographs():
    means = [
        np.mean([np.asarray(paint(s, generator(n), 60, 45), np.float32) for n in range(12)], axis=0)
        for s in (ROSE_5, EMBER_EDGE, SPECIES[-1])
    ]
    for i in range(3):
        for j in range(i):
            assert np.abs(means[i] - means[j]).mean() > 4


def mean_colour(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float32).mean(axis=(0, 1))
