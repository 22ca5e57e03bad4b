"""The service on Ray Serve: an ingress for HTTP, a classifier that works in batches, a retrieval of similar images.

Each deployment opens the engine when its replica starts: importing this module loads nothing, and each machine loads
only the parts that it uses. `serve_config.yaml` names `build`.
"""

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from aitax_ray.engine.bundle import Engine, Taxon, open_engine
from aitax_ray.engine.withdrawn import follow
from aitax_ray.errors import ClusterError, RequestError
from aitax_ray.images.fetch import Fetcher, FetchSettings
from aitax_ray.images.limits import HostLimit, Limits
from aitax_ray.images.memory import give_back_memory
from aitax_ray.images.turns import Turns, sync_alone
from aitax_ray.serving import accounts
from aitax_ray.serving.accounts import Accounts, Verdict
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.decoding import PhotoDecoder
from aitax_ray.serving.gallery import Comparison, Gallery, Picture
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identification, Reasoning
from aitax_ray.serving.keys import locate_keys
from aitax_ray.serving.pn_taxa import project_of
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import INTERVAL_S, Current, Versions

log = logging.getLogger(__name__)

FETCHES = 64  # photographs that are fetched at a time, for requests that name URLs: slow hosts occupy some
FETCH_TIMEOUT_S = 20.0  # per photograph
FETCH_BYTES = 25_000_000  # of one photograph: its length is reserved, also if a host sends it slowly
FETCH_MEMORY = 400_000_000  # bytes of all photographs that are being fetched
LEDGER_TIMEOUT_S = 20.0  # a replica that was killed needs 10 s to come back
HOST_MEMORY_S = 3.0  # strangers name hosts: one's bad URLs must not close a host for the others
HOST_LIMIT = HostLimit(8, 50.0)  # higher than for downloads: a person waits for the answer
READY_TIMEOUT_S = 3.0
LIGHT = 0.1  # CPUs of deployments that mostly wait
REFUSABLE = 20  # x max_waiting requests may be at an ingress
RETRY_S = 30.0  # until an engine that could not be used is tried again

if TYPE_CHECKING:
    from PIL import Image


