"""The engines that a replica has open: the one in use, and for a short time those before and after it. No Ray, no HTTP.

A request names the engine that it wants, so all its parts come from one engine, in whatever replicas they are.
"""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from aitax_ray.engine.bundle import Engine, open_engine
from aitax_ray.engine.info import join, read_current
from aitax_ray.engine.withdrawn import REMOTE_FACTOR

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # between two looks at `current`
KEEP_S = 90.0  # an engine stays open so long after its last request: longer than a request may take
RETRY_S = 30.0  # until an engine that could not be opened is tried again

Part = TypeVar("Part")


class Current:
    """The file `current` that a service follows. A service of a single engine has none."""

    def __init__(self, engine: Engine) -> None:
        self._storage, self._place = engine.storage, engine.place
        self.pace = 1 if engine.storage.is_local else REMOTE_FACTOR
        """Number of INTERVAL_S between two looks."""

    @property
    def can_change(self) -> bool:
        """Whether there is such a file."""
        return self._place != ""

    def read(self) -> str:
        """Read the place of the engine in use. While the file is missing, it is the one at the start."""
        folder = self._place.rpartition("/")[0]
        version = read_current(self._storage, folder) if self.can_change else None
        return join(folder, version) if version else self._place


class Versions(Generic[Part]):
    """A part of each open engine, by the place of the engine. A new engine is opened as soon as it is current."""

    def __init__(self, location: str, open_part: Callable[[Engine], Part]) -> None:
        """Open the current engine. Raises EngineError."""
        engine = open_engine(location)
        self._location, self._open_part, self._current = location, open_part, Current(engine)
        self._tried = self._last = engine.place
        self._retry_at, self._problem = 0.0, ""
        first: Future[Part] = Future()
        first.set_result(open_part(engine))
        self._parts, self._used = {engine.place: first}, {engine.place: time.monotonic()}
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(1, thread_name_prefix="engine")
        if self._current.can_change:
            threading.Thread(target=_watch, args=(weakref.ref(self),), name="current", daemon=True).start()

    async def get(self, place: str) -> Part:
        """Give the part of an engine for a request; open it first where necessary. Raises EngineError."""
        self._last, self._used[place] = place, time.monotonic()
        return await self.prepare(place)

    async def prepare(self, place: str) -> Part:
        """Open the part of an engine unless it is open. Raises EngineError."""
        part = self._start(place)
        return part.result() if part.done() else await asyncio.shield(asyncio.wrap_future(part))

    def opened(self) -> list[Part]:
        """Give the parts of all open engines."""
        with self._lock:
            return [part.result() for part in self._parts.values() if part.done() and not part.exception()]

    def look(self) -> None:
        """Open the engine that has become current, and close those that nobody asks for any more.

        An engine that could not be opened is tried again after RETRY_S.
        """
        place = self._current.read()
        if place != self._tried or time.monotonic() >= self._retry_at:
            self._tried, self._retry_at = place, time.monotonic() + RETRY_S
            self._start(place)
        with self._lock:
            for old in self._parts.keys() - {place, self._last}:
                if time.monotonic() - self._used[old] > KEEP_S and self._parts[old].done():
                    del self._parts[old]
                    log.info("%s is closed", old)

    def _start(self, place: str) -> "Future[Part]":
        with self._lock:
            part = self._parts.get(place)
            if part is None or (part.done() and part.exception()):
                self._used.setdefault(place, time.monotonic())
                part = self._parts[place] = self._pool.submit(self._open, place)
            return part

    def _open(self, place: str) -> Part:
        try:
            part = self._open_part(open_engine(self._location, place))
        except Exception as error:
            problem = f"{place} cannot be opened: {error}"
            if problem != self._problem:
                log.error(problem)
            self._problem = problem
            raise
        self._problem = ""
        return part


def _watch(reference: "weakref.ref[Versions[Part]]") -> None:
    problem, pace = "", 1
    while True:
        time.sleep(INTERVAL_S * pace)
        versions = reference()
        if versions is None:
            return
        pace = versions._current.pace
        try:
            versions.look()
            problem = ""
        except Exception as error:  # whatever storage raises, the next look may succeed
            if str(error) != problem:
                problem = str(error)
                log.error("it cannot be read which engine is current: %s", problem)
        del versions
