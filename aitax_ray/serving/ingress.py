"""The deployment that answers HTTP requests, with the help of the others."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from aitax_ray.engine.bundle import Engine, Taxon, open_engine
from aitax_ray.engine.documents import SpeciesFigures, read_figures
from aitax_ray.errors import EngineError, RequestError
from aitax_ray.images.answers import TIMEOUT
from aitax_ray.images.fetch import Fetcher, FetchSettings
from aitax_ray.images.limits import HostLimit, Limits
from aitax_ray.images.memory import give_back_memory
from aitax_ray.images.turns import Turns, sync_alone
from aitax_ray.serving import accounts, metrics
from aitax_ray.serving.c4c import C4cRefused
from aitax_ray.serving.decoding import PhotoDecoder
from aitax_ray.serving.gallery import Picture
from aitax_ray.serving.gathering import Gatherer
from aitax_ray.serving.identifier import Identification, Reasoning
from aitax_ray.serving.ledger import RemoteLedger
from aitax_ray.serving.pn_taxa import project_of
from aitax_ray.serving.queries import QueryStore
from aitax_ray.serving.record import part, record_answer
from aitax_ray.serving.remote import Remote
from aitax_ray.serving.replica import equip
from aitax_ray.serving.retrieval import Found, Question, RemoteRetrieval
from aitax_ray.serving.settings import ApplicationArgs, change
from aitax_ray.serving.versions import INTERVAL_S, KEEP_S, RETRY_S, Current

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

FETCHES = 64  # photographs that are fetched at a time, for requests that name URLs: slow hosts occupy some
FETCH_TIMEOUT_S = 20.0  # per photograph
FETCH_BYTES = 25_000_000  # of one photograph: its length is reserved, also if a host sends it slowly
FETCH_MEMORY = 400_000_000  # bytes of all photographs that are being fetched
HOST_MEMORY_S = 3.0  # strangers name hosts: one's bad URLs must not close a host for the others
HOST_LIMIT = HostLimit(8, 50.0)  # higher than for downloads: a person waits for the answer
READY_TIMEOUT_S = 3.0
PREPARE_TIMEOUT_S = 600.0  # to open an engine, which may be fetched first; it is opened further after that
AHEAD = 4  # photographs of the next call, which is on its way while a replica answers one


class Ingress:
    """Answers HTTP requests with the help of the other deployments, and decides which engine does.

    A request keeps its `backend` to its end. When another engine becomes current, and a replica of each deployment has
    opened it, later requests get another backend.
    """

    def __init__(
        self,
        args: ApplicationArgs,
        classifier: DeploymentHandle[Any],
        retrieval: Sequence[DeploymentHandle[Any]],
        ledger: DeploymentHandle[Any] | None = None,
    ) -> None:
        equip(args)
        give_back_memory()  # threads hold photographs of any size here
        self.args, self.num_queries = args, 0
        self.classifier = Remote(classifier, "the classifier")
        self.retrieval = RemoteRetrieval([Remote(part, f"part {n} of the index") for n, part in enumerate(retrieval)])
        self.ledger: accounts.Ledger | None = RemoteLedger(ledger) if ledger is not None else None
        self.queries = QueryStore(args.keep_queries, args.max_kept_bytes) if args.keep_queries else None
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
        self.changed = args
        self.backend = EngineBackend(self, engine)
        metrics.ENGINE_INFO.record(version=engine.info.version)
        self._current, self._refused, self._retry_at = Current(engine), "", 0.0
        self.refused: C4cRefused | None = None
        with contextlib.suppress(RuntimeError):  # without a loop there is no service
            self._following = asyncio.get_running_loop().create_task(self._follow())

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Ray Serve calls this with the `user_config` of its configuration, at the start and after each change."""
        if args := change(self.args, user_config):
            self.changed = args
            self.backend.apply(args)

    async def _follow(self) -> None:
        while self._current.can_change:
            await asyncio.sleep(INTERVAL_S * self._current.pace)
            await self.look()

    async def look(self) -> None:
        """Answer with the current engine from now on, if it can be used. Otherwise say why, and try again later."""
        place = self.backend.place
        try:
            place = await asyncio.to_thread(self._current.read)
            if place != self.backend.place and (place != self._refused or time.monotonic() >= self._retry_at):
                await self._switch(place)
        except Exception as error:  # of storage, of the engine, or of a deployment: the engine in use stays
            self._retry_at, cause = time.monotonic() + RETRY_S, getattr(error, "cause", error)
            if place != self._refused:
                self._refused = place
                metrics.ENGINE_FAILURES.record()
                log.error("%s cannot be used, %s stays in use: %s", place, self.backend.place, cause)
            self.refused = self._describe(place, cause)
        else:
            if place == self.backend.place:
                self._refused, self.refused = "", None

    def _describe(self, place: str, error: Exception) -> C4cRefused:
        """Say what cannot be used, and why, without a path: anybody may ask for /status."""
        if place == self.backend.place:
            return C4cRefused(engine="", reason="it cannot be read which engine is current")
        brief = error.brief if isinstance(error, EngineError) else "it cannot be loaded"
        return C4cRefused(engine=place.rpartition("/")[2], reason=brief)

    async def prepare(self, place: str, timeout_s: float = PREPARE_TIMEOUT_S) -> None:
        """Open an engine in a replica of each other deployment."""
        classifier = self.classifier.call("prepare", place, timeout_s=timeout_s)
        await asyncio.gather(classifier, self.retrieval.prepare(place, timeout_s))

    async def _switch(self, place: str) -> None:
        engine = await asyncio.to_thread(open_engine, self.args.engine, place)
        await self.prepare(place)  # first: a backend that is not used would leave its decoders
        backend = await asyncio.to_thread(EngineBackend, self, engine)
        backend.apply(self.changed)
        metrics.ENGINE_INFO.record(0, version=self.backend.info.version)
        metrics.ENGINE_INFO.record(version=engine.info.version)
        self.backend, old = backend, self.backend
        loop = asyncio.get_running_loop()
        loop.call_later(KEEP_S, loop.run_in_executor, None, old.decoder.close)  # no request uses it any more
        log.warning("%s is in use", place)


