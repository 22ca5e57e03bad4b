"""The parameters of a request for identification, in its address or in its form: what several formats share."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_snake

from aitax_ray.serving.assessment import Observation

FIRST_YEAR = 1600  # before the first photograph, and before the oldest specimens of herbaria


class Parameters(BaseModel):
    """Parameters of all formats. Unknown ones are ignored, and so are those without a value."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=lambda name: to_snake(name).replace("_", "-")
    )

    lang: Annotated[str, Field(description="Language of common names: ISO 639-1, such as fr.")] = "en"
    no_reject: Annotated[bool, Field(description="List species also if probably none of them is right.")] = False
    detailed: Annotated[bool, Field(description="Add the sums of the scores by genus and by family.")] = False
    lat: Annotated[
        float | None, Field(ge=-90, le=90, description="Latitude of the individual in degrees; the answer repeats it.")
    ] = None
    lon: Annotated[float | None, Field(ge=-180, le=180, description="Its longitude in degrees.")] = None
    date: Annotated[
        str | None, Field(max_length=40, description="Day or time when it was seen: ISO 8601, such as 2026-05-01.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, Mapping) else given

    @field_validator("date")
    @classmethod
    def _check_date(cls, date: str | None) -> str | None:
        if date is None:
            return None
        try:
            when = datetime.fromisoformat(date)
        except ValueError:
            raise ValueError("write a date as ISO 8601 does, such as 2026-05-01") from None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        if when.year < FIRST_YEAR or when > datetime.now(UTC) + timedelta(days=1):  # a day: of any time zone
            raise ValueError(f"the date has to lie between {FIRST_YEAR} and today")
        return date

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise ValueError("give both lat and lon, or neither")
        return self

    @property
    def observation(self) -> Observation | None:
        """Where and when the individual was seen; None if the request says nothing of it."""
        if self.lat is None and self.date is None:
            return None
        return Observation(lat=self.lat, lon=self.lon, date=self.date)

    def with_fields(self, fields: Mapping[str, Sequence[str]], lists: frozenset[str] = frozenset()) -> Self:
        """Add the fields of a form, which replace parameters of the same name in the address.

        All values of the fields in `lists` count, of others the last. Raises RequestValidationError.
        """
        known = self.model_dump(by_alias=True, exclude_unset=True)
        given = {name: list(values) if name in lists else values[-1] for name, values in fields.items()}
        try:
            return type(self).model_validate(known | given)
        except ValidationError as error:
            raise RequestValidationError(
                [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            ) from error
