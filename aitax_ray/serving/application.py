"""The service on Ray Serve: an ingress for HTTP, a classifier that works in batches, a retrieval of similar images.

Each deployment opens the engine when its replica starts: importing this module loads nothing, and each machine loads
only the parts that it uses. `serve_config.yaml` names `build`.
"""

import asyncio
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.withdrawn import follow
from aitax_ray.errors import RequestError
from aitax_ray.images.fetch import Fetcher, FetchSettings
from aitax_ray.images.limits import HostLimit, Limits
from aitax_ray.images.memory import give_back_memory
from aitax_ray.images.turns import Turns, sync_alone
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.decoding import PhotoDecoder
from aitax_ray.serving.gallery import Comparison, Gallery, Picture
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identification, Reasoning
from aitax_ray.serving.pn_taxa import project_of
from aitax_ray.serving.settings import ApplicationArgs

FETCHES = 64  # photographs that are fetched at a time, for requests that name URLs: slow hosts occupy some
FETCH_TIMEOUT_S = 20.0  # per photograph
FETCH_BYTES = 25_000_000  # of one photograph: its length is reserved, also if a host sends it slowly
FETCH_MEMORY = 400_000_000  # bytes of all photographs that are being fetched
HOST_MEMORY_S = 3.0  # strangers name hosts: one's bad URLs must not close a host for the others
HOST_LIMIT = HostLimit(8, 50.0)  # higher than for downloads: a person waits for the answer

if TYPE_CHECKING:
    from PIL import Image


class Classifier:
    """Runs the network on batches of requests, which Ray Serve gathers."""

    def __init__(self, args: ApplicationArgs) -> None:
        self._classifier = open_engine(args.engine).classifier(num_threads=max(1, int(args.classifier_cpus)))
        batch: Any = self._gathered
        batch.set_max_batch_size(args.max_batch_size)
        batch.set_batch_wait_timeout_s(args.batch_wait_timeout_s)

    async def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute embeddings (N, D) and logits (N, K) of the N photographs of one request."""
        result: tuple[np.ndarray, np.ndarray] = await self._gathered(pixels)
        return result

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _gathered(self, requests: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return await asyncio.to_thread(self.predict_batch, requests)

    def predict_batch(self, requests: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Answer several requests with one run of the network."""
        embeddings, logits = self._classifier.predict(np.concatenate(requests))
        ends = np.cumsum([len(pixels) for pixels in requests])[:-1]
        return list(zip(np.split(embeddings, ends), np.split(logits, ends), strict=True))


class Retrieval:
    """Holds the index and finds similar photographs."""

    def __init__(self, args: ApplicationArgs) -> None:
        engine = open_engine(args.engine)
        self._gallery = Gallery(engine.index(), len(engine.info.classes))
        self._vote = engine.info.decisions.vote
        weakref.finalize(self, follow(engine, self._gallery.withdraw))

    async def compare(self, embeddings: np.ndarray) -> Comparison:
        """Search the nearest photographs."""
        return await asyncio.to_thread(self._gallery.compare, embeddings, self._vote)

    async def illustrate(self, embeddings: np.ndarray, classes: Sequence[int], per_class: int) -> list[list[Any]]:
        """Find the most similar photographs of each class: lists of serving.identifier.Illustration."""
        return await asyncio.to_thread(self._gallery.illustrate, embeddings, classes, per_class)

    async def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        return await asyncio.to_thread(self._gallery.picture, image_id)


def _make_ingress_app() -> FastAPI:
    """Make the HTTP application. Ray Serve calls this in the replica, where `_this_ingress` works."""
    return make_app(_this_ingress)


def _this_ingress() -> Backend:
    ingress: Any = serve.get_replica_context().servable_object
    return cast(Backend, ingress)


