import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

from aitax_ray.dataset.duplicates import contradictions, copies, find_clusters
from tests.dataset.test_similar import altered, random_hashes

ROW = {
    "species_key": "s", "name": "Aus bus", "cluster": "c", "jpeg_sha256": "", "license_id": "CC-BY-4.0",
    "width": 400, "height": 300, "weight": 1.0,
}  # fmt: skip


def judged(*rows: dict[str, Any]) -> dict[str, tuple[str, str]]:
    frame = pl.DataFrame([ROW | {"jpeg_sha256": row["image_id"]} | row for row in rows])
    result = copies(frame)
    assert result.height == frame.height
    return dict(zip(frame["image_id"], result.iter_rows(), strict=True))


def test_pixels_and_hashes_link_what_looks_the_same() -> None:
    hashes = random_hashes(4)
    near = altered(hashes, 10)
    rows = {
        "d": ("1", hashes[0]), "b": ("2", near[0]), "c": ("2", None), "a": ("3", hashes[1]), "e": ("", hashes[2]),
        "f": (None, hashes[3]), "g": ("", None), "h": (None, None),
    }  # fmt: skip
    names = sorted(rows)
    sha256 = pl.Series([rows[name][0] for name in names], dtype=pl.String)
    known = [phash for name in names if (phash := rows[name][1]) is not None]
    is_hashed = np.array([rows[name][1] is not None for name in names])

    def found(max_distance: int) -> dict[str, str]:
        first = find_clusters(sha256, np.array(known), is_hashed, max_distance)
        return {name: names[number] for name, number in zip(names, first, strict=True)}

    assert found(16) == {"d": "b", "b": "b", "c": "b"} | {name: name for name in "aefgh"}
    assert found(0) == {"b": "b", "c": "b"} | {name: name for name in "adefgh"}
    assert not len(find_clusters(sha256.clear(), np.empty((0, 32), np.uint8), is_hashed[:0], 16))


def test_the_freest_licence_is_kept_then_the_largest_then_the_first() -> None:
    assert judged(
        {"image_id": "a", "license_id": "CC-BY-NC-4.0", "width": 4000},
        {"image_id": "b", "license_id": "CC-BY-4.0"},
        {"image_id": "c", "license_id": "CC-BY", "width": 401},
        {"image_id": "d", "license_id": "unknown", "width": 9000},
        {"image_id": "e", "license_id": "CC-BY-4.0", "width": 401},
    ) == {"c": ("", "")} | dict.fromkeys("abde", ("near_duplicate", "c"))


def test_a_doubtful_label_is_the_last_to_be_kept() -> None:
    assert judged(
        {"image_id": "a", "license_id": "CC0-1.0", "weight": 0.5}, {"image_id": "b", "license_id": "unknown"}
    ) == {"a": ("near_duplicate", "b"), "b": ("", "")}


@pytest.mark.parametrize(
    ("better", "worse"),
    [("CC0-1.0", "CC-BY-4.0"), ("CC-PDM-1.0", "CC-BY"), ("CC-BY-4.0", "CC-BY-SA-4.0"), ("CC-BY-SA-3.0", "CC-BY-NC-4.0"),
     ("CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"), ("CC-BY-NC-ND-4.0", "unknown"), ("CC-BY-NC", "all-rights-reserved")],
)  # fmt: skip
def test_a_licence_that_asks_for_less_is_kept(better: str, worse: str) -> None:
    found = judged({"image_id": "a", "license_id": worse}, {"image_id": "b", "license_id": better})
    assert found == {"a": ("near_duplicate", "b"), "b": ("", "")}


def test_equal_pixels_are_called_exact() -> None:
    rows = [{"image_id": name, "jpeg_sha256": sha} for name, sha in {"a": "1", "b": "1", "c": "2"}.items()]
    assert judged(*rows) == {"a": ("", ""), "b": ("exact_duplicate", "a"), "c": ("near_duplicate", "a")}


def test_of_several_species_all_of_it_is_contradicted_and_they_are_named() -> None:
    rows = [("c", "2", "Cus"), ("c", "1", "Aus"), ("c", "1", "Aus"), ("x", "1", "Aus"), ("y", "1", "Aus")]
    frame = pl.DataFrame(rows, ["cluster", "species_key", "name"], orient="row").with_columns(weight=pl.lit(1.0))
    assert contradictions(frame).to_list() == ["Aus | Cus"] * 3 + ["", ""]


@pytest.mark.parametrize(
    ("doubtful", "contradicted"),
    [("  c", "  c"), (" bc", " bc"), ("ab ", "ab "), (" b ", "abc"), ("abc", "abc")],
)
def test_a_doubtful_label_contradicts_none_that_is_believed(doubtful: str, contradicted: str) -> None:
    """Of the three copies "a" and "b" are of one species, "c" is of another."""
    weights = [1.0 if name == " " else 0.5 for name in doubtful]
    frame = pl.DataFrame({"cluster": "x", "species_key": ["1", "1", "2"], "name": ["A", "A", "B"], "weight": weights})
    assert contradictions(frame).to_list() == ["A | B" if name != " " else "" for name in contradicted]


def test_what_looks_like_nothing_else_stays() -> None:
    rows = [{"image_id": name, "cluster": name} for name in "abc"]
    assert judged(*rows) == dict.fromkeys("abc", ("", ""))


def test_precision_and_recall_on_planted_copies() -> None:
    """Copies as far from their originals as brighter or smaller copies are; no other is near."""
    hashes = random_hashes(2000)
    copies = np.concatenate([altered(hashes[:400], distance, seed=distance) for distance in (2, 8, 14)])
    every = np.concatenate([hashes, copies])
    found = find_clusters(pl.Series([""] * len(every)), every, np.ones(len(every), bool), 16)
    planted = np.concatenate([np.arange(2000), np.tile(np.arange(400), 3)])
    hits = (found[2000:] == planted[2000:]).sum()
    recall, precision = hits / 1200, hits / (found != np.arange(len(every))).sum()
    sys.stdout.write(f"planted copies: precision {precision:.4f}, recall {recall:.4f}\n")
    assert recall > 0.99
    assert precision == 1.0
