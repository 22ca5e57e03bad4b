"""Answers of GBIF, written to a file as they come: after a kill, the next run asks only for those that are missing.

Each run appends its answers to a file of its own, a line each, so that a kill can damage only the last line, which the
next run skips. Object stores cannot append: there a file holds the answers of SAVE_EVERY_S seconds.
"""

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pyarrow.fs as pafs

from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage

SAVE_EVERY_S = 30.0
AnswerT = TypeVar("AnswerT")


class Journal:
    """The answers in a folder of the storage, by name; without a storage they are kept in memory only."""

    def __init__(self, storage: Storage | None, folder: str) -> None:
        self.answers: dict[str, Any] = {}
        self._storage, self._folder = storage, folder
        files = storage.files(folder, ".jsonl") if storage else []
        for file in files:
            for line in storage.read_bytes(file.path).split(b"\n") if storage else ():
                try:
                    name, answer = json.loads(line)
                except ValueError:  # cut by a kill, or the end of the file
                    continue
                self.answers[name] = answer
        self._next = len(files)
        self._lines: list[bytes] = []
        self._saved = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._save()

    def ask(self, name: str, question: Callable[[], AnswerT]) -> AnswerT:
        """Give the answer with this name; ask the question for it, once."""
        if name not in self.answers:
            self.add(name, question())
        answer: AnswerT = self.answers[name]
        return answer

    def add(self, name: str, answer: Any) -> None:
        """Write down an answer, which is anything that JSON can hold."""
        self.answers[name] = answer
        self._lines.append(json.dumps([name, answer]).encode() + b"\n")
        is_local = self._storage is not None and isinstance(self._storage.fs, pafs.LocalFileSystem)
        if is_local or time.monotonic() - self._saved >= SAVE_EVERY_S:
            self._save()

    def delete(self) -> None:
        """Delete the files; the answers in memory stay."""
        self._lines.clear()
        if self._storage:
            self._storage.delete(self._folder)

    def _save(self) -> None:
        if self._storage is None or not self._lines:
            return
        path = f"{self._folder}/{self._next:06}.jsonl"
        if isinstance(self._storage.fs, pafs.LocalFileSystem):
            _append(Path(self._storage.full(path)), b"".join(self._lines))
        else:
            self._storage.write_bytes(path, b"".join(self._lines))
            self._next += 1
        self._lines.clear()
        self._saved = time.monotonic()


def _append(path: Path, lines: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(lines)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}; make room or choose another --root") from error


def digest(value: Any) -> str:
    """Make a short name for anything that is JSON: equal values have equal names."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
