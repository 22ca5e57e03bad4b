from collections import defaultdict
from dataclasses import fields

from aitax_ray.demo.species import SPECIES, ButterflyTraits, DemoSpecies, FlowerTraits


def test_there_are_flowers_and_butterflies_of_several_genera_and_families():
    kinds = [type(s.traits) for s in SPECIES]
    assert len(SPECIES) >= 14
    assert kinds.count(FlowerTraits) >= 5
    assert kinds.count(ButterflyTraits) >= 5
    assert len({s.genus for s in SPECIES}) >= 5
    assert len({s.family for s in SPECIES}) >= 3


def test_keys_and_names_are_unique_and_keys_are_numeric_strings():
    assert len({s.species_key for s in SPECIES}) == len({s.name for s in SPECIES}) == len(SPECIES)
    assert all(s.species_key.isdigit() for s in SPECIES)


def test_a_lineage_goes_from_kingdom_to_genus():
    lineage = SPECIES[0].lineage
    assert list(lineage) == ["kingdom", "phylum", "class", "order", "family", "genus"]
    assert lineage["kingdom"] == "Plantae"
    assert lineage["genus"] == SPECIES[0].name.split()[0]
    assert all(value for s in SPECIES for value in s.lineage.values())


def test_every_name_has_authorship_and_vernacular_name():
    for species in SPECIES:
        assert species.scientific_name == f"{species.name} {species.authorship}"
        assert len(species.name.split()) == 2
        assert species.vernacular_name


def test_the_species_of_a_genus_differ_in_few_traits():
    genera = defaultdict(list)
    for species in SPECIES:
        genera[species.genus].append(species)
    assert all(len(pair) == 2 for pair in genera.values())
    for first, second in genera.values():
        assert 1 <= len(differing_traits(first, second)) <= 3


def differing_traits(first: DemoSpecies, second: DemoSpecies) -> list[str]:
    a, b = first.traits, second.traits
    return [field.name for field in fields(a) if getattr(a, field.name) != getattr(b, field.name)]
