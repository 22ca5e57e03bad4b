"""The engines in a folder: which there are, whether they are intact, which one is in use. See `aitax engines`."""

import contextlib
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from aitax_ray.engine.bundle import Engine, open_engine
from aitax_ray.engine.info import (
    CURRENT,
    ENGINES,
    INFO,
    find_faults,
    join,
    read_current,
    read_info,
    write_current,
)
from aitax_ray.errors import EngineError, SettingsError
from aitax_ray.storage import Storage
from aitax_ray.takedowns import WITHDRAWN_FILE

log = logging.getLogger(__name__)

# The folders that `publish` makes: time of publication, and the first digits of the weights' sha256. Others belong to
# the user.
VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
LONG_AGO = datetime.min.replace(tzinfo=UTC)
IS_MISSING = "missing, although it is the current engine"


@dataclass(frozen=True)
class Summary:
    """One engine of the list."""

    version: str
    is_current: bool
    problem: str = ""
    """Why it cannot be used, as far as engine.json and the sizes of the files show."""
    created: datetime | None = None
    arch: str = ""
    num_species: int = 0
    num_photographs: int = 0
    top1: float | None = None
    num_bytes: int = 0


@dataclass(frozen=True)
class Verification:
    """What a check of all files of an engine found."""

    version: str
    num_files: int
    num_bytes: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Swap:
    """The versions in use before and after. None: none was in use."""

    before: str | None
    after: str


@dataclass(frozen=True)
class Pruned:
    """The versions that were deleted, and those of `publish` that were kept, the oldest first."""

    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    num_bytes: int
    """Size of what was deleted."""


