"""Runs `aitax` as a user does: in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

AITAX = [sys.executable, "-m", "aitax_ray.cli"]
TIMEOUT_S = 540


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


def run(*arguments: str | Path, cwd: Path) -> Ran:
    """Run a command to its end."""
    with subprocess.Popen(
        [*AITAX, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except BaseException:  # Ray's processes must not live on beside the next tests
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Ran(process.returncode, out, err)


class Running:
    """A command that goes on: what it has written to stderr can be waited for."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait_for(self, pattern: str, timeout_s: float = 120) -> "re.Match[str]":
        """Wait until a line matches; fails with all that was written when the command ends or time is up first."""

        def found() -> "re.Match[str] | None":
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._more:
            self._more.wait_for(lambda: found() or self._ended, timeout_s)
            match = found()
        assert match, f"no line like {pattern!r} in:\n{''.join(self.lines)}"
        return match

    def interrupt(self) -> int:
        """Press Ctrl-C and wait for the end; gives the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def close(self) -> None:
        """Kill what is left of the command and its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def running(*arguments: str | Path, cwd: Path) -> Iterator[Running]:
    """Start a command; whatever is left of it and its children in the end is killed."""
    process = subprocess.Popen(
        [*AITAX, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    command = Running(process)
    try:
        yield command
    finally:
        command.close()
