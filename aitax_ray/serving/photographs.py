"""The photographs of a request: uploaded or named by their URLs, decoded to pixels, perhaps kept."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.assessment import Kept, Observation
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.form import PHOTOGRAPHS, Form, Upload, read_form
from aitax_ray.serving.guard import BUSY
from aitax_ray.serving.identifier import MAX_IMAGES, Identification
from aitax_ray.serving.record import current, part
from aitax_ray.serving.together import together

if TYPE_CHECKING:
    from PIL import Image

MAX_FETCHED_BYTES = 400_000_000  # of all photographs that have been fetched and are not decoded, in one process


class _Held:
    """Counts the bytes that the requests of this process hold together."""

    num_bytes = 0

    @contextlib.contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        if self.num_bytes + num_bytes > MAX_FETCHED_BYTES:
            raise RequestError(BUSY, 503)
        self.num_bytes += num_bytes
        try:
            yield
        finally:
            self.num_bytes -= num_bytes


_FETCHED = _Held()


@dataclass(frozen=True)
class Sent:
    """The photographs of a request, each list in their order."""

    photos: "Sequence[Image.Image]"
    uploads: Sequence[Upload]
    urls: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The URL of a photograph, or the md5 of an upload (32 hex digits, as Pl@ntNet names them)."""
        return list(self.urls) or [hashlib.md5(each.body, usedforsecurity=False).hexdigest() for each in self.uploads]

    @property
    def filenames(self) -> list[str]:
        """As the client gives them."""
        return [upload.filename for upload in self.uploads]


async def read_uploads(request: Request, backend: Backend) -> tuple[Sent, Form]:
    """Read the photographs of a form, and its other fields. Raises RequestError when one cannot be used."""
    with part("read"):
        form = await read_form(request)
    return await _decode(backend, form.photographs), form


async def fetch_photographs(request: Request, backend: Backend) -> Sent:
    """Fetch the photographs that the address of the request names. Raises RequestError when one cannot be used."""
    urls = [url for name, url in request.query_params.multi_items() if name in PHOTOGRAPHS]
    if len(urls) > MAX_IMAGES:
        raise RequestError(f"name 1 to {MAX_IMAGES} photographs of one individual, not {len(urls)}")
    with contextlib.ExitStack() as held:

        async def fetch(url: str) -> Upload:
            body = await backend.fetch(url)
            held.enter_context(_FETCHED.hold(len(body)))
            return Upload(url, body)

        with part("fetch"):
            uploads = await together(map(fetch, urls))
        sent = await _decode(backend, uploads, urls)
    return Sent(sent.photos, [Upload(url, b"") for url in urls], urls)  # their bytes are not counted any more


def keep(backend: Backend, sent: Sent, found: Identification, observation: Observation | None = None) -> Kept | None:
    """Keep the photographs with the answer, if the service does so and has room; no address and no key is kept."""
    if backend.queries is None:
        return None
    best = found.candidates[0]
    return backend.queries.keep(
        sent.photos,
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "engine": found.engine_version,
            "answer": {
                "species_key": best.taxon.species_key,
                "name": best.taxon.name,
                "score": round(best.score, 5),
                "is_known": found.judgement.is_known,
            },
            "observation": observation.model_dump() if observation is not None else {},
        },
    )


async def _decode(backend: Backend, uploads: Sequence[Upload], urls: Sequence[str] = ()) -> Sent:
    if not uploads:
        raise RequestError(f"send 1 to {MAX_IMAGES} photographs of one individual, named `images` or `image`")
    titles = ["the photograph"] if len(uploads) == 1 else [f"photograph {n}" for n in range(1, len(uploads) + 1)]
    bodies = [upload.body for upload in uploads]
    current().num_photographs = len(bodies)
    with part("decode"):
        photos = await together(map(backend.decoder.decode, bodies, titles))
    return Sent(photos, uploads, urls)
