"""A second worker in a process of its own, for tests of what workers do together."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch.multiprocessing


def _work(work: Callable[[int, Path], object], folder: Path) -> None:
    work(1, folder)
    # One of torch's threads may still run, and then the end of the interpreter sometimes aborts the process.
    os._exit(0)


@contextlib.contextmanager
def second_worker(work: Callable[[int, Path], object], folder: Path) -> Iterator[None]:
    """Call `work` with the rank 1 in another process meanwhile; it must succeed."""
    other = torch.multiprocessing.get_context("spawn").Process(target=_work, args=(work, folder))
    other.start()
    yield
    other.join()
    assert other.exitcode == 0
