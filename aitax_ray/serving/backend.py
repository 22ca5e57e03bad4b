"""What the routes need of an engine, and the means by which they reach it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Path, Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.accounts import Ledger
from aitax_ray.serving.decoding import PhotoDecoder
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.record import current

if TYPE_CHECKING:
    from PIL import Image

    from aitax_ray.engine.bundle import Taxon
    from aitax_ray.engine.documents import SpeciesFigures
    from aitax_ray.engine.info import EngineInfo
    from aitax_ray.serving.c4c import C4cRefused
    from aitax_ray.serving.gallery import Picture
    from aitax_ray.serving.queries import QueryStore

EVERYTHING = ("all", "best")  # projects that clients ask for when they know none
UNLIMITED = 1_000_000  # requests that a client may still send, where there is no quota: some clients need a number


class Backend(Protocol):
    """Answers the questions of one request, from one engine: that of the Ray Serve ingress, or a stand-in."""

    info: "EngineInfo"
    taxa: "Sequence[Taxon]"
    decoder: PhotoDecoder
    project: str
    """Name of the engine in the addresses of the format `pn`."""
    ledger: Ledger | None
    """Knows the keys; None: nobody needs one."""
    figures: "Mapping[str, SpeciesFigures]"
    """What was measured of each species, by its key."""
    queries: "QueryStore | None"
    """Keeps photographs; None: none is kept."""

    @property
    def num_queries(self) -> int:
        """Number of identifications since the start."""
        ...

    @property
    def refused(self) -> "C4cRefused | None":
        """The current engine, if it cannot be used, so that another one answers."""
        ...

    async def identify(
        self, photos: "Sequence[Image.Image]", max_results: int | None, illustrate: bool = True
    ) -> Identification:
        """Identify one individual; without `illustrate`, no similar photographs are looked for."""
        ...

    async def embed(self, photo: "Image.Image") -> list[float]:
        """Compute the embedding of a photograph."""
        ...

    async def picture(self, image_id: str) -> "Picture | None":
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        ...

    async def document(self, name: str) -> bytes | None:
        """Read a page that the engine has about itself, see engine.documents; None if it has none of this name."""
        ...

    async def is_ready(self) -> bool:
        """Tell whether all parts of the engine are loaded."""
        ...

    async def fetch(self, url: str) -> bytes:
        """Fetch a photograph by its URL. Raises RequestError when that is not possible or not allowed."""
        ...


async def get_backend(request: Request) -> Backend:  # async: FastAPI calls others in a thread
    """Get the backend of this request; `make_app` has put its source into the state of the application."""
    backend: Backend = request.app.state.get_backend()
    current().engine = backend.info.version
    return backend


BackendOf = Annotated[Backend, Depends(get_backend)]


async def check_project(
    backend: BackendOf, project: Annotated[str, Path(description="all, best, or the one that /v2/projects names.")]
) -> str:
    """Check the project that a request names. Raises RequestError (404) unless it is the engine's."""
    if project not in (*EVERYTHING, backend.project):
        raise RequestError(f"Project not found: this engine has the project {backend.project}, also called all", 404)
    return project


Project = Annotated[str, Depends(check_project)]


def base_url(request: Request) -> str:
    """Give the address of the service as the client sees it, with a slash at its end."""
    url = request.base_url
    # A proxy that speaks https with clients, and http with us, says so.
    return str(url.replace(scheme="https") if request.headers.get("x-forwarded-proto") == "https" else url)


def num_remaining(request: Request) -> int:
    """Give the number of requests that this client may still send today."""
    number: int = getattr(request.state, "num_remaining", UNLIMITED)
    return number