class Engines:
    """The engines of a root, or of a folder with engines."""

    def __init__(self, location: str) -> None:
        """Find the folder. `location` may also be one engine. Raises EngineError when there are no engines."""
        self.storage = Storage(location.removesuffix("/").removesuffix(f"/{CURRENT}"))
        self.is_single = self.storage.exists(INFO)
        self.folder = ENGINES if not self.is_single and self.storage.exists(ENGINES) else ""
        if not self.is_single and not self.names() and self.current() is None:
            raise EngineError(
                f"no engines in {self.storage.address()}: give a root where `aitax publish` has been run, a folder "
                "that `aitax publish --to` has written, or an engine"
            )

    def current(self) -> str | None:
        """Read which version is in use; None when there is none."""
        return None if self.is_single else read_current(self.storage, self.folder)

    def names(self) -> list[str]:
        """List the folders of engines, also of those that `publish` has not completed. A single engine is ""."""
        if self.is_single:
            return [""]
        found = {entry.rsplit("/", 1)[-1] for entry in self.storage.entries(self.folder)}
        names = {name for name in found if VERSION.fullmatch(name) or self._is_complete(name)}
        current = self.current()
        if current and self._is_complete(current):  # web servers do not list folders
            names.add(current)
        return sorted(names)

    def summaries(self) -> list[Summary]:
        """Describe all engines, the oldest first."""
        current, names = self.current(), self.names()
        found = [self._summary(name, is_current=name == current) for name in names]
        if current is not None and current not in names:
            found.append(Summary(current, True, IS_MISSING))
        return sorted(found, key=lambda one: (one.created or LONG_AGO, one.version))

    def verify(self, version: str | None = None) -> list[Verification]:
        """Read all files of all engines, or of one version, and say what is wrong with each."""
        current, names = self.current(), self.names()
        if version is not None:
            return [self._verify(self._known(version))]
        found = [self._verify(name) for name in names]
        if current is not None and current not in names:
            found.append(Verification(current, 0, 0, (IS_MISSING,)))
        return found

    def open(self, name: str) -> Engine:
        """Open a version. Raises EngineError when there is none, or when it cannot be used."""
        return open_engine(f"{self.storage.root}/{self._place(self._known(name))}")

    def rollback(self, version: str | None = None) -> Swap:
        """Make a version the current engine, by default the one before the current one, after a check of all its files.

        Raises EngineError when there is no such version, or when it is damaged.
        """
        before = self.current()
        after = self._known(version) if version is not None else self._version_before(before)
        problems = self._verify(after).problems
        if problems:
            more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
            raise EngineError(f"{after} cannot become the current engine: {problems[0]}{more}")
        write_current(self.storage, self.folder, after)
        if not self._is_complete(after):  # `prune` deleted it at the same time
            if before is not None:
                write_current(self.storage, self.folder, before)
            raise EngineError(f"{after} was deleted at the same time: see `aitax engines list`")
        return Swap(before, after)

    def prune(self, keep: int) -> Pruned:
        """Delete the oldest versions that `publish` made, and keep `keep` of them.

        The current one is never deleted, nor a folder that holds other files than those of its engine.json. Raises
        SettingsError unless `keep` is 1 or more.
        """
        if keep < 1:
            raise SettingsError("--keep must be 1 or more")
        own = [one for one in self.summaries() if VERSION.fullmatch(one.version) and self._is_complete(one.version)]
        deleted = [one for one in own[: max(0, len(own) - keep)] if self._delete(one.version)]
        names = tuple(one.version for one in deleted)
        kept = tuple(one.version for one in own if one not in deleted)
        return Pruned(names, kept, sum(one.num_bytes for one in deleted))

    def _summary(self, name: str, *, is_current: bool) -> Summary:
        try:
            info = read_info(self.storage, self._place(name))
        except EngineError as error:
            return Summary(name, is_current, str(error) if self._is_complete(name) else "incomplete")
        faults = find_faults(self.storage, self._place(name), info)
        return Summary(
            version=name or info.version,
            is_current=is_current,
            problem=faults[0] if faults else "",
            created=info.created,
            arch=info.arch,
            num_species=len(info.classes),
            num_photographs=info.num_indexed,
            top1=info.metrics.get("top1"),
            num_bytes=info.num_bytes,
        )

    def _verify(self, name: str) -> Verification:
        place = self._place(name)
        try:
            info = read_info(self.storage, place)
        except EngineError as error:
            return Verification(name, 0, 0, (str(error),))
        problems = Engine(self.storage, place, info).find_problems()
        return Verification(name or info.version, len(info.files), info.num_bytes, tuple(problems))

    def _known(self, version: str) -> str:
        """Give the folder of a version. Raises EngineError when there is none."""
        name = "" if self.is_single else version
        if name not in self.names():
            raise EngineError(f"no engine {version} in {self.storage.address(self.folder)}: see `aitax engines list`")
        return name

    def _version_before(self, current: str | None) -> str:
        """Give the newest usable version that is older than the current one. If its age is unknown: the newest."""
        found = self.summaries()
        place = next((n for n, one in enumerate(found) if one.version == current and one.created), len(found))
        older = [one for one in found[:place] if not one.problem and one.version != current]
        if not older:
            raise EngineError(f"no engine before {current}: see `aitax engines list`")
        return older[-1].version

    def _delete(self, version: str) -> bool:
        """Delete a version, and tell whether it was deleted.

        It becomes incomplete first. Then the current version is read again: `rollback`, which may run at the same time,
        writes the current version first, and then looks whether it is complete. So one of both notices the other.
        """
        place = self._place(version)
        content = self.storage.read_bytes(join(place, INFO))
        others = self._files_of_others(version)
        if others:
            log.warning("%s stays, it holds files that are not part of the engine, such as %s", version, others[0])
            return False
        if version == self.current():
            return False
        self.storage.delete(join(place, INFO))
        if version == self.current():
            self.storage.write_bytes(join(place, INFO), content)
            return False
        self.storage.delete(place)
        return True

    def _files_of_others(self, version: str) -> list[str]:
        place = self._place(version)
        own = {INFO, WITHDRAWN_FILE}
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            own |= set(self.storage.read_json(join(place, INFO))["files"])
        there = [file.path.removeprefix(f"{place}/") for file in self.storage.files(place)]
        return [name for name in there if name not in own]

    def _is_complete(self, name: str) -> bool:
        return self.storage.exists(join(self._place(name), INFO))

    def _place(self, name: str) -> str:
        return join(self.folder, name) if name else self.folder


def open_version(name: str, location: str | None) -> Engine:
    """Open a version of the engines at `location`, or the engine whose own location is `name`."""
    engines = Engines(location) if location is not None else None
    return engines.open(name) if engines is not None and name in engines.names() else open_engine(name)


def delete_incomplete(storage: Storage, folder: str) -> None:
    """Delete what killed runs left: versions without engine.json, which is written last, and half a `current`."""
    for entry in storage.entries(folder):
        name = entry.rsplit("/", 1)[-1]
        is_version = VERSION.fullmatch(name) and not storage.exists(join(entry, INFO))
        if is_version or name.startswith(f".{CURRENT}."):
            storage.delete(entry)
