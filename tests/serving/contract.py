"""Requests as programs for the Pl@ntNet API put them on the wire, and models as strict as the strictest of them.

The shapes are those of nine public programs: the Node, Python, PHP and R examples and the benchmark of Pl@ntNet,
labelbox_plantnet, PlantNetAPI-Python, plantnet-mcp (two programs of this name), plantnet-field-identification and a few
bots. Only the shapes are theirs: the order of the parts, what a part lacks, how words are spelled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

BOUNDARY = "----------------------------6e52a0b0ece31697fc1d43eb"
PHOTO = "<photograph>"  # stands for the bytes of a photograph
JPEG, OCTETS = "image/jpeg", "application/octet-stream"
Part = tuple[str, str | None, str | None, str]
"""Name, file name, type, content."""


@dataclass(frozen=True)
class Shape:
    """A request. `{url}` in its query stands for the address of a photograph."""

    program: str
    method: str
    path: str
    query: str = ""
    parts: tuple[Part, ...] = ()
    form: str = ""
    """An URL-encoded body."""
    json: str = ""
    """A body that is no form, on a GET."""
    accept: str | None = "*/*"
    chunked: bool = False

    def send(self, client: httpx.Client, photo: bytes, url: str) -> httpx.Response:
        """Send the request."""
        headers = {} if self.accept is None else {"Accept": self.accept}
        content: bytes | Iterator[bytes] = b""
        if self.parts:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
            content = b"".join(_write(part, photo) for part in self.parts) + f"--{BOUNDARY}--\r\n".encode()
        elif self.form:
            headers["Content-Type"], content = "application/x-www-form-urlencoded", self.form.encode()
        elif self.json:
            headers["Content-Type"], content = "application/json", self.json.encode()
        if self.chunked:
            assert isinstance(content, bytes)
            content = iter([content[:100], content[100:]])
        query = f"?{self.query.format(url=url)}" if self.query else ""
        address = str(client.base_url).rstrip("/") + self.path + query  # "//path" alone would be another host
        request = client.build_request(self.method, address, headers=headers, content=content)
        if self.accept is None:
            del request.headers["Accept"]
        return client.send(request)


def _write(part: Part, photo: bytes) -> bytes:
    name, filename, kind, content = part
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    head += "" if filename is None else f'; filename="{filename}"'
    head += "" if kind is None else f"\r\nContent-Type: {kind}"
    return f"{head}\r\n\r\n".encode() + (photo if content == PHOTO else content.encode()) + b"\r\n"


def image(filename: str | None = "a.jpg", kind: str | None = JPEG, name: str = "images") -> Part:
    return name, filename, kind, PHOTO


def text(name: str, value: str) -> Part:
    return name, None, None, value


AUTO = text("organs", "auto")
KEY, ALL, FLORA = "api-key=K", "/v2/identify/all", "dl.colour"
AXIOS = "application/json, text/plain, */*"
LABELBOX = "api-key=K&nb-results=5&no-reject=true&include-related-images=false&lang=en"
TILES = (
    ("tile_size", "518"),
    ("tile_stride", "259"),
    ("multi_scale", "true"),
    ("min_score", "0.005"),
    ("max_rank", "1"),
)
API = "api-key=K&include-related-images=false&no-reject=false&nb-results=10&lang=en&type=kt"
FIELD = "include-related-images=False&no-reject=False&lang=en&api-key=K"

IDENTIFY = [
    Shape("benchmark", "POST", ALL, "api-key=K&nb-results=5", (image(), AUTO), accept=AXIOS),
    Shape("benchmark, several", "POST", ALL, "api-key=K&nb-results=5", (image("b.jpg"), image("c.jpg")), accept=AXIOS),
    Shape("benchmark, no reject", "POST", ALL, "api-key=K&nb-results=5&no-reject=true", (image(), AUTO), accept=AXIOS),
    Shape("labelbox", "POST", f"/v2/identify/{FLORA}", LABELBOX, (AUTO, image())),
    Shape("bci workshop", "POST", f"/v2/identify/{FLORA}", LABELBOX, (AUTO, image("k1.jpg"))),
    Shape("PlantNetAPI", "POST", ALL, f"{API}&organs=auto", (image("data/heliconius_melpomene/a.jpg", None),)),
    Shape("PlantNetAPI by URL", "GET", ALL, f"{KEY}&images={{url}}&{API}&organs=auto"),
    Shape("plantnet-mcp of Paasila", "POST", ALL, "api-key=K&lang=en", (AUTO, image())),
    Shape("bot", "POST", ALL, KEY, (image("images", None),)),
    Shape("GET with a body", "GET", ALL, f"{KEY}&images={{url}}", json='{"organs": ["auto"]}'),
    Shape(
        "plantnet-mcp of Perry",
        "POST",
        ALL,
        "api-key=K&lang=en&nb-results=5&include-related-images=false",
        (image("image0.jpg"), AUTO),
    ),
    Shape(
        "example for Node",
        "POST",
        ALL,
        "api-key=your-private-api-key",
        (text("organs", "flower"), image("image_1.jpeg"), text("organs", "leaf"), image("image_2.jpeg")),
        accept=AXIOS,
        chunked=True,
    ),
    Shape(
        "example for Python",
        "POST",
        ALL,
        "api-key=",
        (
            *(text("organs", "flower"), text("organs", "leaf")),
            *(image("../data/image_1.jpeg", None), image("../data/image_2.jpeg", None)),
        ),
        accept=None,
    ),
    Shape("example for PHP", "POST", ALL, f"include-related-images=1&lang=fr&{KEY}", (image(), image(), AUTO, AUTO)),
    Shape("example for R", "POST", ALL, f"include-related-images=FALSE&{KEY}", (image(), AUTO)),
    Shape("field-identification", "POST", ALL, FIELD, (image("a.jpg", None),)),
    Shape("HortusFox", "POST", ALL, KEY, (image("name", OCTETS),)),
    Shape("Swift", "POST", ALL, KEY, (image("a.jpg", "image/jpg"), AUTO)),
    Shape("part `image`", "POST", "/v2/identify/best", KEY, (image(name="image"),)),
    Shape("no file name", "POST", ALL, KEY, (image(None, None), AUTO)),
    Shape("slash at the end", "POST", "//v2/identify/all/", KEY, (image(), AUTO)),
    Shape("web component", "POST", ALL, f"include-related-images=true&lang=fr&{KEY}", (AUTO, image(), AUTO, image())),
    Shape("MapComplete", "GET", ALL, f"{KEY}&images={{url}}&images={{url}}"),
    Shape("kamerplanter", "POST", ALL, f"{KEY}&include-related-images=true&nb-results=3&lang=de", (image(), AUTO)),
    Shape("proxy with another token", "POST", ALL, "authenix-access-token=x&project=useful", (image(), AUTO)),
    Shape("detailed", "POST", ALL, "detailed=true&type=legacy", (image(), AUTO)),
]
OTHERS = [
    Shape("labelbox", "GET", f"/v2/projects/{FLORA}/species", "api-key=K&lang=en&pageSize=500&page=1"),
    Shape("PlantNetAPI", "GET", "/v2/species", "api-key=K&lang=en&type=kt&pageSize=1&page=1"),
    Shape("PlantNetAPI", "GET", "/v2/projects", "api-key=K&lang=en&type=kt&lat=1&lon=2"),
    Shape("plantnet-mcp", "GET", "/v2/projects", "api-key=K&lang=en"),
    Shape("PlantNetAPI", "GET", "/v2/_status"),
    Shape("PlantNetAPI", "GET", "/v2/languages", KEY),
    Shape("PlantNetAPI", "GET", "/v2/quota/daily", "api-key=K&day=2026-11-27"),
    Shape("bci workshop", "POST", "/v2/embeddings", KEY, (image("k1", JPEG, "image"),)),
]
NOT_OFFERED = [
    Shape(
        "benchmark-survey",
        "POST",
        "/v2/survey/tiles/best",
        KEY,
        (image(name="image"), *(text(*each) for each in TILES)),
        accept=AXIOS,
    ),
    Shape(
        "labelbox", "POST", f"/v2/survey/tiles/{FLORA}", KEY, (*(text(*each) for each in TILES), image(name="image"))
    ),
    Shape("labelbox", "POST", f"/v2/cost/survey/{FLORA}", KEY, form="size=224x224&tile_size=518&multi_scale=true"),
]


class Strict(BaseModel):
    """Reads as the strictest clients do: each key has to be there, in its type. Other keys do not disturb."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)


Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


