"""serving.identifier: from pixels to an answer, without Ray and HTTP."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray.engine.bundle import Thresholds, open_engine
from aitax_ray.serving.identifier import Gallery, Identifier, rank
from tests.engines import COLOURS, IMAGES_PER_SPECIES, write_small_engine

ALL = Thresholds(min_score=0, max_total_score=1)


@pytest.fixture(scope="module")
def identifier(tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    folder: Path = tmp_path_factory.mktemp("engine") / "colours-1"
    return Identifier(open_engine(str(write_small_engine(folder))))


def test_scores_are_probabilities_at_the_temperature() -> None:
    logits = np.array([[2.0, 0.0, -1.0]])
    expected = np.exp(logits[0] / 2) / np.exp(logits[0] / 2).sum()
    assert [score for _, score in rank(logits, 2.0, ALL, None)] == pytest.approx(expected.tolist())


def test_photographs_of_one_individual_are_averaged_as_probabilities() -> None:
    ranked = dict(rank(np.array([[9.0, 0.0], [0.0, 1.0]]), 1.0, ALL, None))
    sure, unsure = np.exp(9) / (1 + np.exp(9)), 1 / (1 + np.exp(1))
    assert ranked[0] == pytest.approx((sure + unsure) / 2)


def test_candidates_end_at_the_total_score_the_least_score_or_the_number_asked_for() -> None:
    logits = np.log(np.array([[0.6, 0.3, 0.08, 0.02]]))
    assert [i for i, _ in rank(logits, 1.0, ALL, None)] == [0, 1, 2, 3]
    assert [i for i, _ in rank(logits, 1.0, Thresholds(min_score=0.05, max_total_score=1), None)] == [0, 1, 2]
    assert [i for i, _ in rank(logits, 1.0, Thresholds(min_score=0, max_total_score=0.85), None)] == [0, 1]
    assert [i for i, _ in rank(logits, 1.0, ALL, 1)] == [0]


def test_there_is_always_one_candidate() -> None:
    assert len(rank(np.zeros((1, 400)), 1.0, Thresholds(min_score=0.5, max_total_score=0.9), None)) == 1


def test_huge_logits_do_not_overflow() -> None:
    assert rank(np.array([[1e5, -1e5]]), 1.0, ALL, None)[0] == (0, pytest.approx(1.0))


def test_a_score_that_is_no_number_is_zero() -> None:
    assert rank(np.array([[np.nan, 1.0]]), 1.0, ALL, 1) == [(0, 0.0)]


@pytest.mark.parametrize("key", list(COLOURS))
def test_photograph_is_named_and_illustrated(identifier: Identifier, key: str) -> None:
    answer = identifier.identify([Image.new("RGB", (40, 30), COLOURS[key])])
    best = answer.candidates[0]
    assert best.taxon.species_key == key
    assert best.score > 0.9
    assert [image.url for image in best.illustrations] == [f"https://photos.example/{key}/{n}.jpg" for n in range(3)]
    similarities = [image.similarity for image in best.illustrations]
    assert None not in similarities
    assert similarities == sorted(similarities, reverse=True)  # type: ignore[type-var]
    assert answer.engine_version == "colours-1"


def test_gallery_fills_up_with_other_photographs_of_the_species(identifier: Identifier) -> None:
    engine = identifier.engine

    class NearestIsRed:
        def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            return np.array([[1, -1, -1]]), np.array([[0.7, np.nan, np.nan]], np.float32)  # it found one

    gallery = Gallery(engine.rows, NearestIsRed())  # type: ignore[arg-type]
    red, blue = gallery.illustrate(np.ones((1, 3), np.float32), [0, 2], 3)
    assert [image.similarity for image in red] == [pytest.approx(0.7), None, None]
    assert len({image.image_id for image in red}) == 3
    assert [image.similarity for image in blue] == [None, None, None]
    assert all("/33/" in image.url for image in blue)


def test_gallery_shows_no_photograph_twice_and_no_more_than_there_are(identifier: Identifier) -> None:
    gallery = Gallery(identifier.engine.rows, identifier.engine.searcher())
    (images,) = gallery.illustrate(np.ones((2, 3), np.float32), [1], 99)
    assert len({image.image_id for image in images}) == len(images) == IMAGES_PER_SPECIES
