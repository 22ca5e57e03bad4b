from typing import Any

import pytest

from aitax_ray.errors import GbifError
from aitax_ray.gbif.answer import describe, read_count, read_object, read_objects, read_text


def test_what_is_missing_is_empty() -> None:
    for body in ({}, {"x": None}):
        assert (read_count(body, "x"), read_text(body, "x"), read_object(body, "x"), read_objects(body, "x")) == (
            0,
            "",
            {},
            [],
        )


def test_what_is_as_it_should_be_is_given() -> None:
    body: dict[str, Any] = {"number": 3, "text": "a", "object": {"b": 1}, "list": [{}]}
    assert (read_count(body, "number"), read_text(body, "text")) == (3, "a")
    assert (read_object(body, "object"), read_objects(body, "list")) == ({"b": 1}, [{}])


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        *((read_count, value, "a number") for value in ("3", 3.5, -1, True, [3], float("nan"))),
        *((read_text, value, "a text") for value in (3, ["a"], {"a": 1})),
        *((read_object, value, "an object") for value in ("a", [{}], 1)),
        *((read_objects, value, "a list of objects") for value in ("a", {}, [1], [{}, None])),
    ],
)
def test_a_value_of_another_type_is_an_error_in_one_sentence(read: Any, value: Any, expected: str) -> None:
    with pytest.raises(GbifError, match=f"GBIF answers with count .*, not {expected}: check --gbif-url, or try later"):
        read({"count": value}, "count")


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(GbifError) as raised:
        read_count({"count": "9" * 1000}, "count")
    assert len(str(raised.value)) < 200


def test_a_status_comes_with_its_reason_where_there_is_one() -> None:
    assert describe(400, "Invalid\n range") == "400 (Invalid range)"
    assert describe(503, {"a": 1}) == describe(503, "") == "503"
    assert len(describe(400, "x" * 1000)) < 250
    assert describe(400, "no\x1b[2J") == r"400 (no\x1b[2J)"
