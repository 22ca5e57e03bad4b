from pathlib import Path

import numpy as np
import pytest

from aitax_ray.engine.bundle import open_engine
from aitax_ray.serving.gallery import Gallery
from tests.engines import IMAGES_PER_SPECIES, write_small_engine


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery(open_engine(str(write_small_engine(tmp_path_factory.mktemp("engine") / "colours"))).index(), 3)


def test_each_species_has_its_own_photographs_the_most_similar_first(gallery: Gallery) -> None:
    red, blue = gallery.illustrate(np.array([[1, 0, 0]], np.float32), [0, 2], 3)
    assert [image.url.split("/")[-2] for image in red + blue] == ["11"] * 3 + ["33"] * 3
    for images in (red, blue):
        similarities = [image.similarity for image in images]
        assert similarities == sorted(similarities, reverse=True)
    assert red[0].similarity > blue[0].similarity


def test_no_photograph_is_shown_twice_and_no_more_than_there_are(gallery: Gallery) -> None:
    (images,) = gallery.illustrate(np.ones((2, 3), np.float32), [1], 99)
    assert len({image.image_id for image in images}) == len(images) == IMAGES_PER_SPECIES


def test_a_photograph_has_the_credits_that_the_index_has(gallery: Gallery, tmp_path: Path) -> None:
    ((image,),) = gallery.illustrate(np.array([[1, -1, -1]], np.float32), [0], 1)
    assert (image.url, image.creator, image.publisher) == (
        "https://photos.example/11/0.jpg",
        "author 0",
        "Colour Society",
    )
    assert image.license == "http://creativecommons.org/licenses/by/4.0/"
