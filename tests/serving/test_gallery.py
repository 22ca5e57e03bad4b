import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray import schemas
from aitax_ray.engine.bundle import open_engine
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.index.search_info import BYTES_PER_ROW
from aitax_ray.serving import gallery as module
from aitax_ray.serving.findings import Illustration
from aitax_ray.serving.gallery import Gallery
from tests.engines import COLOURS, IMAGES_PER_SPECIES, thumbnail, write_small_engine
from tests.serving.galleries import key, make_gallery

RED = np.array([[1, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery(open_engine(str(write_small_engine(tmp_path_factory.mktemp("engine") / "colours"))).index(), 3)


def numbers(images: list[Illustration]) -> list[int]:
    return [int(image.image_id, 16) for image in images]


def test_each_species_has_its_own_photographs_the_most_similar_first(gallery: Gallery) -> None:
    red, blue = gallery.illustrate(RED, [0, 2], 3)
    assert [image.url.split("/")[-2] for image in red + blue] == ["11"] * 3 + ["33"] * 3
    for images in (red, blue):
        similarities = [image.similarity for image in images]
        assert similarities == sorted(similarities, reverse=True)
    assert red[0].similarity > blue[0].similarity


def test_a_species_that_is_far_from_the_photograph_has_illustrations_with_similarities_too(tmp_path: Path) -> None:
    far = make_gallery(tmp_path, [[0.99] * 300, [-0.2, -0.9, 0.1]])
    (images,) = far.illustrate(RED, [1], 2)
    assert numbers(images) == [302, 300]
    assert [image.similarity for image in images] == pytest.approx([0.1, -0.2], abs=1e-3)


def test_no_photograph_is_shown_twice_and_no_more_than_there_are(gallery: Gallery) -> None:
    (images,) = gallery.illustrate(np.ones((2, 3), np.float32), [1], 99)
    assert len({image.image_id for image in images}) == len(images) == IMAGES_PER_SPECIES
    assert gallery.illustrate(RED, [], 3) == []


def test_a_photograph_is_as_similar_as_to_the_most_similar_one_of_the_request(tmp_path: Path) -> None:
    found = make_gallery(tmp_path, [[1.0, 0.0, 0.7]])  # the last one is most similar to the mean of both
    (images,) = found.illustrate(np.array([[1, 0, 0], [0, 1, 0]], np.float32), [0], 3)
    assert sorted(numbers(images)[:2]) == [0, 1]
    assert [image.similarity for image in images] == pytest.approx([1, 1, 0.714], abs=1e-3)


def test_a_network_that_gave_no_number_does_not_break_the_answer(gallery: Gallery) -> None:
    (images,) = gallery.illustrate(np.full((1, 3), np.nan, np.float32), [0], 2)
    assert [image.similarity for image in images] == [0, 0]


def test_a_photograph_has_the_credits_that_the_index_has(gallery: Gallery) -> None:
    ((image,),) = gallery.illustrate(np.array([[1, -1, -1]], np.float32), [0], 1)
    assert (image.url, image.creator, image.rights_holder, image.publisher) == (
        "https://photos.example/11/0.jpg",
        "author 0",
        "",
        "Colour Society",
    )
    assert image.license == "http://creativecommons.org/licenses/by/4.0/"
    assert image.has_thumbnail


def test_only_occurrences_of_gbif_have_a_page_there(tmp_path: Path) -> None:
    found = make_gallery(tmp_path, [[0.9, 0.8]], is_at_gbif=[True, False])
    (images,) = found.illustrate(RED, [0], 2)
    assert [image.occurrence for image in images] == ["https://www.gbif.org/occurrence/0", ""]


def test_photographs_of_different_occurrences_are_shown_where_there_are_enough(tmp_path: Path) -> None:
    cosines = [0.99, 0.98, 0.97, 0.96, 0.5, 0.4]
    found = make_gallery(tmp_path, [cosines], gbif_id=["a", "a", "a", "b", "b", "c"])
    for num, expected in ((1, [0]), (2, [0, 3]), (3, [0, 3, 5]), (4, [0, 1, 3, 5]), (6, [0, 1, 2, 3, 4, 5])):
        assert numbers(found.illustrate(RED, [0], num)[0]) == expected


def test_an_occurrence_with_hundreds_of_photographs_hides_no_other(tmp_path: Path) -> None:
    cosines = [0.99 - 0.0001 * number for number in range(400)]
    found = make_gallery(tmp_path, [[*cosines, 0.2, 0.1]], gbif_id=["a"] * 400 + ["b", "c"])
    assert numbers(found.illustrate(RED, [0], 3)[0]) == [0, 400, 401]


def test_photographs_of_unknown_occurrences_count_as_of_different_ones(tmp_path: Path) -> None:
    found = make_gallery(tmp_path, [[0.9, 0.8, 0.7]], gbif_id=["", "", "x"])
    assert numbers(found.illustrate(RED, [0], 2)[0]) == [0, 1]


@pytest.mark.parametrize("limit", [1000, 3])
def test_a_single_permitted_photograph_is_shown_and_no_other(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COMPARED", limit)
    found = make_gallery(tmp_path, [[0.9] * 20, [0.5] * 20], is_shown=[n in (19, 20) for n in range(40)])
    assert [numbers(images) for images in found.illustrate(RED, [0, 1], 6)] == [[19], [20]]
    near = found.search(RED, 3)[0]  # all are known, though one is shown
    assert near.shape == (1, 3)
    assert (near < 20).all()


def votes_of(gallery: Gallery, vote: Vote) -> list[float]:
    votes = gallery.compare(RED, vote).votes
    assert votes is not None
    return [float(each) for each in votes[0]]


def test_withdrawn_photographs_are_neither_shown_nor_found_nor_vote(tmp_path: Path) -> None:
    found = make_gallery(tmp_path, [[0.99, 0.9, 0.8], [0.95, 0.7]], (2,))
    vote = Vote(share=1.0, power=0.0, num_neighbors=1)
    assert votes_of(found, vote) == [1, 0]
    assert found.compare(RED, Vote()).similarity == pytest.approx(0.99, abs=1e-3)
    for _ in range(2):  # the same list again changes nothing
        found.withdraw({key(0), key(1), key(99)})
    assert [numbers(images) for images in found.illustrate(RED, [0, 1], 6)] == [[2], [3, 4]]
    neighbors, similarities = found.search(RED, 4)
    assert neighbors.tolist() == [[3, 2, 4, -1]]
    assert similarities.tolist() == [pytest.approx([0.95, 0.8, 0.7, np.nan], abs=1e-3, nan_ok=True)]
    assert found.search(RED, 1)[0].tolist() == [[3]]
    assert votes_of(found, vote) == [0, 1]
    assert found.compare(RED, Vote()).similarity == pytest.approx(0.95, abs=1e-3)
    assert found.compare(RED, Vote()).votes is None  # they have no share
    assert found._permitted.num_indexed.tolist() == [1, 2]
    found.withdraw([])
    assert found.search(RED, 1)[0].tolist() == [[0]]
    assert numbers(found.illustrate(RED, [0], 1)[0]) == [0]


def test_a_species_is_illustrated_though_its_nearest_hundreds_are_withdrawn(tmp_path: Path) -> None:
    found = make_gallery(tmp_path, [[0.9] * 500, [0.1]])
    found.withdraw([key(number) for number in range(499)])
    assert [numbers(images) for images in found.illustrate(RED, [0, 1], 6)] == [[499], [500]]
    assert found.search(RED, 2)[0].tolist() == [[499, 500]]


def test_large_species_are_compared_in_part_and_their_nearest_photographs_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_COMPARED", 20)
    monkeypatch.setattr(module, "NEIGHBORS", 3)
    large = [0.5] * 10 + [0.4] * 28 + [0.999, 0.99]
    is_shown = [number != 38 for number in range(73)]
    columns = {"is_shown": is_shown, "gbif_id": [""] * 73}
    found = make_gallery(tmp_path, [large, [0.3, 0.2], [-0.1] * 30 + [-0.05]], (25,), **columns)
    first, second, third = found.illustrate(RED, [0, 1, 2], 3)
    assert numbers(first)[0] == 39  # one of the nearest of all species
    assert numbers(first)[1:] == [0, 1]
    assert numbers(second) == [40, 41]  # a small species is compared in full
    assert len(third) == 3
    assert third[0].similarity == pytest.approx(-0.1, abs=1e-3)  # the nearest one is not among those compared
    rows, similarities = found._compare([(0, 25), (25, 40)], np.array(is_shown), RED, 30)
    assert (rows.tolist(), len(similarities)) == (list(range(30)), 30)


@pytest.mark.parametrize(
    ("sizes", "total", "limit"),
    [([], 10, 0), ([3, 4], 10, 4), ([3, 40], 10, 7), ([40, 40], 10, 5), ([1, 20, 30, 2], 30, 13)],
)
def test_the_limit_lets_all_species_together_have_the_total(sizes: list[int], total: int, limit: int) -> None:
    assert module._fair_limit(sizes, total) == limit
    assert sum(min(size, limit) for size in sizes) <= total


def test_several_shards_give_the_photographs_that_one_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cosines = [rng.uniform(-1, 1, size).tolist() for size in (1, 30, 0, 12)]
    columns = {"is_shown": (rng.random(43) < 0.7).tolist(), "gbif_id": rng.integers(0, 9, 43).astype(str).tolist()}
    one = make_gallery(tmp_path / "one", cosines, **columns)
    many = make_gallery(tmp_path / "many", cosines, (5, 6, 33), **columns)
    for queries in (RED, rng.normal(size=(4, 3)).astype(np.float32)):
        assert many.illustrate(queries, [3, 2, 1, 0], 4) == one.illustrate(queries, [3, 2, 1, 0], 4)


def test_the_thumbnail_of_a_photograph_is_found_by_its_key(gallery: Gallery) -> None:
    for species, number in (("11", 0), ("33", 2)):
        picture = gallery.picture(schemas.image_id(f"https://photos.example/{species}/{number}.jpg"))
        assert picture is not None
        assert picture.content == thumbnail(COLOURS[species], number)
        assert Image.open(io.BytesIO(picture.content)).size == (16 + number, 12)
        assert picture.license_address == "https://creativecommons.org/licenses/by/4.0/"
    assert gallery.picture(schemas.image_id("other")) is None


def test_no_thumbnail_is_given_of_photographs_that_may_not_be_shown_or_have_none(tmp_path: Path) -> None:
    found = make_gallery(
        tmp_path,
        [[0.9, 0.8, 0.7, 0.6]],
        is_shown=[True, False, True, True],
        thumbnail_length=[3, 3, 0, 2],
        thumbnail_offset=[1, 1, 0, 4],
        license_id=["unknown"] * 4,
        license=["https://x.org/terms", "", "", "all mine"],
    )
    (tmp_path / "00000" / "thumbnails.bin").write_bytes(b"-one-")
    pictures = [found.picture(key(number)) for number in range(4)]
    assert pictures[0] is not None
    assert (pictures[0].content, pictures[0].license_address) == (b"one", "https://x.org/terms")
    assert pictures[1:3] == [None, None]
    assert pictures[3] is not None
    assert pictures[3].license_address == ""
    found.withdraw([key(0)])
    assert found.picture(key(0)) is None
    assert [image.has_thumbnail for image in found.illustrate(RED, [0], 4)[0]] == [False, True]


def test_a_photograph_takes_no_python_object(tmp_path: Path) -> None:
    num = 20_000
    rng = np.random.default_rng(0)
    index = make_gallery(tmp_path, [rng.uniform(-1, 1, num).tolist()])._index
    index.search(RED, 1)  # loads the search
    tracemalloc.start()
    try:
        found = Gallery(index, 1)
        assert len(found.illustrate(RED, [0], 6)[0]) == 6
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < (BYTES_PER_ROW + 3) * num  # and what an answer needs
