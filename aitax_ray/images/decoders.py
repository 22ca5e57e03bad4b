"""Processes that decode photographs, so that a native decoder that crashes on one costs that one and nothing else.

Each of the pool's threads has a process of its own and waits for it without the interpreter's lock: neither decoding
nor handing over holds up an event loop.
"""

import asyncio
import contextlib
import hashlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aitax_ray.errors import ClusterError
from aitax_ray.images.decode import MAX_PIXELS, Photo, Refusal, normalize
from aitax_ray.images.fingerprint import PHASH_BYTES

DECODER_CRASHED = "decoder_crashed"
DECODER_TIMEOUT = "decoder_timeout"
REASONS = {
    DECODER_CRASHED: "decoding it made the decoder crash",
    DECODER_TIMEOUT: "decoding it took too long",
}
PIPE_BYTES = 1 << 20  # most that Linux gives without privileges; a photograph goes through at one go
MAX_ADDRESS_SPACE = 4 << 30  # bytes
START_TIMEOUT_S = 120.0  # a decoder begins within a second, unless the machine is at its end
GRACE_S = 5.0  # how long after `timeout_s` a decoder ends by itself that nobody ended
_READY = b"ready"
_REQUEST = struct.Struct("<Q")  # bytes of the body
# sha256 of the body; width (0 for a refusal), height, perceptual hash, contrast; bytes of what follows: JPEG or reason
_REPLY = struct.Struct(f"<32sII{PHASH_BYTES}sdQ")


@dataclass(frozen=True)
class Decoded:
    """What came of a body."""

    photo: Photo | Refusal
    sha256: str  # of the body, in hex


class DecoderPool:
    """Decodes in processes of its own, as `normalize` does."""

    def __init__(
        self, num_decoders: int, image_size: int, max_pixels: int = MAX_PIXELS, timeout_s: float = 60.0
    ) -> None:
        self._arguments, self._timeout_s = [str(image_size), str(max_pixels), str(timeout_s + GRACE_S)], timeout_s
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")

    async def decode(self, body: bytes | bytearray) -> Decoded:
        """Bring a photograph to its one form. Raises ClusterError when no decoder can be started."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, body)

    def close(self) -> None:
        """Stop the processes. What is being decoded is refused, what waits for its turn is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.kill()
        self._threads.shutdown()  # the pipes may be closed only when no thread waits for them
        self._stop_all()

    def __del__(self) -> None:
        self._stop_all()  # nothing is being decoded, or its thread would hold the pool

    def _decode(self, body: bytes | bytearray) -> Decoded:
        process = self._process()
        try:
            return _exchange(process, body, self._timeout_s)
        except TimeoutError:
            reason = DECODER_TIMEOUT
        except (OSError, EOFError):
            reason = DECODER_CRASHED
        self._local.process = None
        self._stop(process)
        return Decoded(Refusal(reason), hashlib.sha256(body).hexdigest())

    def _process(self) -> subprocess.Popen[bytes]:
        """This thread's process; a new one where there is none, or where it was ended while it had nothing to do."""
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
                # NumPy would start a thread for each core, where every core has a decoder of its own.
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise ClusterError(f"no process for decoding can be started ({error}): make room for one") from error
        self._processes.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        for pipe in (process.stdin, process.stdout):
            _enlarge(pipe)
        os.set_blocking(process.stdin.fileno(), False)
        try:
            _read(process.stdout.fileno(), len(_READY), START_TIMEOUT_S)
        except (OSError, EOFError) as error:
            self._stop(process)
            raise ClusterError("a process for decoding ended as it began: see above what it said") from error
        self._local.process = process
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
    """Answer one body after the other until the input ends; the program of a decoder's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that gives the work
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # when that one is gone, end without a word
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    image_size, max_pixels, limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=PIPE_BYTES)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    target.write(_READY)
    target.flush()
    while len(header := source.read(_REQUEST.size)) == _REQUEST.size:
        (length,) = _REQUEST.unpack(header)
        body = source.read(length)
        # Whoever gave the work ends what takes too long, unless it was ended itself; then this does.
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        photo = normalize(body, image_size, max_pixels)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(photo, Photo):
            told, rest = (photo.width, photo.height, photo.phash, photo.contrast), photo.jpeg
        else:
            told, rest = (0, 0, b"", 0.0), photo.reason.encode()
        target.write(_REPLY.pack(hashlib.sha256(body).digest(), *told, len(rest)) + rest)
        target.flush()


def _exchange(process: subprocess.Popen[bytes], body: bytes | bytearray, timeout_s: float) -> Decoded:
    """Send a body and read the answer. Raises TimeoutError, and OSError or EOFError when the process is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin.fileno(), process.stdout.fileno()
    for part in (_REQUEST.pack(len(body)), body):
        left = memoryview(part)
        while left:
            _wait(into, select.POLLOUT, timeout_s)  # a process that hangs reads nothing
            left = left[os.write(into, left) :]
    digest, width, height, phash, contrast, length = _REPLY.unpack(_read(out, _REPLY.size, timeout_s))
    rest = _read(out, length, timeout_s)
    photo = Photo(rest, width, height, phash, contrast) if width else Refusal(rest.decode())
    return Decoded(photo, digest.hex())


def _read(pipe: int, length: int, timeout_s: float) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        _wait(pipe, select.POLLIN, timeout_s)
        part = os.read(pipe, length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _wait(pipe: int, event: int, timeout_s: float) -> None:
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(1000 * timeout_s):
        raise TimeoutError


def _enlarge(pipe: IO[bytes]) -> None:
    import fcntl

    size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux
    if size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, size, PIPE_BYTES)
