"""Stops a process at each of its writes, as SIGKILL would: what was not written is not there."""

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aitax_ray.storage import Storage

WRITES = ("write_bytes", "write_table", "rewrite_table", "upload", "copy", "delete")


class Killed(BaseException):
    """The process is gone. No code may catch this."""


def killed_at_each_write(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Do `work` again and again, and stop it at its first write, its second one, ...; yield the number each time.

    Ends when the work came to its end. The caller brings the files into the state of before.
    """
    for number in range(1, 1000):
        with monkeypatch.context() as patch:
            count = [0]
            for name in WRITES:
                patch.setattr(Storage, name, _counted(getattr(Storage, name), count, number))
            try:
                work()
            except Killed:
                pass
            else:
                return
        yield number


def _counted(write: Callable[..., object], count: list[int], last: int) -> Callable[..., object]:
    def counted(*arguments: object, **named: object) -> object:
        count[0] += 1
        if count[0] == last:
            raise Killed
        return write(*arguments, **named)

    return counted


@contextmanager
def killed_after(num_steps: int) -> Iterator[None]:
    """Let the first steps on a local storage happen, and raise Killed at each later one.

    A file is written in two steps: under another name, which stays when the second step does not happen, and by
    renaming it. Each file of a folder is deleted in a step.
    """
    done, lock = [0], threading.Lock()

    def step() -> None:
        with lock:
            if done[0] >= num_steps:
                raise Killed
            done[0] += 1

    @contextmanager
    def complete_file(self: Storage, path: str) -> Iterator[str]:
        final = Path(self.full(path))
        target = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        step()
        final.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half")
        yield str(target)
        step()
        target.replace(final)

    def delete(self: Storage, path: str) -> None:
        full = Path(self.full(path))
        for file in sorted(full.rglob("*")) if full.is_dir() else [full]:
            if file.is_file():
                step()
                file.unlink()
        shutil.rmtree(full, ignore_errors=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "_complete_file", complete_file)
        patch.setattr(Storage, "delete", delete)
        yield
