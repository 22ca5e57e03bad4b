"""Processes that decode photographs, so that a decoder that crashes or hangs costs one photograph and nothing else.

Each thread of the pool has its own process and waits for it without holding the interpreter's lock. So neither
decoding nor passing bytes blocks the event loop.

The library `pebble` offers pools with time limits, too, and is as fast. This module stays for two reasons. A process
that hangs here ends by itself, even after the program that started it was killed; in pebble only that program ends
it. And pebble starts processes with `multiprocessing`, which imports the main module of the program in each of them:
below Ray that is Ray itself, 26 MB and as much start time again.
"""

import asyncio
import contextlib
import hashlib
import importlib
import math
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from aitax_ray.errors import ClusterError
from aitax_ray.images.budget import ThreadBudget
from aitax_ray.images.decode import MAX_PIXELS, Photo, Refusal, normalize, open_photo
from aitax_ray.images.fingerprint import PHASH_BYTES
from aitax_ray.images.memory import give_back_memory

DECODER_CRASHED = "decoder_crashed"
DECODER_TIMEOUT = "decoder_timeout"
TOO_SLOW = "too_slow"  # only where there is a `max_work`: not of the download
REASONS = {
    DECODER_CRASHED: "the decoder crashed",
    DECODER_TIMEOUT: "decoding took too long",
}
PIPE_BYTES = 1 << 20  # the most that Linux gives without privileges: most photographs fit
MAX_ADDRESS_SPACE = 4 << 30  # bytes
MAX_PHOTOS = 5000  # after so many a process is replaced, so that memory which a decoder leaks does not add up
START_TIMEOUT_S = 120.0  # a decoder starts within a second, unless the machine is overloaded
GRACE_S = 5.0  # a decoder that nobody stopped stops itself so long after `timeout_s`
STEP_S = 0.1  # between looks at a decoder that is at work
STOP_AFTER_S = 1.0  # a photograph that nobody waits for any more may take so long; the next ones wait for it
_READY, _GO = b"ready", b"g"
# Bytes of the body; then 0 for a JPEG, else the px that the shorter side of its pixels keeps at least, see open_photo.
_REQUEST = struct.Struct("<QI")
# Bytes of memory that decoding takes at the peak. Unless it is 0, the decoder waits for _GO before it takes them.
_NEED = struct.Struct("<Q")
# sha256 of the body, width (0 for a refusal), height, perceptual hash, contrast; bytes of what follows: JPEG, pixels or
# the reason. For pixels neither hash nor contrast is computed.
_REPLY = struct.Struct(f"<32sII{PHASH_BYTES}sdQ")


@dataclass(frozen=True)
class Decoded:
    """The result for one file."""

    photo: Photo | Refusal
    sha256: str  # of the body, in hex


@dataclass(frozen=True)
class _Reply:
    """The answer of a decoder's process."""

    digest: bytes
    width: int
    height: int
    phash: bytes
    contrast: float
    rest: bytes

    @classmethod
    def refuse(cls, reason: str) -> "_Reply":
        return cls(b"", 0, 0, b"", 0.0, reason.encode())