class Classifier:
    """Runs the network on batches of requests, which Ray Serve gathers."""

    def __init__(self, args: ApplicationArgs) -> None:
        num_threads = max(1, int(args.classifier_cpus))
        self._versions = Versions(args.engine, lambda engine: engine.classifier(num_threads))
        batch: Any = self._gathered
        batch.set_max_batch_size(args.max_batch_size)
        batch.set_batch_wait_timeout_s(args.batch_wait_timeout_s)

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def predict(self, place: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute embeddings (N, D) and logits (N, K) of the N photographs of one request, with the engine there."""
        classifier = await self._versions.get(place)
        result: tuple[np.ndarray, np.ndarray] = await self._gathered((classifier, pixels))
        return result

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def _gathered(self, requests: list[tuple[Any, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        return await asyncio.to_thread(predict_batch, requests)


def predict_batch(requests: Sequence[tuple[Any, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Answer several requests with one run of each classifier: one, or two while the engine changes."""
    answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for classifier in dict.fromkeys(classifier for classifier, _ in requests):
        pixels = {number: each for number, (own, each) in enumerate(requests) if own is classifier}
        embeddings, logits = classifier.predict(np.concatenate(list(pixels.values())))
        ends = np.cumsum([len(each) for each in pixels.values()])[:-1]
        answers |= zip(pixels, zip(np.split(embeddings, ends), np.split(logits, ends), strict=True), strict=True)
    return [answers[number] for number in range(len(requests))]


class _Search:
    """The index of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.gallery = Gallery(engine.index(), len(engine.info.classes))
        self.vote = engine.info.decisions.vote
        weakref.finalize(self, follow(engine, self.gallery.withdraw))


class Retrieval:
    """Holds the index and finds similar photographs."""

    def __init__(self, args: ApplicationArgs) -> None:
        self._versions = Versions(args.engine, _Search)

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def compare(self, place: str, embeddings: np.ndarray) -> Comparison:
        """Search the nearest photographs in the engine there."""
        search = await self._versions.get(place)
        return await asyncio.to_thread(search.gallery.compare, embeddings, search.vote)

    async def illustrate(
        self, place: str, embeddings: np.ndarray, classes: Sequence[int], per_class: int
    ) -> list[list[Any]]:
        """Find the most similar photographs of each class: lists of serving.identifier.Illustration."""
        gallery = (await self._versions.get(place)).gallery
        return await asyncio.to_thread(gallery.illustrate, embeddings, classes, per_class)

    async def picture(self, place: str, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown.

        The answer that names it may have come from another engine that is still open.
        """
        first = await self._versions.get(place)
        for search in dict.fromkeys([first, *self._versions.opened()]):
            picture = await asyncio.to_thread(search.gallery.picture, image_id)
            if picture is not None:
                return picture
        return None


def _this_backend() -> Backend:
    ingress: Any = serve.get_replica_context().servable_object
    return cast(Ingress, ingress).backend


class Ledger(Accounts):
    """Counts for all replicas of the ingress, so there is one of it."""

    def __init__(self, args: ApplicationArgs) -> None:
        assert args.keys is not None
        super().__init__(args.keys)


class RemoteLedger:
    """The `accounts.Ledger` of an ingress. Raises ClusterError when the deployment cannot be reached."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def ask(self, who: str, origin: str, cost: int | None) -> Verdict:
        """See `accounts.Ledger`."""
        return cast(Verdict, await self._call("ask", who, origin, cost))

    async def history(self, who: str, year: int) -> dict[str, int]:
        """See `accounts.Ledger`."""
        return cast(dict[str, int], await self._call("history", who, year))

    async def _call(self, method: str, *given: Any) -> Any:
        try:
            async with asyncio.timeout(LEDGER_TIMEOUT_S):
                return await getattr(self._handle, method).remote(*given)
        except (RayError, TimeoutError) as error:
            raise ClusterError(f"the ledger of keys does not answer: {type(error).__name__}") from error


class Ingress:
    """Answers HTTP requests with the help of the other deployments, and decides which engine does.

    A request keeps its `backend` to its end. When another engine becomes current, and all deployments have opened it,
    later requests get another backend.
    """

    def __init__(
        self,
        args: ApplicationArgs,
        classifier: DeploymentHandle[Any],
        retrieval: DeploymentHandle[Any],
        ledger: DeploymentHandle[Any] | None = None,
    ) -> None:
        give_back_memory()  # threads hold photographs of any size here
        self.args, self.classifier, self.retrieval, self.num_queries = args, classifier, retrieval, 0
        self.ledger: accounts.Ledger | None = RemoteLedger(ledger) if ledger is not None else None
        self.fetcher = Fetcher(
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
        engine = open_engine(args.engine)
        self.backend = EngineBackend(self, engine)
        self._current, self._refused, self._retry_at = Current(engine), "", 0.0
        with contextlib.suppress(RuntimeError):  # without a loop there is no service
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while self._current.can_change:
            await asyncio.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Answer with the current engine from now on, if it can be used. Otherwise say why, and try again later."""
        place = self.backend.place
        try:
            place = await asyncio.to_thread(self._current.read)
            if place != self.backend.place and (place != self._refused or time.monotonic() >= self._retry_at):
                await self._switch(place)
        except Exception as error:  # of storage, of the engine, or of a deployment: the engine in use stays
            self._retry_at = time.monotonic() + RETRY_S
            if place != self._refused:
                self._refused, reason = place, getattr(error, "cause", error)
                log.error("%s cannot be used, %s stays in use: %s", place, self.backend.place, reason)
        else:
            if place == self.backend.place:
                self._refused = ""

    async def prepare(self, place: str) -> None:
        """Open an engine in the other deployments."""
        await asyncio.gather(self.classifier.prepare.remote(place), self.retrieval.prepare.remote(place))

    async def _switch(self, place: str) -> None:
        engine = await asyncio.to_thread(open_engine, self.args.engine, place)
        backend = await asyncio.to_thread(EngineBackend, self, engine)
        await self.prepare(place)
        self.backend = backend
        log.warning("%s is in use", place)


class EngineBackend:
    """The `Backend` of the routes: answers from one engine."""

    def __init__(self, ingress: Ingress, engine: Engine) -> None:
        self._ingress, self.place = ingress, engine.place
        self.info = engine.info
        self.taxa: Sequence[Taxon] = engine.taxa
        self.ledger = ingress.ledger
        self._reasoning = Reasoning(engine.info, engine.taxa)
        self.project = project_of(engine.info, ingress.args.project)
        self.decoder = PhotoDecoder(engine.info)
        self._num_illustrations = ingress.args.num_illustrations if ingress.args.illustrate else 0

    @property
    def num_queries(self) -> int:
        """Number of identifications since the start, with whatever engine."""
        return self._ingress.num_queries

    async def identify(
        self, photos: "Sequence[Image.Image]", max_results: int | None, illustrate: bool = True
    ) -> Identification:
        """Identify one individual; without `illustrate`, no similar photographs are looked for."""
        self._ingress.num_queries += 1
        retrieval = self._ingress.retrieval
        embeddings, logits = await self._predict(photos)
        comparison = await retrieval.compare.remote(self.place, embeddings)
        conclusion = self._reasoning.conclude(logits, comparison, max_results)
        illustrations: list[list[Any]] = [[] for _ in conclusion.ranked]
        if illustrate and self._num_illustrations:
            arguments = self.place, embeddings, conclusion.classes, self._num_illustrations
            illustrations = await retrieval.illustrate.remote(*arguments)
        return self._reasoning.assemble(conclusion, illustrations)

    async def embed(self, photo: "Image.Image") -> list[float]:
        """Compute the embedding of a photograph."""
        embeddings, _ = await self._predict([photo])
        numbers: list[float] = embeddings[0].tolist()
        return numbers

    async def _predict(self, photos: "Sequence[Image.Image]") -> tuple[np.ndarray, np.ndarray]:
        pixels = await asyncio.to_thread(lambda: np.stack([self.info.transform.pixels(photo) for photo in photos]))
        embeddings, logits = await self._ingress.classifier.predict.remote(self.place, pixels)
        return embeddings, logits

    async def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        picture: Picture | None = await self._ingress.retrieval.picture.remote(self.place, image_id)
        return picture

    async def is_ready(self) -> bool:
        """Tell whether all parts of the engine are loaded."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ingress.prepare(self.place)
        except Exception as error:  # of a deployment: no replica, or none with this engine
            log.warning("not ready: %s", getattr(error, "cause", error))
            return False
        return True

    async def fetch(self, url: str) -> bytes:
        """Fetch a photograph by the URL in a request. Raises RequestError when it cannot be fetched."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                fetched = await self._ingress.fetcher.fetch(url)
        except TimeoutError:
            raise RequestError(f"{url} cannot be fetched: timeout") from None
        if fetched.body is None:
            raise RequestError(f"{url} cannot be fetched: {fetched.reason.replace('_', ' ')}")
        return bytes(fetched.body)


def build(args: ApplicationArgs) -> Application:
    """Connect the deployments to an application; `serve deploy` calls this with the args of its configuration."""
    # Batches would stay small with Ray's default, which is 5 requests at a time.
    max_ongoing = max(64, 2 * args.max_batch_size)
    args = args.model_copy(update={"keys": locate_keys(args.keys)})

    def deployment(name: str, num_cpus: float, max_ongoing_requests: int) -> Any:
        smallest, largest = getattr(args, f"min_{name}_replicas"), getattr(args, f"max_{name}_replicas")
        number: dict[str, Any] = {"num_replicas": smallest}
        if largest > smallest:
            limits = {"min_replicas": smallest, "max_replicas": largest}
            number = {"autoscaling_config": limits | {"target_ongoing_requests": args.target_ongoing_requests}}
        options = {"num_cpus": num_cpus}
        return serve.deployment(ray_actor_options=options, max_ongoing_requests=max_ongoing_requests, **number)

    classifier = deployment("classifier", args.classifier_cpus, max_ongoing)(Classifier).bind(args)
    retrieval = deployment("retrieval", LIGHT, max_ongoing)(Retrieval).bind(args)
    ledger = None
    if args.keys is not None:
        options = {"num_cpus": LIGHT}
        one = serve.deployment(num_replicas=1, ray_actor_options=options, max_ongoing_requests=1000)
        ledger = one(Ledger).bind(args)
    # Ray Serve makes the application in the replica, where `_this_backend` works.
    limits = args.max_waiting, args.cors_origins, args.allowed_hosts
    http = serve.ingress(lambda: make_app(_this_backend, *limits))(Ingress)
    # The ingress itself refuses those that are too many, with JSON: they must reach it.
    ingress = deployment("ingress", LIGHT, REFUSABLE * args.max_waiting)(http)
    application: Application = ingress.bind(args, classifier, retrieval, ledger)
    return application
