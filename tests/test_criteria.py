from datetime import UTC, datetime

import polars as pl
import pytest

from aitax_ray.criteria import Criteria, are_similar, check_value, names_in, normalise_name, normalise_url
from aitax_ray.errors import SettingsError
from aitax_ray.takedowns import Kind, Request

IMAGE = "0a" * 20


def request(kind: Kind, value: str, **more: object) -> Request:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return Request.model_validate({"kind": kind, "value": value, "requested": time} | more)


def found(requests: list[Request], **columns: list[str]) -> list[bool]:
    return Criteria(requests).find(pl.DataFrame(columns)).to_list()


@pytest.mark.parametrize(
    "other",
    [
        "http://photos.org/A%20b/1.jpg?v=2",
        "https://www.photos.org/A b/1.jpg?v=2",
        "HTTPS://ann:secret@Photos.ORG:443/A%20b/1.jpg?v=2#top",
        " https://photos.org/A b/1.jpg?v=2 ",
        "https://photos.org:443/A b/1.jpg?v=2",
        "https://photos.org/A b/1.jpg/?v=2",
        "https://photos.org/A%20b/1%2Ejpg?v=2",
    ],
)
def test_spellings_of_an_address_are_one(other: str) -> None:
    address = "https://photos.org/A b/1.jpg?v=2"
    assert normalise_url(other) == normalise_url(address)
    assert found([request("url", address)], url=[other, "https://photos.org/A b/2.jpg?v=2"]) == [True, False]
    assert found([request("url", other)], url=[address]) == [True]


@pytest.mark.parametrize(
    "other", ["https://photos.org/a.jpg", "https://photos.org/A.jpg?v=3", "https://other.org/A.jpg?v=2", "", "A.jpg"]
)
def test_addresses_of_other_photographs_are_not(other: str) -> None:
    assert found([request("url", "https://photos.org/A.jpg?v=2")], url=[other]) == [False]


def test_an_address_without_a_latin_letter_is_found() -> None:
    wanted = check_value(request("url", "https://фото.рф/жаба"))
    assert found([wanted], url=["http://фото.рф/%D0%B6%D0%B0%D0%B1%D0%B0", "http://x.org/1"]) == [True, False]


def test_an_address_that_cannot_be_read_is_no_error() -> None:
    assert (
        found([request("url", "https://x.org/17")], url=["http://[x.org/17", "https://x.org:99999/17"]) == [False] * 2
    )


def test_an_address_may_be_that_of_the_web_page_or_where_it_led_to() -> None:
    wanted = [request("url", "https://x.org/photos/17")]
    assert found(wanted, references=["http://x.org/photos/17/", "http://x.org/photos/171"]) == [True, False]
    assert found(wanted, final_url=["https://x.org/photos/17"], url=["https://y.org"]) == [True]


@pytest.mark.parametrize(
    "text",
    ["ANNA MÜLLER", " Anna  Müller ", "anna mu\u0308ller", "© Anna Müller", "(c) Anna Müller", "Bob | Anna Müller"],
)
def test_spellings_of_a_name_are_one(text: str) -> None:
    assert found([request("creator", "Anna Müller")], creator=[text], rights_holder=[""]) == [True]
    assert found([request("creator", "Anna Müller")], creator=[""], rights_holder=[text]) == [True]


@pytest.mark.parametrize("text", ["Anna Muller", "Müller, Anna", "Anna Müller and Bob", "A. Müller", "Anna", ""])
def test_names_that_may_be_other_people_are_shown_and_not_matched(text: str) -> None:
    assert found([request("creator", "Anna Müller")], creator=[text]) == [False]
    assert are_similar("Anna Müller", text) == (text not in ("Anna", "", "A. Müller"))


def test_names_that_have_nothing_in_common_are_not_similar() -> None:
    assert not are_similar("Anna Müller", "Bob Smith")
    assert not are_similar("Anna Müller", "Anna Meyer")
    assert are_similar("Anna Müller", "Anna Mueller")


def test_names_are_parted_where_publishers_part_them() -> None:
    assert names_in("Anna; Bob|Cy") == {"anna; bob|cy", "anna", "bob", "cy"}
    assert names_in(" | ") == {"|"} or names_in(" | ") == set()
    assert normalise_name(" ") == ""


def test_an_occurrence_is_compared_as_it_is() -> None:
    assert found([request("occurrence", "12")], gbif_id=["12", "1", "123"]) == [True, False, False]


def test_photographs_of_a_request_are_found_by_key_address_and_pixels() -> None:
    wanted = [request("creator", "Anna", image_ids=["k"], urls=["https://x.org/1"], jpeg_sha256=["s"])]
    assert found(wanted, image_id=["k", "l"]) == [True, False]
    assert found(wanted, url=["https://x.org/1", "https://x.org/2"]) == [True, False]
    assert found(wanted, image_id=["l", "m"], jpeg_sha256=["s", ""]) == [True, False]


def test_without_requests_nothing_is_found() -> None:
    assert not Criteria([])
    assert found([], image_id=["a"], creator=["Anna"], url=["https://x.org"]) == [False]


def test_unknown_text_matches_nothing() -> None:
    rows = pl.DataFrame(
        {"image_id": [None], "creator": [None], "url": [None]},
        schema=dict.fromkeys(("image_id", "creator", "url"), pl.String),
    )
    wanted = [request("creator", "Anna"), request("url", "https://x.org/1"), request("image", IMAGE)]
    assert Criteria(wanted).find(rows).to_list() == [False]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("image", IMAGE.upper(), IMAGE),
        ("occurrence", "https://www.gbif.org/occurrence/123/", "123"),
        ("occurrence", " urn:1 ", "urn:1"),
        ("creator", " Anna   Muster ", "Anna Muster"),
    ],
)
def test_values_get_one_spelling(kind: Kind, value: str, expected: str) -> None:
    assert check_value(request(kind, value)).value == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("image", "https://x.org/1.jpg", "--image https://x.org/1.jpg: an image_id has 40 hex digits"),
        ("url", "x.org/1.jpg", "--url x.org/1.jpg: an address begins with"),
        ("url", "https:///", "--url"),
        ("creator", " © ", "--creator is empty"),
        ("occurrence", " ", "--occurrence is empty"),
    ],
)
def test_values_that_can_be_no_criterion_are_refused(kind: Kind, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_value(request(kind, value))
