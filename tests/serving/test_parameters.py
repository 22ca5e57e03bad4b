"""serving.parameters: what a request may say, in its address and in its form."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from aitax_ray.serving.assessment import Observation
from aitax_ray.serving.parameters import Parameters


def test_where_and_when_are_optional_and_repeated_as_given() -> None:
    assert Parameters().observation is None
    given = Parameters(lat="47.5", lon="-3", date="2026-05-01T10:00:00Z")
    assert given.observation == Observation(lat=47.5, lon=-3.0, date="2026-05-01T10:00:00Z")
    assert Parameters(date="2026-05-01").observation == Observation(date="2026-05-01")
    assert Observation(date="2026-05-01").model_dump() == {"date": "2026-05-01"}


def test_a_day_may_be_ahead_by_the_time_zones() -> None:
    tomorrow = datetime.now(UTC) + timedelta(hours=14)
    assert Parameters(date=tomorrow.date().isoformat()).observation is not None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"lat": "91", "lon": "0"}, "less than or equal to 90"),
        ({"lat": "0", "lon": "-180.1"}, "greater than or equal to -180"),
        ({"lat": "nan", "lon": "0"}, "less than or equal|finite|greater than or equal"),
        ({"lat": "north", "lon": "0"}, "valid number"),
        ({"lat": "1"}, "both lat and lon"),
        ({"lon": "1"}, "both lat and lon"),
        ({"date": "yesterday"}, "ISO 8601"),
        ({"date": "2026-02-30"}, "ISO 8601"),
        ({"date": "1066-10-14"}, "between 1600 and today"),
        ({"date": "2999-01-01"}, "between 1600 and today"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_reason(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Parameters.model_validate(given)
    with pytest.raises(RequestValidationError) as caught:
        Parameters().with_fields({name: [value] for name, value in given.items()})
    assert caught.value.errors()[0]["loc"][0] == "body"


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1"])
@pytest.mark.parametrize("name", ["no-reject", "detailed"])
def test_truth_is_spelled_in_many_ways(name: str, text: str) -> None:
    no = {"true": "false", "TRUE": "FALSE", "True": "False", "1": "0"}[text]
    assert Parameters.model_validate({name: text}).model_dump(by_alias=True)[name] is True
    assert Parameters.model_validate({name: no}).model_dump(by_alias=True)[name] is False


def test_unknown_parameters_and_those_without_a_value_are_ignored() -> None:
    assert Parameters.model_validate({"lat": "", "no-reject": "", "lang": "", "api-key": "k"}) == Parameters()


def test_fields_of_a_form_replace_parameters_of_the_address() -> None:
    both = Parameters.model_validate({"lang": "fr", "lat": 1, "lon": 2}).with_fields({"lang": ["de", "es"], "x": ["y"]})
    assert (both.lang, both.lat, both.lon) == ("es", 1, 2)