class EngineBackend:
    """The `Backend` of the routes: answers from one engine."""

    def __init__(self, ingress: Ingress, engine: Engine) -> None:
        self._ingress, self.place = ingress, engine.place
        self.info = engine.info
        self.taxa: Sequence[Taxon] = engine.taxa
        self.ledger, self.queries, self._engine = ingress.ledger, ingress.queries, engine
        self.figures: Mapping[str, SpeciesFigures] = read_figures(engine)
        self._reasoning = Reasoning(engine.info, engine.taxa)
        self.project = project_of(engine.info, ingress.args.project)
        self.decoder = PhotoDecoder(engine.info)
        args = ingress.changed
        limits = args.max_batch_size, args.batch_budget_s
        self._network = Gatherer(self._call_classifier, args.max_classifier_replicas, *limits, AHEAD)
        self._index = Gatherer(self._call_retrieval, args.max_retrieval_replicas, *limits, AHEAD)
        self.apply(args)

    def apply(self, args: ApplicationArgs) -> None:
        """Use these values of the settings that may change while this is in use."""
        self._num_illustrations = args.num_illustrations if args.illustrate else 0
        for each in (self._network, self._index):
            each.limit_calls(args.max_batch_size, args.batch_budget_s)

    @property
    def num_queries(self) -> int:
        """Number of identifications since the start, with whatever engine."""
        return self._ingress.num_queries

    @property
    def refused(self) -> C4cRefused | None:
        """The current engine, if it cannot be used, so that this one answers."""
        return self._ingress.refused

    async def identify(
        self, photos: "Sequence[Image.Image]", max_results: int | None, illustrate: bool = True
    ) -> Identification:
        """Identify one individual; without `illustrate`, no similar photographs are looked for."""
        self._ingress.num_queries += 1
        embeddings, logits = await self._predict(photos)
        has_photographs = illustrate and self._num_illustrations > 0
        # The vote of similar photographs may change which species the answer has. It seldom does, and so the similar
        # photographs of the likely ones are asked for together with the vote.
        likely = self._reasoning.expect(logits, max_results) if has_photographs else []
        with part("search"):
            comparison, found = await self._index.ask(Question(embeddings, likely), len(photos))
        with part("reason"):
            conclusion = self._reasoning.conclude(logits, comparison, max_results)
        if not has_photographs:
            return record_answer(self._reasoning.assemble(conclusion, [[] for _ in conclusion.ranked]))
        illustrations = dict(zip(likely, found, strict=True))
        missing = [each for each in conclusion.classes if each not in illustrations]
        if missing:
            with part("illustrate"):
                _, found = await self._index.ask(Question(embeddings, missing), len(photos))
            illustrations |= zip(missing, found, strict=True)
        return record_answer(self._reasoning.assemble(conclusion, [illustrations[each] for each in conclusion.classes]))

    async def embed(self, photo: "Image.Image") -> list[float]:
        """Compute the embedding of a photograph."""
        embeddings, _ = await self._predict([photo])
        numbers: list[float] = embeddings[0].tolist()
        return numbers

    async def _predict(self, photos: "Sequence[Image.Image]") -> tuple[np.ndarray, np.ndarray]:
        with part("prepare"):
            # Decoders have resized them. What is left to do costs less than a thread.
            pixels = np.stack([self.info.transform.pixels(photo) for photo in photos])
        with part("model"):
            return await self._network.ask(pixels, len(pixels))

    async def _call_classifier(self, parts: Sequence[np.ndarray]) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
        pixels = np.concatenate(parts) if len(parts) > 1 else parts[0]
        num_numbers = len(pixels) * (len(self.info.classes) + self.info.embedding_size)
        num_bytes = max(pixels.nbytes, 4 * num_numbers)
        embeddings, logits, seconds = await self._ingress.classifier.call(
            "predict", self.place, pixels, num_bytes=num_bytes
        )
        ends = np.cumsum([len(part) for part in parts])[:-1]
        return list(zip(np.split(embeddings, ends), np.split(logits, ends), strict=True)), seconds

    async def _call_retrieval(self, questions: Sequence[Question]) -> tuple[list[Found], float]:
        return await self._ingress.retrieval.search(self.place, self.info, questions, self._num_illustrations)

    async def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        return await self._ingress.retrieval.picture(self.place, image_id)

    async def document(self, name: str) -> bytes | None:
        """Read a page that the engine has about itself; None if it has none of this name."""
        return await asyncio.to_thread(self._engine.read_file, name)

    async def is_ready(self) -> bool:
        """Tell whether all parts of the engine are loaded."""
        try:
            await self._ingress.prepare(self.place, READY_TIMEOUT_S)
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
            metrics.FETCHES.record(outcome=TIMEOUT)
            raise RequestError(f"{url} cannot be fetched: timeout") from None
        metrics.FETCHES.record(outcome=fetched.reason or "ok")
        if fetched.body is None:
            raise RequestError(f"{url} cannot be fetched: {fetched.reason.replace('_', ' ')}")
        return bytes(fetched.body)
