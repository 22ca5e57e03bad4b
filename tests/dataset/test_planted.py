"""A world of pictures with planted copies and contradictions, all the way from bytes to the data set."""

import hashlib
import io
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from aitax_ray.images.decode import Photo, normalize
from tests.dataset.test_choose import chosen
from tests.dataset.test_split import store
from tests.images.test_fingerprint import recompressed, scene

NUM, NUM_COPIED, SIZE = 120, 40, 300
COPIES = {
    "the same bytes": lambda image: image,
    "recompressed": lambda image: recompressed(image, 50),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
}


def stored(image: Image.Image) -> dict[str, Any]:
    """What the download notes of a photograph."""
    file = io.BytesIO()
    image.save(file, "BMP")
    photo = normalize(file.getvalue(), SIZE)
    assert isinstance(photo, Photo)
    return vars(photo) | {"jpeg": b"", "jpeg_sha256": hashlib.sha256(photo.jpeg).hexdigest()}


@pytest.fixture(scope="module")
def planted() -> tuple[list[tuple[str, str, str]], dict[str, dict[str, Any]], dict[str, tuple[str, str]]]:
    """Photographs, what is known of them, and for each copy its original and what it should be."""
    chance, photos, known, truth = random.Random(0), [], {}, {}
    for number in range(NUM):
        name, key = f"{number:04}", chance.choice("abcd")
        image = scene(number)
        photos.append((name, f"g{name}", key))
        known[name] = stored(image)
        if number < NUM_COPIED:
            kind = list(COPIES)[number % len(COPIES)]
            other = number % 4 == 3  # stands under another species
            photos.append(
                (f"{name}-copy", f"g{name}-copy", chance.choice([s for s in "abcd" if s != key]) if other else key)
            )
            known[f"{name}-copy"] = stored(COPIES[kind](image))
            truth[f"{name}-copy"] = (name, "conflict" if other else "duplicate")
    return photos, known, truth


def test_planted_copies_and_conflicts_are_found(tmp_path: Path, planted: Any) -> None:
    photos, known, truth = planted
    rows = chosen(store(str(tmp_path), photos, known=known))
    pairs = {(original, copy) for copy, (original, _) in truth.items()}
    clusters: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row["cluster"]:
            clusters.setdefault(row["cluster"], []).append(name)
    found = {(a, b) for names in clusters.values() for a in names for b in names if a < b}
    precision, recall = len(found & pairs) / len(found), len(found & pairs) / len(pairs)
    sys.stdout.write(f"{len(pairs)} planted copies: precision {precision:.3f}, recall {recall:.3f}\n")
    assert (precision, recall) == (1.0, 1.0)
    for copy, (original, kind) in truth.items():
        told = {rows[copy]["reason"], rows[original]["reason"]}
        assert told in ([{"conflict"}] if kind == "conflict" else [{"", "near_duplicate"}, {"", "exact_duplicate"}])
    assert {name for name, row in rows.items() if row["reason"]} <= truth.keys() | {name for name, _ in truth.values()}


def test_the_same_bytes_are_exact(tmp_path: Path, planted: Any) -> None:
    photos, known, truth = planted
    rows = chosen(store(str(tmp_path), photos, known=known), max_distance=0)
    exact = {name for name, row in rows.items() if row["reason"] == "exact_duplicate"}
    same = {copy for number, (copy, (_, kind)) in enumerate(truth.items()) if not number % 5 and kind == "duplicate"}
    assert len(same) == 6
    assert exact == same