class Query(Strict):
    project: Text
    images: Annotated[list[Text], Field(min_length=1)]
    organs: Annotated[list[Text], Field(min_length=1)]
    include_related_images: bool
    no_reject: bool
    type: str


class Organ(Strict):
    image: Text
    filename: str
    organ: Text
    score: Share


class Name(Strict):
    scientific_name_without_author: str
    scientific_name_authorship: str
    scientific_name: str


class Species(Name):
    genus: Name
    family: Name
    common_names: list[Text]


class Id(Strict):
    id: Annotated[str, Field(pattern=r"^\d+$")]


class Date(Strict):
    timestamp: int
    string: str


class Urls(Strict):
    o: Annotated[str, Field(pattern="^https?://")]
    m: Annotated[str, Field(pattern="^https?://")]
    s: Annotated[str, Field(pattern="^https?://")]


class Image(Strict):
    organ: Text
    author: str
    license: Text
    citation: Text
    date: Date
    url: Urls


class Result(Strict):
    score: Share
    species: Species
    gbif: Id


class Illustrated(Result):
    images: Annotated[list[Image], Field(min_length=1, max_length=6)]


class Answer(Strict):
    query: Query
    predicted_organs: list[Organ]
    language: Annotated[str, Field(pattern="^[a-z]{2}$")]
    prefered_referential: Text
    best_match: Text
    results: Annotated[list[Result], Field(min_length=1)]
    version: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d \(\d+\.\d+\)$")]
    remaining_identification_requests: int


