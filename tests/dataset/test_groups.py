from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from aitax_ray.dataset.groups import GroupBy, group, keys

TYPES = dict.fromkeys(("gbif_id", "species_key", "recorded_by", "event_date"), pl.String) | dict.fromkeys(
    ("decimal_latitude", "decimal_longitude"), pl.Float64
)


def occurrence(gbif_id: str, **known: Any) -> dict[str, Any]:
    return {"gbif_id": gbif_id, "species_key": "s", "recorded_by": "", "event_date": "", **known}


def grouped(images: list[tuple[str, str]], occurrences: list[dict[str, Any]], *group_by: GroupBy) -> list[str]:
    """Groups of images, each given as its occurrence and cluster."""
    frame = pl.DataFrame([{"gbif_id": g, "species_key": "s", "cluster": c} for g, c in images])
    return named(*group(frame, keys(pl.DataFrame(occurrences, schema=TYPES), group_by)))


def named(numbers: NDArray[np.int64], names: pl.Series) -> list[str]:
    return names.gather(numbers).to_list()


def test_photographs_of_an_occurrence_and_what_looks_the_same_are_one_group() -> None:
    images = [("g1", "a"), ("g1", "b"), ("g2", "b"), ("g3", "c"), ("g4", "d"), ("g4", "c"), ("g5", "e")]
    groups = grouped(images, [])
    assert [name.rsplit("\0")[-1] for name in groups] == ["g1", "g1", "g1", "g3", "g3", "g3", "g5"]


def test_an_id_in_two_species_is_two_occurrences() -> None:
    frame = pl.DataFrame({"gbif_id": ["1", "1"], "species_key": ["s", "t"], "cluster": ["a", "b"]})
    assert len(set(named(*group(frame, keys(pl.DataFrame(schema=TYPES), ()))))) == 2


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (("Ann", "2020-05-01"), ("Ann", "2020-05-01T12:00:00"), True),
        ((" Ann", "2020-05-01"), ("Ann ", "2020-05-01 12:00"), True),
        (("Zo\u00eb", "2020-05-01"), ("Zoe\u0308", "2020-05-01"), True),
        (("Zoe", "2020-05-01"), ("Zo\u00eb", "2020-05-01"), False),
        (("Ann", "2020-05-01"), ("Ann", "2020-05-02"), False),
        (("Ann", "2020-05-01"), ("Bob", "2020-05-01"), False),
        (("", "2020-05-01"), ("", "2020-05-01"), False),
        (("Ann", ""), ("Ann", ""), False),
        (("Ann", "2020-05"), ("Ann", "2020-05"), False),
        (("Ann", "2020-05-01/2020-05-09"), ("Ann", "2020-05-01/2020-05-09"), False),
    ],
)
def test_an_observers_day_is_one_group_where_both_are_known(
    one: tuple[str, str], other: tuple[str, str], together: bool
) -> None:
    occurrences = [occurrence(g, recorded_by=who, event_date=day) for g, (who, day) in (("g1", one), ("g2", other))]
    groups = grouped([("g1", "a"), ("g2", "b")], occurrences, "observer-day")
    assert (groups[0] == groups[1]) == together
    groups = grouped([("g1", "a"), ("g2", "b")], occurrences)
    assert groups[0] != groups[1]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((47.301, 8.502), (47.309, 8.508), True),
        ((-47.301, -8.502), (-47.309, -8.508), True),
        ((47.301, 8.502), (47.311, 8.502), False),
        ((0.0, 0.0), (0.0, 0.0), False),
        ((None, 8.5), (None, 8.5), False),
        ((float("nan"), 8.5), (float("nan"), 8.5), False),
    ],
)
def test_a_place_is_one_group_where_it_is_known(one: Any, other: Any, together: bool) -> None:
    occurrences = [
        occurrence(g, decimal_latitude=north, decimal_longitude=east)
        for g, (north, east) in (("g1", one), ("g2", other))
    ]
    groups = grouped([("g1", "a"), ("g2", "b")], occurrences, "place")
    assert (groups[0] == groups[1]) == together


def test_days_link_places_and_places_link_days() -> None:
    known = {
        "g1": ("Ann", 1.001), "g2": ("Ann", 5.001), "g3": ("Bob", 5.002), "g4": ("Bob", 9.0), "g5": ("Cleo", 7.0),
    }  # fmt: skip
    occurrences = [
        occurrence(g, recorded_by=who, event_date="2020-05-01", decimal_latitude=north, decimal_longitude=1.0)
        for g, (who, north) in known.items()
    ]
    groups = grouped([(g, g) for g in known], occurrences, "observer-day", "place")
    assert len(set(groups[:4])) == 1
    assert groups[4] != groups[0]
    assert {name.split("\0")[0] for name in groups} == {"place"}


def test_further_occurrences_of_a_photograph_link_its_own() -> None:
    images = pl.DataFrame({"gbif_id": ["g1", "g2", "g3"], "species_key": "s", "cluster": ["a", "b", "c"]})
    shared = pl.DataFrame({"species_key": ["s", "s"], "gbif_id": ["g2", "none"], "cluster": ["a", "a"]})
    groups = named(*group(images, keys(pl.DataFrame(schema=TYPES), ()), shared))
    assert len(groups) == 3
    assert groups[0] == groups[1] != groups[2]
