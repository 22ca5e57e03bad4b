"""The deployment that holds the index and finds similar photographs."""

import asyncio
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aitax_ray.engine.bundle import Engine
from aitax_ray.engine.withdrawn import follow
from aitax_ray.serving.gallery import Comparison, Gallery, Illustration, Picture
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions


class Question(NamedTuple):
    """What a request asks the index."""

    embeddings: np.ndarray
    """float32 (N, D): the photographs of one individual."""
    classes: Sequence[int]
    """The species that similar photographs are asked of."""


class Found(NamedTuple):
    """The answer to it."""

    comparison: Comparison
    illustrations: list[list[Illustration]]
    """The most similar photographs of each class."""


class _Search:
    """The index of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.gallery = Gallery(engine.index(), len(engine.info.classes))
        self.vote = engine.info.decisions.vote
        weakref.finalize(self, follow(engine, self.gallery.withdraw))

    def answer(self, questions: Sequence[Question], per_class: int) -> tuple[list[Found], float]:
        begin, found = time.perf_counter(), []
        for embeddings, classes in questions:
            comparison = self.gallery.compare(embeddings, self.vote)
            found.append(Found(comparison, self.gallery.illustrate(embeddings, classes, per_class)))
        return found, time.perf_counter() - begin


class Retrieval:
    """Holds the index and finds similar photographs."""

    def __init__(self, args: ApplicationArgs) -> None:
        self._versions = Versions(args.engine, _Search)

    async def prepare(self, place: str) -> None:
        """Open an engine. Raises EngineError."""
        await self._versions.prepare(place)

    async def search(self, place: str, questions: Sequence[Question], per_class: int) -> tuple[list[Found], float]:
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
