"""A service over real HTTP, with the small engine in this process instead of Ray Serve."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.documents import SpeciesFigures, read_figures
from aitax_ray.errors import RequestError
from aitax_ray.serving.accounts import Ledger
from aitax_ray.serving.c4c import C4cRefused
from aitax_ray.serving.decoding import PhotoDecoder
from aitax_ray.serving.gallery import Picture
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identification, Identifier
from aitax_ray.serving.pn_taxa import project_of
from aitax_ray.serving.queries import QueryStore
from aitax_ray.serving.record import record_answer
from tests.engines import COLOURS, photo

RED_URL = "https://photos.example/red.jpg"


class LocalBackend:
    """Answers from an engine in this process; fetches from a dictionary."""

    def __init__(self, folder: Path) -> None:
        self._identifier = Identifier(open_engine(str(folder)))
        self.info, self.taxa = self._identifier.engine.info, self._identifier.engine.taxa
        self.num_queries, self.decoder = 7, PhotoDecoder(self.info, timeout_s=3.0, slow_timeout_s=2.0)
        self.is_loaded = True
        self.project = project_of(self.info)
        self.ledger: Ledger | None = None
        self.queries: QueryStore | None = None
        self.refused: C4cRefused | None = None
        self.figures: Mapping[str, SpeciesFigures] = read_figures(self._identifier.engine)

    async def identify(
        self, photos: Sequence[Image.Image], max_results: int | None, illustrate: bool = True
    ) -> Identification:
        return record_answer(self._identifier.identify(photos, max_results, 6 if illustrate else 0))

    async def embed(self, photo: Image.Image) -> list[float]:
        return self._identifier.embed(photo)

    async def picture(self, image_id: str) -> Picture | None:
        return self._identifier.picture(image_id)

    async def document(self, name: str) -> bytes | None:
        return self._identifier.engine.read_file(name)

    async def is_ready(self) -> bool:
        return self.is_loaded

    async def fetch(self, url: str) -> bytes:
        if url != RED_URL:
            raise RequestError(f"{url} cannot be fetched: not found")
        return photo(COLOURS["11"])


def serve(backend: LocalBackend, **options: Any) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(lambda: backend, **options), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()  # the listener is open already: early requests wait for the server
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", follow_redirects=True, timeout=30
        ) as client:
            yield client
        server.should_exit = True
        thread.join()
    backend.decoder.close()