class IllustratedAnswer(Answer):
    results: Annotated[list[Illustrated], Field(min_length=1)]


class GenusScore(Strict):
    score: Share
    genus: Name


class FamilyScore(Strict):
    score: Share
    family: Name


class Others(Strict):
    genus: Annotated[list[GenusScore], Field(min_length=1)]
    family: Annotated[list[FamilyScore], Field(min_length=1)]


class DetailedAnswer(Answer):
    other_results: Others


class Error(Strict):
    model_config = ConfigDict(extra="forbid")

    status_code: int
    error: Text
    message: Text


class SpeciesRow(Strict):
    id: Text
    common_names: list[Text]
    scientific_name_without_author: Text
    scientific_name_authorship: str
    gbif_id: int


class Project(Strict):
    id: Text
    title: Text
    name: Text
    description: Text
    species_count: int


class Status(Strict):
    status: Text


class Count(Strict):
    count: int
    total: int
    remaining: int


class Quota(Strict):
    identify: Count


class Day(Strict):
    day: Text
    quota: Quota


class Embedding(Strict):
    embeddings: Annotated[list[float], Field(min_length=2)]
    version: Text


MODELS: dict[str, Any] = {
    "species": list[SpeciesRow],
    "projects": list[Project],
    "_status": Status,
    "languages": list[Text],
    "daily": Day,
    "embeddings": Embedding,
}


class C4cImage(BaseModel):
    """As the web component reads it: a value that is null would be shown as the word."""

    model_config = ConfigDict(strict=True, extra="ignore")

    url: Annotated[str, Field(pattern="^https?://")]
    license: str
    rightsHolder: str  # noqa: N815
    publisher: str


class C4cResult(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    name: Text
    score: Share
    gbif_id: Text
    authorship: str
    vernacularName: str  # noqa: N815
    genus: str
    family: str
    images: list[C4cImage]


class C4cAnswer(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    status: Annotated[str, Field(pattern="^ok$")]
    results: list[C4cResult]


class C4cError(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    status: Annotated[str, Field(pattern="^error$")]
    code: int
    message: Text
