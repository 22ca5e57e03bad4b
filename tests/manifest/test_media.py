import pytest

from aitax_ray.manifest import media as rules
from aitax_ray.schemas import MEDIA, image_id
from tests.archives import sort_out_download
from tests.gbif_download import Row, occurrence, photo

OCCURRENCES = [
    occurrence("1", datasetKey="d1"),
    occurrence("2", datasetKey="d2"),
    occurrence("4", "", taxonRank="GENUS", datasetKey="d2"),
]
NO_SPECIES_KEY = "no_species_key"


def reason_of(**columns: str) -> str:
    """Why a photograph with these columns is dropped, "" when it is kept."""
    return sort_out_download(OCCURRENCES, [photo("1", "http://x.org/1") | columns]).reasons.get(0, "")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, ""),
        ({"type": "STILLIMAGE "}, ""),
        ({"type": "http://purl.org/dc/dcmitype/StillImage"}, ""),
        ({"type": "image"}, ""),
        ({"type": "Photograph"}, ""),
        ({"type": "", "format": "image/png"}, ""),
        ({"type": "image/jpeg", "format": "StillImage"}, ""),
        ({"type": "photo", "format": ""}, ""),
        ({"type": "Still_Image", "format": ""}, ""),
        ({"type": "Digital still image", "format": ""}, ""),
        ({"type": "Fotografía", "format": ""}, ""),
        ({"type": "写真", "format": ""}, ""),
        ({"type": "StillImage|image/jpeg", "format": ""}, ""),
        ({"type": "habitus", "format": "image/jpeg"}, ""),
        ({"type": "habitus", "format": "", "identifier": "http://x.org/1.jpg"}, ""),
        ({"type": "habitus", "format": ""}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": "jpeg"}, ""),
        ({"type": "", "format": "TIFF image"}, ""),
        ({"type": "JPG", "format": ""}, ""),
        ({"type": "Specimen image", "format": ""}, ""),
        ({"type": "Image; StillImage", "format": ""}, ""),
        ({"type": "dcmitype:StillImage", "format": ""}, ""),
        ({"type": "Fotoğraf", "format": ""}, ""),
        ({"type": "Снимок", "format": ""}, ""),
        ({"type": "Moving picture", "format": ""}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "PhysicalObject", "format": "image/jpeg"}, ""),
        ({"type": "PhysicalObject", "format": "", "identifier": "http://x.org/1.jpg"}, ""),
        ({"type": "PhysicalObject", "format": ""}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "Text", "format": "image/jpeg"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "StillImage", "format": "audio/mpeg"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "StillImage", "format": "video/mp4"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "http://purl.org/dc/dcmitype/Sound", "format": "image/png"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "Moving Image", "format": "image/gif"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": "IMAGE/JPEG"}, ""),
        ({"format": ""}, ""),
        ({"format": "text/html"}, ""),
        ({"type": "", "format": "", "identifier": "http://x.org/1.JPG"}, ""),
        ({"type": "", "format": "", "identifier": "http://x.org/1.png?size=2"}, ""),
        ({"type": "", "format": "", "identifier": "", "references": "http://x.org/1.jpeg#a"}, ""),
        ({"type": "Sound", "format": "audio/mpeg"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "Sound", "identifier": "http://x.org/sonogram.png"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "MovingImage", "format": "image/gif"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "InteractiveResource", "format": "image/jpeg"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": "text/html"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": ""}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": "", "identifier": "http://x.org/1.jpg/page"}, rules.NOT_A_PHOTOGRAPH),
        ({"identifier": ""}, rules.NO_URL),
        ({"identifier": "  ", "references": " "}, rules.NO_URL),
        ({"identifier": "ftp://x.org/1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "file:///etc/passwd"}, rules.BAD_URL_SCHEME),
        ({"identifier": "data:image/png;base64,AAAA"}, rules.BAD_URL_SCHEME),
        ({"identifier": "www.x.org/1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "http://"}, rules.BAD_URL_SCHEME),
        ({"identifier": "http:///1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "", "references": "ftp://x.org/1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "HTTPS://x.org/1.jpg"}, ""),
        ({"gbifID": "99"}, rules.ORPHAN),
        ({"gbifID": ""}, rules.ORPHAN),
        ({"gbifID": "4"}, NO_SPECIES_KEY),
    ],
)
def test_a_row_that_cannot_be_used_has_a_reason(columns: Row, reason: str) -> None:
    assert reason_of(**columns) == reason


def test_of_several_reasons_the_first_counts() -> None:
    rows = [
        photo("99", "ftp://x.org/1", type="Sound"),
        photo("99", ""),
        photo("99", "ftp://x.org/1"),
        photo("99", "http://x.org/1"),
        photo("4", "http://x.org/1"),
        photo("2", "http://x.org/1"),
        photo("1", "http://x.org/1"),
    ]
    found = sort_out_download(OCCURRENCES, rows, datasets=["d1"])
    expected = [rules.NOT_A_PHOTOGRAPH, rules.NO_URL, rules.BAD_URL_SCHEME, rules.ORPHAN, NO_SPECIES_KEY]
    assert found.reasons == dict(enumerate([*expected, rules.OTHER_DATASET]))
    assert found.media["gbif_id"].to_list() == ["1"]


@pytest.mark.parametrize(
    ("columns", "url", "from_references"),
    [
        ({"identifier": " http://x.org/with space/1.jpg "}, "http://x.org/with%20space/1.jpg", False),
        ({"identifier": "\u00a0http://x.org/1\x00"}, "http://x.org/1", False),
        ({"identifier": "http://x.org/i?imageId=7&s=1"}, "http://x.org/i?imageId=7&s=1", False),
        ({"identifier": "http://x.org/%20?a=b#c"}, "http://x.org/%20?a=b#c", False),
        ({"identifier": "", "references": " http://x.org/r r"}, "http://x.org/r%20r", True),
        ({"identifier": " ", "references": "http://x.org/r.jpg"}, "http://x.org/r.jpg", True),
        ({"identifier": "http://x.org/1.jpg", "references": "http://x.org/page"}, "http://x.org/1.jpg", False),
    ],
)
def test_the_url_is_cleaned_and_keeps_its_query(columns: Row, url: str, from_references: bool) -> None:
    media = sort_out_download(OCCURRENCES, [photo("1", "") | columns]).media
    assert media.select("url", "image_id", "url_from_references").rows() == [(url, image_id(url), from_references)]


def test_urls_that_differ_in_their_query_are_different_photographs() -> None:
    rows = [photo("1", f"http://x.org/i?imageId={i}") for i in range(3)]
    assert sort_out_download(OCCURRENCES, rows).counts == {"": 3}


def test_a_photograph_keeps_its_own_rights_and_what_else_is_told_of_it() -> None:
    row = photo("1", "http://x.org/1", license="CC BY 4.0", creator="Ann", rightsHolder="Museum", publisher="P")
    row |= {"references": "http://x.org/page", "title": "T", "description": 1001 * "d"}
    media = sort_out_download(OCCURRENCES, [row]).media
    assert media.columns == MEDIA.names
    assert media.row(0, named=True) == {
        "image_id": image_id("http://x.org/1"),
        "url": "http://x.org/1",
        "gbif_id": "1",
        "species_key": "11",
        "license": "CC BY 4.0",
        "license_id": "CC-BY-4.0",
        "creator": "Ann",
        "rights_holder": "Museum",
        "publisher": "P",
        "dataset_key": "d1",
        "format": "image/jpeg",
        "references": "http://x.org/page",
        "title": "T",
        "description": 1000 * "d",
        "url_from_references": False,
    }


@pytest.mark.parametrize(
    ("datasets", "kept"), [([], ["1", "2"]), (["d1"], ["1"]), (["d2", "d1"], ["1", "2"]), (["it's none"], [])]
)
def test_only_the_datasets_that_are_named_are_taken(datasets: list[str], kept: list[str]) -> None:
    rows = [photo("1", "http://x.org/1"), photo("2", "http://x.org/2")]
    found = sort_out_download(OCCURRENCES, rows, datasets=datasets)
    assert sorted(found.media["gbif_id"]) == kept
    assert found.counts[rules.OTHER_DATASET] == 2 - len(kept)
