"""A server of generated photographs, a process of its own, for `bench_download.py`.

It shares the cores with what is measured, so it does little: each answer stands ready in memory, header and all. It
notes when each answer was handed over, and by that clock both sides are measured.

    python benchmarks/photo_server.py FOLDER       serves the photographs of FOLDER, prints the port

GET /p/<anything> is a photograph, /_reset forgets the answers so far, /_stats tells of them in JSON: `seconds`, when
each was handed over, since the first request; `most`, connections at a time; `cpu_s`, what the server took.
"""

import argparse
import asyncio
import io
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, QUALITY = 1632, 1224, 87
SCALES = ((4, 60.0), (16, 30.0), (64, 18.0), (256, 9.0))  # cells across, and how much they differ
GRAIN = (1.0, 3.5)  # makes 250 to 370 KB


def make_photos(folder: Path, num: int) -> list[Path]:
    """Write photographs of about 2 megapixels: smooth colours at several scales, and grain."""
    import numpy as np
    from PIL import Image

    paths = []
    for seed in range(num):
        rng = np.random.default_rng(seed)
        pixels = np.full((HEIGHT, WIDTH, 3), 128.0, np.float32)
        for cells, amplitude in SCALES:
            colours = rng.normal(size=(cells * HEIGHT // WIDTH, cells, 3)).astype(np.float32)
            colours = 0.4 * colours + 1.2 * colours.mean(axis=2, keepdims=True)
            for channel in range(3):
                smooth = Image.fromarray(colours[..., channel]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                pixels[..., channel] += amplitude * np.asarray(smooth)
        pixels += rng.normal(scale=rng.uniform(*GRAIN), size=(HEIGHT, WIDTH, 1))
        jpeg = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(jpeg, "JPEG", quality=QUALITY)
        paths.append(folder / f"{seed:03}.jpg")
        paths[-1].write_bytes(jpeg.getvalue())
    return paths


class Tally:
    """What was answered since the last reset."""

    def __init__(self) -> None:
        self.first: float | None = None  # request
        self.seconds: list[float] = []
        self.now = self.most = 0  # connections
        self.cpu_s = time.process_time()

    def stats(self) -> bytes:
        """As JSON."""
        first, cpu_s = self.first or 0.0, time.process_time() - self.cpu_s
        seconds = [round(second - first, 4) for second in self.seconds]
        return json.dumps({"seconds": seconds, "most": self.most, "cpu_s": cpu_s}).encode()

    def reset(self) -> bytes:
        """Forget, but for the connections that are open."""
        self.first, self.seconds, self.most, self.cpu_s = None, [], self.now, time.process_time()
        return b"{}"


class Connection(asyncio.Protocol):
    """One connection: GET after GET until the client closes it, or asks for that."""

    def __init__(self, answers: "itertools.cycle[bytes]", latency_s: float, tally: Tally) -> None:
        self.answers, self.latency_s, self.tally = answers, latency_s, tally
        self.received = b""
        self.waits = self.last = self.photo = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a write that the kernel does not take at once pauses us, so that we see when it is through."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  uvloop's is none by its class
        self.transport.set_write_buffer_limits(high=0)
        self.tally.now += 1
        self.tally.most = max(self.tally.most, self.tally.now)

    def data_received(self, data: bytes) -> None:
        """Take a request; both peers wait for its answer before they send another."""
        self.received += data
        if not self.received.endswith(b"\r\n\r\n"):
            return
        request, self.received = self.received, b""
        path = request.split(b" ", 2)[1]
        self.last = b"connection: close" in request.lower()
        self.photo = path.startswith(b"/p/")
        if self.photo:
            if self.tally.first is None:
                self.tally.first = time.perf_counter()
            asyncio.get_running_loop().call_later(self.latency_s, self.answer, next(self.answers))
        else:
            body = {b"/_stats": self.tally.stats, b"/_reset": self.tally.reset}[path]()
            self.answer(ready("application/json", body))

    def answer(self, answer: bytes) -> None:
        """Send it."""
        if not self.transport.is_closing():
            self.transport.write(answer)
            if not self.waits:
                self.sent()

    def sent(self) -> None:
        """Note that an answer is through."""
        if self.photo:
            self.tally.seconds.append(time.perf_counter())
        if self.last:
            self.transport.close()

    def pause_writing(self) -> None:
        """The kernel has not taken all."""
        self.waits = True

    def resume_writing(self) -> None:
        """Now it has."""
        self.waits = False
        self.sent()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it off."""
        self.tally.now -= 1


def ready(kind: str, body: bytes) -> bytes:
    """An answer with its header."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def serve(photos: Sequence[bytes], latency_s: float) -> None:
    """Serve until killed."""
    answers, tally = itertools.cycle([ready("image/jpeg", photo) for photo in photos]), Tally()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(answers, latency_s, tally), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  for who started it
    await server.serve_forever()


def main() -> None:
    """Serve a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-s", type=float, default=0.05)
    given = parser.parse_args()
    try:
        from uvloop import run  # comes with ray[serve], and takes half the CPU
    except ImportError:
        from asyncio import run
    run(serve([path.read_bytes() for path in sorted(given.folder.glob("*.jpg"))], given.latency_s))


if __name__ == "__main__":
    main()
