"""Follows the lists of withdrawn photographs of an engine, so that a running service stops showing them at once.

`aitax takedown` writes the list of a root, engines/withdrawn.json. A copied engine may have one inside its folder.
"""

import logging
import threading
from collections.abc import Callable

from aitax_ray.engine.bundle import Engine
from aitax_ray.engine.info import CURRENT, ENGINES, join
from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage
from aitax_ray.takedowns import WITHDRAWN_FILE, read_withdrawn

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # between two looks
REMOTE_FACTOR = 5  # object stores are asked less often: they charge for each look of each replica


class WithdrawnLists:
    """The lists that concern an engine: the one in its folder, and the one beside all engines."""

    def __init__(self, engine: Engine) -> None:
        self._lists = [(engine.storage, join(engine.place, WITHDRAWN_FILE))]
        if engine.place:
            self._lists.append((engine.storage, join(engine.place.rpartition("/")[0], WITHDRAWN_FILE)))
        elif (folder := _folder_of_engines(engine.storage)) is not None:
            self._lists.append((folder, WITHDRAWN_FILE))
        self._seen: list[tuple[int | None, int | None]] = []

    def read(self) -> frozenset[str] | None:
        """Read which photographs are withdrawn; None when no list has changed since the last call.

        Raises StorageError when a list cannot be read. The next call tries again.
        """
        infos = [storage.fs.get_file_info(storage.full(path)) for storage, path in self._lists]
        found = [(info.size, info.mtime_ns) for info in infos]
        # Some storages do not tell the time of the last change.
        if found == self._seen and all(info.mtime_ns is not None for info in infos if info.is_file):
            return None
        withdrawn: frozenset[str] = frozenset()
        for storage, path in self._lists:
            withdrawn |= read_withdrawn(storage, path)
        self._seen = found
        return withdrawn


def _folder_of_engines(storage: Storage) -> Storage | None:
    """Open the folder around an engine that was given by its own folder, if it is one of engines."""
    outer, _, _ = storage.root.rstrip("/").rpartition("/")
    if not outer or outer.endswith((":", ":/")):
        return None
    folder = Storage(outer)
    try:
        return folder if outer.endswith(f"/{ENGINES}") or folder.exists(CURRENT) else None
    except StorageError:  # it may be nobody's business what is around a copied engine
        return None


def follow(engine: Engine, use: Callable[[frozenset[str]], None]) -> Callable[[], None]:
    """Call `use` with the withdrawn photographs: now, and from a thread whenever a list changes.

    Returns a function that ends the thread. Raises StorageError when a list cannot be read at first. Later errors are
    logged, and the last list stays in use.
    """
    lists = WithdrawnLists(engine)
    use(lists.read() or frozenset())
    ended, problem = threading.Event(), ""

    def watch() -> None:
        nonlocal problem
        while not ended.wait(INTERVAL_S * (1 if engine.storage.is_local else REMOTE_FACTOR)):
            try:
                withdrawn = lists.read()
                if withdrawn is not None:
                    use(withdrawn)
                    log.info("%s photographs are withdrawn", f"{len(withdrawn):,}")
                problem = ""
            except Exception as error:  # whatever storage raises, the next look may succeed
                if str(error) != problem:
                    problem = str(error)
                    log.error(
                        "the list of withdrawn photographs cannot be read, the last one stays in use: %s", problem
                    )

    threading.Thread(target=watch, name="withdrawn", daemon=True).start()
    return ended.set
