import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import build_world, num_photos, photo_counts, unseen_photo
from tests.demo.conftest import SMALL, rows

BASE_URL = "http://127.0.0.1:9"


def photos(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in (folder / "photos").iterdir()}


def clean(media: list[dict[str, str]], folder: Path) -> list[dict[str, str]]:
    """The rows that do not misbehave."""
    known = {row["gbifID"] for row in rows(folder, "occurrence.txt") if row["speciesKey"]}
    there = set(photos(folder))
    return [row for row in media if row["gbifID"] in known and row["identifier"].rsplit("/", 1)[-1] in there]


def test_the_counts_fall_in_a_long_tail_from_most_to_fewest():
    counts = photo_counts(14, 30, 110)
    assert counts[0] == 110
    assert counts[-1] == 30
    assert counts == sorted(counts, reverse=True)
    assert np.median(counts) < np.mean(counts)
    assert num_photos() == sum(counts)


def test_the_archive_holds_as_many_photographs_a_species_as_the_tail_says(served_world):
    world, _ = served_world
    species_of = {row["gbifID"]: row["speciesKey"] for row in rows(world.folder, "occurrence.txt")}
    media = clean(rows(world.folder, "multimedia.txt"), world.folder)
    counts = Counter(species_of[row["gbifID"]] for row in media)
    assert [counts[s.species_key] for s in world.species] == [6, 4, 3]
    assert world.num_images == len(media) == 13
    assert world.num_occurrences == len({row["gbifID"] for row in media})


def test_photographs_of_an_occurrence_share_gbif_id_author_and_licence(tmp_path: Path):
    world = build_world(tmp_path, base_url=BASE_URL, num_species=1, fewest=12, most=12)
    groups: dict[str, list[dict[str, str]]] = {}
    for row in clean(rows(tmp_path, "multimedia.txt"), tmp_path):
        groups.setdefault(row["gbifID"], []).append(row)
    assert len(groups) == world.num_occurrences < 12
    assert max(map(len, groups.values())) in (2, 3, 4)
    for group in groups.values():
        assert len({(row["creator"], row["license"], row["created"]) for row in group}) == 1
        assert all(row["identifier"] == f"{BASE_URL}/photos/{row['gbifID']}-{n}.jpg" for n, row in enumerate(group, 1))


def test_occurrences_say_where_and_when_within_the_home_of_their_species(served_world):
    world, _ = served_world
    homes = {s.species_key: s.home for s in world.species}
    for row in rows(world.folder, "occurrence.txt"):
        assert "2018-03-01" <= row["eventDate"] <= "2025-03-01"
        if row["speciesKey"]:
            latitude, longitude = homes[row["speciesKey"]]
            assert abs(float(row["decimalLatitude"]) - latitude) < 8
            assert abs(float(row["decimalLongitude"]) - longitude) < 8
            assert row["license"] in ("CC0_1_0", "CC_BY_4_0", "CC_BY_NC_4_0")


def test_each_kind_of_flaw_occurs_and_can_be_seen_in_the_row(served_world):
    world, _ = served_world
    media = rows(world.folder, "multimedia.txt")
    occurrences = {row["gbifID"]: row for row in rows(world.folder, "occurrence.txt")}
    there = photos(world.folder)
    urls = [row["identifier"] for row in media if row["type"] == "StillImage" and row["identifier"]]
    assert sum(url.rsplit("/", 1)[1] not in there for url in urls) == 1
    assert [row["format"] for row in media if row["type"] == "Sound"] == ["audio/mpeg"]
    assert [row["references"] for row in media if not row["identifier"]] == [""]
    genus_only = [row for row in occurrences.values() if not row["speciesKey"]]
    assert [row["taxonRank"] for row in genus_only] == ["GENUS"]
    assert [row["scientificName"] for row in genus_only] == [genus_only[0]["genus"]]
    assert sum(row["gbifID"] == genus_only[0]["gbifID"] for row in media) == 1
    assert len(media) == world.num_images + 4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_photographs(tmp_path: Path):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        build_world(tmp_path / name, base_url=BASE_URL, num_species=1, fewest=3, most=3, seed=seed)
    first, again, other = (photos(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert (tmp_path / "first/archive.zip").read_bytes() == (tmp_path / "again/archive.zip").read_bytes()
    assert not set(first.values()) & set(other.values())


def test_a_larger_world_holds_the_photographs_of_a_smaller_one(tmp_path: Path):
    build_world(tmp_path / "small", base_url=BASE_URL, num_species=1, fewest=3, most=3)
    build_world(tmp_path / "large", base_url=BASE_URL, num_species=1, fewest=5, most=5)
    small, large = photos(tmp_path / "small"), photos(tmp_path / "large")
    drawn = {name: digest for name, digest in small.items() if name < "9900009000"}  # without the flawed rows'
    assert len(drawn) == 3
    assert drawn.items() <= large.items()


def test_advance_is_called_for_every_photograph(tmp_path: Path):
    steps: list[int] = []
    world = build_world(tmp_path, base_url=BASE_URL, num_species=2, fewest=1, most=2, advance=steps.append)
    assert sum(steps) == world.num_images == num_photos(2, 1, 2) == 3


def test_no_two_photographs_are_the_same_and_an_unseen_one_is_in_no_archive(served_world):
    world, _ = served_world
    known = photos(world.folder)
    assert len(set(known.values())) == len(known)
    unseen = [unseen_photo(species, seed) for species in world.species for seed in (0, 1)]
    assert not {hashlib.sha1(jpeg).hexdigest() for jpeg in unseen} & set(known.values())
    assert len(set(unseen)) == len(unseen)
    assert Image.open(io.BytesIO(unseen[0])).size == (360, 270)


def test_an_unseen_photo_is_the_same_for_the_same_seed():
    assert unseen_photo(SPECIES[4], 3) == unseen_photo(SPECIES[4], 3)


@pytest.mark.parametrize("wrong", [{"num_species": 0}, {"num_species": 99}, {"fewest": 7}, {"fewest": 0}])
def test_a_world_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, int]):
    with pytest.raises(ValueError, match="demo world has 1 to 14 species"):
        build_world(tmp_path, base_url=BASE_URL, **{**SMALL, **wrong})
