"""Runs a command for somebody at a terminal: log lines, errors in one line, the exit status.

No text of others reaches the terminal as it is: no secrets of addresses, no control characters.
"""

import atexit
import contextlib
import copy
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from numbers import Number
from typing import NoReturn

import cyclopts
from cyclopts import App

from aitax_ray import cluster
from aitax_ray.errors import AitaxError
from aitax_ray.text import escape_controls
from aitax_ray.web import hide_secrets

# Errors of Ray, and of its subclasses, that come from a loss and not from a mistake.
LOST = frozenset(
    {"NodeDiedError", "ActorDiedError", "WorkerCrashedError", "ObjectLostError"}
    | {"OutOfMemoryError", "OutOfDiskError", "ObjectStoreFullError"}
)
INTERRUPTED = 130  # the exit status that shells use: 128 + SIGINT


@contextlib.contextmanager
def resumable(forced: bool = False) -> Iterator[None]:
    """When the work is stopped with Ctrl-C, say that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        same = "the same command without --force" if forced else "the same command"
        raise KeyboardInterrupt(f"{same} goes on from here") from None


class SafeFormatter(logging.Formatter):
    """Formats records without secrets of addresses and without control characters; a value stays on its line."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers format it too
        if isinstance(record.args, tuple):
            record.args = tuple(a if isinstance(a, Number) else escape_controls(str(a)) for a in record.args)
        return make_safe(super().format(record))


def make_safe(text: str) -> str:
    """Make a text of several lines fit for a terminal."""
    return "\n".join(map(escape_controls, hide_secrets(text).split("\n")))


def run_command(app: App, arguments: Sequence[str]) -> NoReturn:
    """Run a command and exit with its status: 0 done, 1 failed, 2 bad usage, 130 stopped. --debug shows tracebacks."""
    debug = "--debug" in arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
    for name in ("httpx", "httpcore", "matplotlib", "asyncio", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Services on this machine are never reached through a proxy.
    os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost,::1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    atexit.register(gc.freeze)  # else Python searches a million objects for garbage as it exits: 0.4 s
    status = _call(app, [argument for argument in arguments if argument != "--debug"], debug)
    if status == INTERRUPTED and cluster.stop():
        # A thread may still be in Ray's code. Python sometimes crashes when it finalises under such a thread.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _call(app: App, arguments: list[str], debug: bool) -> int:
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        return _report(f"{' '.join(str(error).split())} See `aitax --help`.", 2)
    except KeyboardInterrupt as error:
        return _report("; ".join(["stopped", *error.args]), INTERRUPTED)
    except Exception as error:
        cause = _find_cause(error)
        if isinstance(cause, AitaxError):
            return _report(str(cause), cause.exit_status, debug)
        if cause is error and isinstance(error, ModuleNotFoundError):
            remedy = "take the image built with VARIANT=cuda, or install all that aitax-ray needs (--debug shows more)"
            return _report(f"{error.name} is not installed here: {remedy}", 1, debug)
        if isinstance(cause, ModuleNotFoundError):
            where = "install it there, or give the job a runtime_env; `aitax doctor` compares the nodes"
            return _report(f"a node of the cluster lacks the package {cause.name}: {where}", 1, debug)
        line = (str(cause).strip().splitlines() or [""])[0][:300]
        if not line.endswith(".."):  # the dots of a text that was shortened stay
            line = line.removesuffix(".")
        return _report(f"{type(cause).__name__}: {line}{_remedy(cause)} (--debug shows more)", 1, debug)
    return 0


def _remedy(error: BaseException) -> str:
    """Say what to do about an error that has none of our messages: of a library, or of Ray itself."""
    if "No space left on device" in str(error):
        return ": a disk is full; make room there or in the folder for temporary files, and the same command goes on"
    if not LOST.isdisjoint(kind.__name__ for kind in type(error).__mro__):
        return ": Ray lost a worker or a node, or has no room left; once that is mended, the same command goes on"
    if isinstance(error, OSError):
        from aitax_ray import s3  # it imports Arrow, which takes a while

        todo = s3.remedy(str(error))
        return f": {todo}" if todo else ""
    return ""


def _find_cause(error: BaseException) -> BaseException:
    """Find what was raised in another process. The text of Ray's own errors about it is a traceback."""
    while type(error).__module__.startswith("ray."):
        inner = getattr(error, "cause", None) or error.__cause__
        if inner is None:
            break
        error = inner
    return error


def _report(message: str, status: int, debug: bool = False) -> int:
    """Say what is wrong in one line, or show the traceback, without secrets of addresses or control characters."""
    sys.stderr.write(make_safe(traceback.format_exc() if debug else f"aitax: {escape_controls(message)}\n"))
    return status