class Ingress:
    """The `Backend` of the routes: answers HTTP requests with the help of the other deployments."""

    def __init__(
        self, args: ApplicationArgs, classifier: DeploymentHandle[Any], retrieval: DeploymentHandle[Any]
    ) -> None:
        give_back_memory()  # threads hold photographs of any size here
        engine = open_engine(args.engine)
        self.info, self.taxa, self.num_queries = engine.info, engine.taxa, 0
        self._reasoning = Reasoning(engine.info, engine.taxa)
        self.project = project_of(engine.info, args.project)
        self.decoder = PhotoDecoder(engine.info)
        self._classifier, self._retrieval = classifier, retrieval
        self._num_illustrations = args.num_illustrations if args.illustrate else 0
        self._fetcher = Fetcher(
            FetchSettings(
                timeout_s=FETCH_TIMEOUT_S / 2,
                connect_timeout_s=FETCH_TIMEOUT_S / 4,
                read_timeout_s=FETCH_TIMEOUT_S / 4,
                attempts=2,
                max_pause_s=2,
                max_bytes=FETCH_BYTES,
                max_memory=FETCH_MEMORY,
                by_port=True,
                respect_robots=False,  # robots.txt is for crawlers; here a person asks about one photograph
                allow_private=args.allow_private_hosts,
            ),
            Turns(sync_alone(Limits(HOST_LIMIT, memory_s=HOST_MEMORY_S)), FETCHES, HOST_MEMORY_S),
        )

    async def identify(
        self, photos: "Sequence[Image.Image]", max_results: int | None, illustrate: bool = True
    ) -> Identification:
        """Identify one individual; without `illustrate`, no similar photographs are looked for."""
        self.num_queries += 1
        embeddings, logits = await self._predict(photos)
        conclusion = self._reasoning.conclude(logits, await self._retrieval.compare.remote(embeddings), max_results)
        illustrations: list[list[Any]] = [[] for _ in conclusion.ranked]
        if illustrate and self._num_illustrations:
            arguments = embeddings, conclusion.classes, self._num_illustrations
            illustrations = await self._retrieval.illustrate.remote(*arguments)
        return self._reasoning.assemble(conclusion, illustrations)

    async def embed(self, photo: "Image.Image") -> list[float]:
        """Compute the embedding of a photograph."""
        embeddings, _ = await self._predict([photo])
        numbers: list[float] = embeddings[0].tolist()
        return numbers

    async def _predict(self, photos: "Sequence[Image.Image]") -> tuple[np.ndarray, np.ndarray]:
        pixels = await asyncio.to_thread(lambda: np.stack([self.info.transform.pixels(photo) for photo in photos]))
        embeddings, logits = await self._classifier.predict.remote(pixels)
        return embeddings, logits

    async def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        picture: Picture | None = await self._retrieval.picture.remote(image_id)
        return picture

    async def fetch(self, url: str) -> bytes:
        """Fetch a photograph by the URL in a request. Raises RequestError when it cannot be fetched."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                fetched = await self._fetcher.fetch(url)
        except TimeoutError:
            raise RequestError(f"{url} cannot be fetched: timeout") from None
        if fetched.body is None:
            raise RequestError(f"{url} cannot be fetched: {fetched.reason.replace('_', ' ')}")
        return bytes(fetched.body)


def build(args: ApplicationArgs) -> Application:
    """Connect the deployments to an application; `serve deploy` calls this with the args of its configuration."""
    # Batches would stay small with Ray's default, which is 5 requests at a time.
    max_ongoing = max(64, 2 * args.max_batch_size)
    light = {"num_cpus": 0.1}
    heavy = {"num_cpus": args.classifier_cpus}
    classifier = serve.deployment(ray_actor_options=heavy, max_ongoing_requests=max_ongoing)(Classifier).bind(args)
    retrieval = serve.deployment(ray_actor_options=light, max_ongoing_requests=max_ongoing)(Retrieval).bind(args)
    http = serve.ingress(_make_ingress_app)(Ingress)
    ingress = serve.deployment(ray_actor_options=light, max_ongoing_requests=2 * max_ongoing)(http)
    return ingress.bind(args, classifier, retrieval)
