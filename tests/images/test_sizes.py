import pytest

from aitax_ray.images.sizes import IMAGE_CACHE, ORIGINAL, SIZED_COPY, Copy, cached_copy, copies

S3, STATIC = "https://inaturalist-open-data.s3.amazonaws.com/photos", "https://static.inaturalist.org/photos"


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [
        (224, ["medium", "large", "original"]),
        (333, ["medium", "large", "original"]),
        (334, ["large", "original"]),
        (512, ["large", "original"]),
        (683, ["original"]),
    ],
)
@pytest.mark.parametrize(
    "url", [f"{S3}/12/%s.jpg", f"{STATIC}/12/%s.jpeg", f"{S3}/12/%s.JPG", f"{STATIC}/12/%s.png?165"]
)
def test_the_copies_that_are_large_enough_are_asked_for_and_the_original_last(
    url: str, image_size: int, sizes: list[str]
) -> None:
    found = copies(url % "original", image_size)
    assert [copy.url for copy in found] == [url % size for size in sizes]
    assert [copy.source for copy in found] == [SIZED_COPY] * (len(sizes) - 1) + [ORIGINAL]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/photos/12/original.jpg",
        f"{S3}/12/large.jpg",
        f"{S3}/twelve/original.jpg",
        "https://inaturalist-open-data.s3.amazonaws.com.example.org/photos/12/original.jpg",
        "https://example.org/?u=https://static.inaturalist.org/photos/12/original.jpg",
        "not a URL",
    ],
)
def test_other_photographs_have_only_the_original(url: str) -> None:
    assert copies(url, 224) == [Copy(url, ORIGINAL)]


@pytest.mark.parametrize(
    ("stored", "longer_side", "enough"),
    [
        ((400, 300), 500, True),
        ((500, 200), 500, False),  # shrunk to 500, and too low for it
        ((200, 500), 500, False),
        ((499, 200), 500, True),  # the photograph is no larger
        ((1200, 90), 1024, True),  # as large as the longest are stored
        ((200, 100), 0, True),
    ],
)
def test_a_copy_is_enough_when_the_original_would_be_stored_no_larger(
    stored: tuple[int, int], longer_side: int, enough: bool
) -> None:
    assert Copy("", SIZED_COPY, longer_side).covers(*stored, image_size=300, max_elongation=4) is enough


def test_gbif_keeps_copies_by_occurrence_and_md5_of_the_url() -> None:
    copy = cached_copy("https://api.gbif.org/", "123", "hello")
    assert copy == Copy(
        "https://api.gbif.org/v1/image/cache/occurrence/123/media/5d41402abc4b2a76b9719d911017c592", IMAGE_CACHE
    )
