from typing import Any

import polars as pl
import pytest

from aitax_ray.index.overlap import COLUMNS, IN_TEST, IN_TRAIN, NO_TRAINING_IMAGES, OCCURRENCE, find_overlap

HASHES = {name: bytes([number]) * 32 for number, name in enumerate("abcdefghij", 30)}
TYPES: Any = dict.fromkeys(COLUMNS, pl.String) | {"phash": pl.Binary}


def photographs(*rows: dict[str, str]) -> pl.DataFrame:
    """A row per photograph: all that is not given is its own."""
    made = []
    for row in rows:
        key = row["image_id"]
        own = {"gbif_id": f"occurrence {key}", "species_key": "A", "split": "train", "group": f"group {key}"}
        own |= {"jpeg_sha256": f"sha {key}", "phash": None}
        made.append(own | row)
    return pl.DataFrame(made, TYPES)


def reasons(
    here: pl.DataFrame, other: pl.DataFrame, known: list[str] | None = None, max_distance: int = 16
) -> list[str]:
    return find_overlap(here, other, ["A", "B"] if known is None else known, max_distance).to_list()


def test_a_photograph_that_is_in_both_roots_counts_once_and_never_leaves_the_side_that_it_has_here() -> None:
    here = photographs(*({"image_id": side, "split": side} for side in ("train", "val", "test", "held_out")))
    other = photographs(*({"image_id": name} for name in ("train", "val", "test", "held_out", "fresh")))
    assert reasons(here, other) == [IN_TRAIN, IN_TEST, IN_TEST, IN_TEST, ""]


@pytest.mark.parametrize("side", ["train", "val", "test"])
def test_what_the_model_was_trained_with_does_not_test_it(side: str) -> None:
    other = photographs({"image_id": "same", "split": side})
    assert reasons(photographs({"image_id": "same"}), other) == [IN_TRAIN]


def test_photographs_with_equal_pixels_or_nearly_equal_hashes_are_the_same() -> None:
    near = bytes([31]) + bytes([30]) * 31
    here = photographs(
        {"image_id": "1", "split": "test", "jpeg_sha256": "equal"}, {"image_id": "2", "phash": HASHES["a"]}
    )
    other = photographs(
        {"image_id": "3", "jpeg_sha256": "equal"},
        {"image_id": "4", "phash": near},
        {"image_id": "5", "phash": HASHES["d"]},
    )
    assert reasons(here, other) == [IN_TEST, IN_TRAIN, ""]
    assert reasons(here, other, max_distance=0) == [IN_TEST, "", ""]


def test_a_copy_counts_also_when_it_is_listed_under_another_species() -> None:
    here = photographs({"image_id": "1", "split": "val", "jpeg_sha256": "equal"})
    other = photographs({"image_id": "2", "species_key": "C", "jpeg_sha256": "equal"})
    assert reasons(here, other) == [IN_TEST]


@pytest.mark.parametrize("keys", [{"gbif_id": "one"}, {"group": "one"}])
def test_an_occurrence_stays_on_one_side(keys: dict[str, str]) -> None:
    here = photographs({"image_id": "1", "split": "test"} | keys, {"image_id": "2"} | dict.fromkeys(keys, "two"))
    other = photographs(
        {"image_id": "3"} | keys,
        {"image_id": "4", "split": "test"} | keys,
        {"image_id": "5"} | dict.fromkeys(keys, "two"),
        {"image_id": "6", "split": "val"} | dict.fromkeys(keys, "two"),
    )
    assert reasons(here, other) == [OCCURRENCE, "", "", OCCURRENCE]


def test_the_same_number_under_another_species_is_another_occurrence() -> None:
    here = photographs({"image_id": "1", "split": "test", "gbif_id": "7"})
    assert reasons(here, photographs({"image_id": "2", "species_key": "B", "gbif_id": "7"})) == [""]


def test_a_new_species_needs_a_training_photograph_that_is_added() -> None:
    here = photographs({"image_id": "1", "jpeg_sha256": "equal"})
    other = photographs(
        {"image_id": "2", "species_key": "C", "jpeg_sha256": "equal"},
        {"image_id": "3", "species_key": "C", "split": "test"},
        {"image_id": "4", "species_key": "D", "split": "val"},
        {"image_id": "5", "species_key": "D"},
        {"image_id": "6", "species_key": "B", "split": "test"},
    )
    assert reasons(here, other) == [IN_TRAIN, NO_TRAINING_IMAGES, "", "", ""]


def test_nothing_to_compare_with_is_no_error() -> None:
    assert reasons(photographs(), photographs({"image_id": "1"})) == [""]
    assert reasons(photographs({"image_id": "1"}), photographs()) == []
