"""The deployments that hold the index and find similar photographs, and how an ingress asks them.

Each holds a part of the shards, so that an index may be larger than the memory of one machine.
"""

import asyncio
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aitax_ray.engine.bundle import Engine
from aitax_ray.engine.info import EngineInfo
from aitax_ray.engine.withdrawn import follow
from aitax_ray.serving.findings import (
    Comparison,
    Illustration,
    Nearest,
    join_illustrations,
    join_nearest,
    num_neighbors,
)
from aitax_ray.serving.gallery import Gallery, Picture
from aitax_ray.serving.replica import equip
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.together import together
from aitax_ray.serving.versions import Versions

if TYPE_CHECKING:
    from aitax_ray.serving.remote import Remote


ILLUSTRATION_BYTES = 1000  # of a photograph in an answer


class Question(NamedTuple):
    """What a request asks the index."""

    embeddings: np.ndarray
    """float32 (N, D): the photographs of one individual."""
    classes: Sequence[int]
    """The species that similar photographs are asked of."""


class FoundInPart(NamedTuple):
    """The answer of a part of the index to it."""

    nearest: Nearest
    similar: list[list[Illustration]]


class Found(NamedTuple):
    """The answer of the whole index."""

    comparison: Comparison
    illustrations: list[list[Illustration]]
    """The most similar photographs of each class."""


class _Search:
    """A part of the index of an engine."""

    def __init__(self, engine: Engine, part: int, num_parts: int) -> None:
        self.gallery = Gallery(engine.index(part, num_parts), len(engine.info.classes))
        self._num_neighbors = num_neighbors(engine.info.decisions.vote)
        weakref.finalize(self, follow(engine, self.gallery.withdraw))

    def answer(self, questions: Sequence[Question], per_class: int) -> tuple[list[FoundInPart], float]:
        begin, found = time.perf_counter(), []
        for embeddings, classes in questions:
            nearest = self.gallery.find_nearest(embeddings, self._num_neighbors)
            found.append(FoundInPart(nearest, self.gallery.find_similar(embeddings, classes, per_class)))
        return found, time.perf_counter() - begin


class Retrieval:
    """Holds one of `num_parts` parts of the index and finds similar photographs in it."""

    def __init__(self, args: ApplicationArgs, part: int = 0, num_parts: int = 1) -> None:
        equip(args)
        self._versions = Versions(args.engine, lambda engine: _Search(engine, part, num_parts))

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def search(
        self, place: str, questions: Sequence[Question], per_class: int
    ) -> tuple[list[FoundInPart], float]:
        """Answer the questions of several requests with the engine there, and give the seconds that this took."""
        search = await self._versions.get(place)
        return await asyncio.to_thread(search.answer, questions, per_class)

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


class RemoteRetrieval:
    """The whole index: asks the deployments of all parts at once, and joins what they find."""

    def __init__(self, parts: Sequence["Remote"]) -> None:
        self._parts = parts

    async def prepare(self, place: str, timeout_s: float) -> None:
        """Open an engine in a replica of each part."""
        await self._ask("prepare", place, timeout_s=timeout_s)

    async def search(
        self, place: str, info: EngineInfo, questions: Sequence[Question], per_class: int
    ) -> tuple[list[Found], float]:
        """Answer the questions of several requests, and give the seconds that the slowest part took."""
        answers: list[tuple[list[FoundInPart], float]]
        num_bytes = ILLUSTRATION_BYTES * per_class * sum(len(question.classes) for question in questions)
        answers = await self._ask("search", place, list(questions), per_class, num_bytes=num_bytes)
        found = []
        for parts in zip(*(each for each, _ in answers), strict=True):
            comparison = join_nearest([part.nearest for part in parts], info.decisions.vote, len(info.classes))
            found.append(Found(comparison, join_illustrations([part.similar for part in parts], per_class)))
        return found, max(seconds for _, seconds in answers)

    async def picture(self, place: str, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when no part has one that may be shown."""
        pictures: list[Picture | None] = await self._ask("picture", place, image_id)
        return next((picture for picture in pictures if picture is not None), None)

    async def _ask(self, method: str, *given: Any, **options: Any) -> list[Any]:
        return await together(part.call(method, *given, **options) for part in self._parts)
