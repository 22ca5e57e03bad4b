"""Makes the folder of HAProxy, which Ray Serve starts for `aitax serve`, and ends what a killed service left."""

import atexit
import contextlib
import os
import select
import shutil
import signal
import tempfile
from pathlib import Path

# Short: Ray puts a folder with a name of 56 letters into it, and HAProxy takes 97 letters for the path of its socket.
PREFIX = "aitax-"
MARK = "service-of-haproxy"  # this file in it names the process of the service
END_S = 10.0


def make_folder() -> str:
    """Make a folder for the files of the HAProxy of this process. It is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix=PREFIX)
    Path(folder, MARK).write_text(f"{os.getpid()} {_processes()}", encoding="utf-8")
    atexit.register(_clear, Path(folder))
    return folder


def clear_leftovers() -> None:
    """End each HAProxy whose service was killed, and delete its files: it would keep the port."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{MARK}"):
        with contextlib.suppress(OSError):  # another service that starts has deleted it
            service, _, processes = mark.read_text(encoding="utf-8").partition(" ")
            is_ours = mark.stat().st_uid == os.getuid() and processes == _processes()
            if is_ours and service.isdecimal() and not Path("/proc", service).exists():
                _clear(mark.parent)


def _processes() -> str:
    """Name the numbering of processes: a container, which may share the folder, has its own."""
    return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it leads to no file


def _clear(folder: Path) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            handle = os.pidfd_open(int(process.name))  # keeps the number from being another process by then
        except OSError:  # it has ended
            continue
        try:
            name, _, arguments = (process / "cmdline").read_bytes().partition(b"\0")
            if name.endswith(b"/haproxy") and os.fsencode(f"{folder}/") in arguments:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], END_S)
        except OSError:  # it has ended, or it is somebody else's
            continue
        finally:
            os.close(handle)
    shutil.rmtree(folder, ignore_errors=True)
