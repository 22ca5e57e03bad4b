"""The models of the wire format `pn`, version 2 of the Pl@ntNet API. Its spellings are made here only.

Clients differ in what they read, and the strict ones need every key: what is not known is "" or an empty list. Only
`gbif`, which some cannot read as null, is left out where there is none. The format is documented at
https://my.plantnet.org/doc/api/identify.
"""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from aitax_ray.serving.assessment import Assessment, Kept, Observation, left_out_if_none


class PnModel(BaseModel):
    """The base of all models of this format."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class PnQuery(PnModel):
    """The request, as it was understood."""

    project: str
    images: list[str]
    """The address of a photograph, or the md5 of an upload."""
    organs: list[str]
    include_related_images: bool
    no_reject: bool
    type: str
    """As the request gives it; the engine has no types."""


class PnOrgan(PnModel):
    """The organ on a photograph. The engine predicts none: it is the one that the request names, or "auto"."""

    image: str
    filename: str
    organ: str
    score: float
    """1 for an organ that the request names, else 0."""


class PnName(PnModel):
    """The name of a genus or family."""

    scientific_name_without_author: str
    scientific_name_authorship: str = ""
    scientific_name: str


class PnSpecies(PnModel):
    """A species."""

    scientific_name_without_author: str
    scientific_name_authorship: str
    genus: PnName
    family: PnName
    common_names: list[str]
    scientific_name: str


class PnDate(PnModel):
    """When a photograph was taken. The web component waits for ever if there is no such object."""

    timestamp: int
    """ms since 1970; 0 where it is not known."""
    string: str
    """ISO 8601: a day, a month or a year; "" where it is not known."""


class PnUrls(PnModel):
    """Addresses of a photograph: the original, and the thumbnail in place of the medium and small ones."""

    o: str
    m: str
    s: str


class PnImage(PnModel):
    """A similar photograph."""

    organ: str
    author: str
    license: str
    date: PnDate
    url: PnUrls
    citation: str


class PnId(PnModel):
    """An identifier, always a string."""

    id: str


class PnResult(PnModel):
    """A candidate."""

    score: float
    species: PnSpecies
    images: list[PnImage] | None = left_out_if_none()
    """Only if the request asks for related images."""
    gbif: PnId | None = left_out_if_none()
    """Left out where the key is none of GBIF's."""
    is_added: bool
    """Whether the engine knows the species without training. Other clients ignore it."""


class PnGenus(PnModel):
    """A genus, with the sum of the scores of its species."""

    score: float
    genus: PnName


class PnFamily(PnModel):
    """A family, with the sum of the scores of its species."""

    score: float
    family: PnName


class PnOthers(PnModel):
    """Genera and families, best first."""

    genus: list[PnGenus]
    family: list[PnFamily]


class PnAnswer(PnModel):
    """The answer of /v2/identify: the results with the highest score come first."""

    query: PnQuery
    predicted_organs: list[PnOrgan]
    language: str
    prefered_referential: str
    best_match: str
    results: list[PnResult]
    other_results: PnOthers | None = left_out_if_none()
    """Only for requests with `detailed`."""
    version: str
    remaining_identification_requests: int
    # Ours: older clients ignore them.
    assessment: Assessment
    observation: Observation | None = left_out_if_none()
    """Where and when the individual was seen, if the request says it."""
    kept: Kept | None = left_out_if_none()
    """How to delete the photographs, if the service keeps them."""


class PnError(PnModel):
    """The body of every error, also in the format `nia`."""

    status_code: int
    error: str
    """The phrase of the status."""
    message: str
