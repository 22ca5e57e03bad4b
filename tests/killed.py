"""A process that is killed at a given moment, as far as its files show: no later step changes anything on storage."""

import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aitax_ray.storage import Storage


class Killed(BaseException):
    """Stands for SIGKILL. It is no Exception, so that no handler of the program takes it for an error."""


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
