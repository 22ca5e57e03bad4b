"""The deployment that holds the index and finds similar photographs."""

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from aitax_ray.engine.bundle import Engine
from aitax_ray.engine.withdrawn import follow
from aitax_ray.serving.gallery import Comparison, Gallery, Picture
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions


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
