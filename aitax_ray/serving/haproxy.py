"""The files of HAProxy, which Ray Serve starts for `aitax serve`, and the end of those that a killed service left."""

import atexit
import os
import select
import shutil
import signal
import tempfile
from pathlib import Path

# Then the process id of the service. Ray puts a folder with a name of 56 letters into it, and HAProxy takes 97 letters
# for the path of its socket.
PREFIX = "aitax-"
END_S = 10.0


def make_folder() -> str:
    """Make a folder for the files of the HAProxy of this process. It is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
    atexit.register(_clear, Path(folder))
    return folder


def clear_leftovers() -> None:
    """End each HAProxy whose service was killed, and delete its files: it would keep the port."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        # A folder of somebody else may have any name.
        if folder.lstat().st_uid == os.getuid() and not Path("/proc", owner).exists():
            _clear(folder)


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
