"""Stops a process at each of its writes, as SIGKILL would: what was not written is not there."""

from collections.abc import Callable, Iterator

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
