"""Counts what the holders of keys have asked, and decides whether they may ask more.

One `Accounts` counts for all copies of the service, so that they share a quota. Counts of a day (UTC) are in a small
file per day beside the file of keys, and outlive a restart; the last minute does not.
"""

import json
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from aitax_ray.errors import SettingsError
from aitax_ray.serving.keys import Key, read_keys

log = logging.getLogger(__name__)

PAGE = "page"  # name of the key under which the page for people is counted
CHECK_S = 1.0  # how often the file of keys is looked at
MINUTE_S = 60.0


@dataclass(frozen=True)
class Verdict:
    """Whether a request may be answered, and the state of its key."""

    status: int
    """200, 401 (no such key), 403 (another origin) or 429 (too many)."""
    name: str = ""
    origins: tuple[str, ...] = ()
    count: int = 0
    """Identifications of this day."""
    per_day: int | None = None
    per_minute: int | None = None
    wait_s: float = 0.0
    """Time until the next request may be answered, if the status is 429."""
    day_ends_s: float = 0.0
    """Time until the next day."""
    day: str = ""
    """The day of the quota, ISO 8601."""


class Ledger(Protocol):
    """Knows the keys and counts: a deployment of Ray Serve, or `Accounts` in this process."""

    async def ask(self, holder: str, origin: str, cost: int | None) -> Verdict:
        """Decide on one request of a key, named by its sha256, or of `PAGE`; count it if the verdict is 200.

        `cost` is the number of identifications, or None for a look at the account, which is always allowed.
        """
        ...

    async def give_back(self, holder: str, day: str, cost: int) -> None:
        """Take back what a request of this day has counted, since the service failed to answer it. Its rate stays."""
        ...

    async def history(self, holder: str, year: int) -> dict[str, int]:
        """Count the identifications of a key by day of a year (ISO 8601), as far as counts are kept."""
        ...


class Accounts:
    """The `Ledger` in one process. Its methods may be called from several threads."""

    def __init__(self, located: str, clock: Callable[[], float] = time.time) -> None:
        self._located, self._clock, self._lock = located, clock, threading.Lock()
        self._folder = None if located.startswith("{") else Path(f"{located}.counts")
        self._keys, self._stamp, self._checked = read_keys(located), self._look(), time.monotonic()
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._day, self._counts, self._is_kept = "", dict[str, int](), True

    async def ask(self, holder: str, origin: str, cost: int | None) -> Verdict:
        """See `Ledger`."""
        with self._lock:
            now = self._clock()
            key = self._find(holder)
            if key is None:
                return Verdict(401)
            if key.origins and origin.lower() not in key.origins:
                return Verdict(403)
            day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            ends = (day + timedelta(days=1)).timestamp() - now
            self._open(day.date().isoformat())
            wait = 0.0 if cost is None else self._wait(key, now, ends, cost)
            if cost is not None and not wait:
                self._recent[key.name].append(now)
                if cost:
                    self._counts[key.name] = self._counts.get(key.name, 0) + cost
                    self._save()
            limits = key.per_day, key.per_minute
            count = self._counts.get(key.name, 0)
            return Verdict(429 if wait else 200, key.name, key.origins, count, *limits, wait, ends, self._day)

    async def give_back(self, holder: str, day: str, cost: int) -> None:
        """See `Ledger`."""
        with self._lock:
            key = self._find(holder)
            if key is not None and cost and day == self._day:
                self._counts[key.name] = max(0, self._counts.get(key.name, 0) - cost)
                self._save()

    async def history(self, holder: str, year: int) -> dict[str, int]:
        """See `Ledger`."""
        with self._lock:
            key = self._find(holder)
            if key is None or self._folder is None:
                return {}
            days = {path.stem: _read(path) for path in sorted(self._folder.glob(f"{year:04}-*.json"))}
            return {day: counts[key.name] for day, counts in days.items() if key.name in counts}

    def _find(self, holder: str) -> Key | None:
        if time.monotonic() - self._checked >= CHECK_S:
            self._checked, stamp = time.monotonic(), self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = read_keys(self._located)
                except SettingsError as error:
                    log.error("%s; the keys from before remain valid", error)
        return next((key for key in self._keys.values() if holder == key.sha256 or holder == PAGE == key.name), None)

    def _look(self) -> tuple[int, ...]:
        """What changes when the file does."""
        try:
            found = Path(self._located).stat() if self._folder else None
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()

    def _wait(self, key: Key, now: float, ends: float, cost: int) -> float:
        recent = self._recent[key.name]
        while recent and not now - MINUTE_S < recent[0] <= now:  # it is later than now if the clock was put back
            recent.popleft()
        if key.per_day is not None and cost and self._counts.get(key.name, 0) + cost > key.per_day:
            return ends
        if key.per_minute is not None and len(recent) >= key.per_minute:
            return recent[-key.per_minute] + MINUTE_S - now
        return 0.0

    def _open(self, day: str) -> None:
        """Begin a day, or go on with it after a restart."""
        if day != self._day:
            self._day = day
            self._counts = _read(self._folder / f"{day}.json") if self._folder else {}

    def _save(self) -> None:
        if self._folder is None:
            return
        path = self._folder / f"{self._day}.json"
        try:
            self._folder.mkdir(exist_ok=True)
            path.with_suffix(".new").write_text(json.dumps(self._counts), encoding="utf-8")
            path.with_suffix(".new").replace(path)
            self._is_kept = True
        except OSError as error:
            if self._is_kept:  # one line, until it works again
                log.warning("counts are not kept over a restart: %s: %s", path, error.strerror)
            self._is_kept = False


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(count) for name, count in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError):
        log.warning("%s cannot be read: its counts begin again", path)
        return {}