class _Job:
    """A photograph that is being decoded. Another thread may end it, by killing its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    @contextlib.contextmanager
    def using(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._lock:
            self._process = process
        if self._is_stopped:
            self.stop()
        try:
            yield
        finally:
            with self._lock:  # from now on another photograph has the process
                self._process = None

    def is_stopped(self) -> bool:
        return self._is_stopped

    def stop(self) -> None:
        self._is_stopped = True
        with self._lock:
            if self._process is not None:
                self._process.kill()


class DecoderPool:
    """Decodes in separate processes, which are replaced when they crash or hang, and now and then."""

    def __init__(
        self,
        num_decoders: int,
        image_size: int,
        max_pixels: int = MAX_PIXELS,
        timeout_s: float = 60.0,
        budget: ThreadBudget | None = None,
        finish: tuple[str, str] = ("", ""),
        *,
        max_work: float = math.inf,
        max_cpu_s: float = math.inf,
        niceness: int = 0,
    ) -> None:
        """`timeout_s` is for one photograph. Processes start when the first photographs come.

        `finish` names a function, as module:function, and a text for it. What it gives for the text is called in the
        process with each image that `open` asks for: it may make it smaller before it is passed on.
        All decoders together take memory from `budget`, before they decode. Pools may share one. A photograph that
        takes more than `max_work` (see `estimate_work`) is refused as TOO_SLOW, and one that takes more than
        `max_cpu_s` of a core is stopped while others wait, whatever `timeout_s` is. `niceness` of the processes: from
        0 to 19, see nice(1).
        """
        self.timeout_s, self._max_cpu_s = timeout_s, max_cpu_s
        self._num_decoders, self._num_asked = num_decoders, 0
        self._budget = budget or ThreadBudget(sys.maxsize)
        self._is_closed = False
        limits = image_size, max_pixels, timeout_s + GRACE_S, max_work, niceness
        self._arguments = [*map(str, limits), *finish]
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")

    async def decode(self, body: bytes | bytearray) -> Decoded:
        """Normalize a photograph. Raises ClusterError when no process can be started.

        If the caller is cancelled, a photograph that waits is dropped, and one that is being decoded ends soon.
        """
        reply = await self._ask(body, 0)
        digest = reply.digest or hashlib.sha256(body).digest()
        if not reply.width:
            return Decoded(Refusal(reply.rest.decode()), digest.hex())
        return Decoded(Photo(reply.rest, reply.width, reply.height, reply.phash, reply.contrast), digest.hex())

    async def open(self, body: bytes, least_size: int) -> Image.Image | Refusal:
        """Decode a photograph to an upright RGB image, see `open_photo`, and finish it; otherwise as `decode`."""
        reply = await self._ask(body, least_size)
        if not reply.width:
            return Refusal(reply.rest.decode())
        return Image.frombuffer("RGB", (reply.width, reply.height), reply.rest, "raw", "RGB", 0, 1)

    async def _ask(self, body: bytes | bytearray, least_size: int) -> _Reply:
        loop, job = asyncio.get_running_loop(), _Job()
        self._num_asked += 1
        try:
            return await loop.run_in_executor(self._threads, self._decode, body, least_size, job)
        except asyncio.CancelledError:
            loop.call_later(STOP_AFTER_S, job.stop)
            raise
        finally:
            self._num_asked -= 1

    def close(self) -> None:
        """Stop the processes. Photographs that are being decoded are refused; those that wait are cancelled."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown()  # pipes may be closed only when no thread waits for them
        self._stop_all()

    def __del__(self) -> None:
        self._stop_all()  # nothing is being decoded now: a thread that decodes refers to the pool

    def _decode(self, body: bytes | bytearray, least_size: int, job: _Job) -> _Reply:
        process = self._get_process()
        try:
            with job.using(process):
                reply = self._exchange(process, body, least_size, job)
            self._local.num_photos += 1
            if self._local.num_photos < MAX_PHOTOS:
                return reply
        except TimeoutError:
            reply = _Reply.refuse(DECODER_TIMEOUT)
        except (OSError, EOFError):
            reply = _Reply.refuse(DECODER_CRASHED)
        self._local.process = None
        self._stop(process)
        if not self._is_closed:
            with contextlib.suppress(ClusterError):  # the next photograph tries again, and reports it
                self._start()
        return reply

    def _exchange(
        self, process: subprocess.Popen[bytes], body: bytes | bytearray, least_size: int, job: _Job
    ) -> _Reply:
        """Send a file and read the answer. Raises TimeoutError, and OSError or EOFError if the process has ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin.fileno(), process.stdout.fileno()
        end = time.monotonic() + self.timeout_s
        for part in (_REQUEST.pack(len(body), least_size), body):
            unsent = memoryview(part)
            while unsent:
                _wait(into, select.POLLOUT, end)  # a process that hangs reads nothing
                unsent = unsent[os.write(into, unsent) :]
        self._watch(process, out, end)
        (need,) = _NEED.unpack(_read(out, _NEED.size, end))
        if not need:
            return _read_reply(out, end)
        with self._budget.room(need, lambda: job.is_stopped() or self._is_closed):
            try:
                os.write(into, _GO)
                end = time.monotonic() + self.timeout_s
                self._watch(process, out, end)
                return _read_reply(out, end)
            except (OSError, EOFError):  # TimeoutError is an OSError
                self._stop(process)  # it has memory until it has ended
                raise

    def _watch(self, process: subprocess.Popen[bytes], out: int, end: float) -> None:
        """Wait until a process answers. Raises TimeoutError."""
        begin_s = _cpu_seconds(process)
        while True:
            with contextlib.suppress(TimeoutError):
                _wait(out, select.POLLIN, min(end, time.monotonic() + STEP_S))
                return
            has_others = self._num_asked > self._num_decoders
            if time.monotonic() >= end or (has_others and _cpu_seconds(process) - begin_s > self._max_cpu_s):
                raise TimeoutError

    def _get_process(self) -> subprocess.Popen[bytes]:
        """Return this thread's process; start one if there is none or if it ended while it was idle."""
        process: subprocess.Popen[bytes] | None = getattr(self._local, "process", None)
        if process is not None and process.poll() is not None:
            self._stop(process)
            process = None
        return process or self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        program = "from aitax_ray.images.decoders import serve; serve()"
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # NumPy would start a thread per core, but every core already has a decoder.
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise ClusterError(
                f"no process for decoding can be started ({error}): free some memory or allow more processes"
            ) from error
        self._processes.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            _enlarge(pipe)
        os.set_blocking(process.stdin.fileno(), False)
        try:
            _read(process.stdout.fileno(), len(_READY), time.monotonic() + START_TIMEOUT_S)
        except (OSError, EOFError) as error:
            self._stop(process)
            raise ClusterError("a process for decoding ended when it started: see its message above") from error
        self._local.process, self._local.num_photos = process, 0
        return process

    def _stop_all(self) -> None:
        for process in list(self._processes):
            self._stop(process)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.discard(process)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def serve() -> None:
    """Decode one file after the other from standard input until it ends: the program of a decoder's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that started this one
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # when that program is gone, end silently
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    image_size, max_pixels, limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    max_work, niceness = float(sys.argv[4]), int(sys.argv[5])
    module, _, function = sys.argv[6].partition(":")
    finish = getattr(importlib.import_module(module), function)(sys.argv[7]) if module else None
    os.nice(niceness)
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=PIPE_BYTES)
    os.dup2(2, 1)  # output of a library must not be mistaken for an answer
    target.write(_READY)
    target.flush()
    give_back_memory()
    is_reserved = False

    def reserve(num_bytes: int, work: float) -> None:
        nonlocal is_reserved
        if work > max_work:
            raise _TooSlow
        if is_reserved:  # damaged files are decoded several times
            return
        is_reserved = True
        signal.setitimer(signal.ITIMER_REAL, 0)  # it waits for others
        target.write(_NEED.pack(num_bytes))
        target.flush()
        if source.read(len(_GO)) != _GO:
            sys.exit()
        signal.setitimer(signal.ITIMER_REAL, limit_s)

    while len(header := source.read(_REQUEST.size)) == _REQUEST.size:
        length, least_size = _REQUEST.unpack(header)
        body = source.read(length)
        # The program that started this one stops what takes too long. The alarm is for when that program is gone.
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        is_reserved = False
        digest = b""
        photo: Photo | Image.Image | Refusal
        try:
            if least_size:
                photo = open_photo(body, max_pixels, image_size, reserve, least_size)
                photo = finish(photo) if finish and not isinstance(photo, Refusal) else photo
            else:
                photo, digest = normalize(body, image_size, max_pixels, reserve), hashlib.sha256(body).digest()
        except _TooSlow:
            photo = Refusal(TOO_SLOW)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(photo, Photo):
            fields, rest = (photo.width, photo.height, photo.phash, photo.contrast), photo.jpeg
        elif isinstance(photo, Refusal):
            fields, rest = (0, 0, b"", 0.0), photo.reason.encode()
        else:
            fields, rest = (photo.width, photo.height, b"", 0.0), photo.tobytes()
        target.write((b"" if is_reserved else _NEED.pack(0)) + _REPLY.pack(digest, *fields, len(rest)))
        target.write(rest)
        target.flush()


class _TooSlow(BaseException):
    """Passes through `normalize`, which takes an Exception for a damaged photograph."""


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """The CPU time that a process has taken; 0 where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        return time.clock_gettime(~process.pid << 3 | 2)  # the clock of another process: clock_getcpuclockid(3)
    return 0.0


def _read_reply(pipe: int, end: float) -> _Reply:
    digest, width, height, phash, contrast, length = _REPLY.unpack(_read(pipe, _REPLY.size, end))
    return _Reply(digest, width, height, phash, contrast, _read(pipe, length, end))


def _read(pipe: int, length: int, end: float) -> bytes:
    content = bytearray(length)
    missing = memoryview(content)
    while missing:
        _wait(pipe, select.POLLIN, end)
        num = os.readv(pipe, [missing])
        if not num:
            raise EOFError
        missing = missing[num:]
    return bytes(content)


def _wait(pipe: int, event: int, end: float) -> None:
    """Wait until the time `end` by time.monotonic. Raises TimeoutError."""
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(max(0.0, 1000 * (end - time.monotonic()))):
        raise TimeoutError


def _enlarge(pipe: IO[bytes]) -> None:
    import fcntl

    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux
    if size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, size, PIPE_BYTES)
