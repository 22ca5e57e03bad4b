"""A web server on loopback that serves photographs as real servers do: well, slowly, wrongly, or not at all.

    with Web() as web:
        web.url("/photo/a")              http://127.0.0.1:PORT/photo/a
        web.url("/photo/a", HOSTS[1])    the same at another host
        web.raw("reset")                 a server that is no HTTP server: see rawweb.py
        web.requests["/photo/a"]         how often it was asked for
        web.peak                         most requests at a time
        web.hosts["127.0.0.2"].peak      the same of one host; also requests, times
        web.peak_rate("127.0.0.2")       most requests in a second

Every path ends in a name of the caller's choosing, so that there are as many different URLs as needed; the same name
always gives the same photograph.
"""

import asyncio
import contextlib
import functools
import gzip
import hashlib
import io
import math
import struct
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler
from PIL import Image, ImageDraw

from tests.rawweb import RawWeb

WIDTH, HEIGHT = 120, 90
# Where the server can be reached; each is a host of its own. Some systems have the first only.
HOSTS = tuple(f"127.0.0.{n}" for n in range(1, 9))


def picture(name: str = "", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Draw a photograph: red above, and below a colour and a disc that depend on the name."""
    seed = hashlib.sha1(name.encode(), usedforsecurity=False).digest()
    width, height = size
    image = Image.new("RGB", size, (seed[0] // 2, seed[1], seed[2]))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, height // 3), fill=(230, 20, 20))
    x, y, r = width * seed[3] // 256, height // 2 + height * seed[4] // 1024, height // 8 + seed[5] % 8
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(seed[6], seed[7], seed[8]))
    return image


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """Encode a picture to a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photo(kind: str, name: str = "") -> bytes:
    """Make a photograph's file of some kind: jpeg, png, webp, gif, cmyk, gray16, exif6, bomb, ..."""
    image = picture(name)
    match kind:
        case "png":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            return encoded(image, "PNG")
        case "cmyk":
            return encoded(image.convert("CMYK"))
        case "gray16":
            return encoded(image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16"), "PNG")
        case "exif6":
            exif = Image.Exif()
            exif[0x0112] = 6
            return encoded(image.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes())
        case "bomb":  # 3.6 gigapixels according to its header
            header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
            chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000_000))), (b"IEND", b""))
            return b"\x89PNG\r\n\x1a\n" + b"".join(
                struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
                for tag, data in chunks
            )
        case _:
            return encoded(image, kind.upper())


@functools.cache
def gzip_bomb(megabytes: int) -> bytes:
    """Compress so many megabytes of zeros."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


@dataclass
class Host:
    """The requests that one host got."""

    times: list[float] = field(default_factory=list)  # time.monotonic() of each request
    now: int = 0
    peak: int = 0  # most requests at a time

    @property
    def requests(self) -> int:
        return len(self.times)

    def begin(self) -> None:
        self.times.append(time.monotonic())
        self.now += 1
        self.peak = max(self.peak, self.now)


class Web:
    """The server. It counts requests, and can delay its answers until `release`."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.hosts: defaultdict[str, Host] = defaultdict(Host)  # by the name they were asked by
        self.agents: set[str] = set()
        self.peak = self.now = 0
        self.held: set[str] = set()
        self.last_answered: int | None = None  # the number of the last request that is answered
        self._changed = threading.Condition()
        self._raw = RawWeb()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="web", daemon=True)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path."""
        return f"http://{host}:{self.port}{path}"

    def raw(self, kind: str, path: str = "/a", scheme: str = "http") -> str:
        """The URL of a server of rawweb.KINDS."""
        port = asyncio.run_coroutine_threadsafe(self._raw.port(kind), self._loop).result(10)
        return f"{scheme}://127.0.0.1:{port}{path}"

    def full(self) -> str:
        """The URL of a server that accepts no connection."""
        return f"http://127.0.0.1:{self._raw.full_port()}/a"

    @property
    def connections(self) -> Counter[str]:
        """How often the servers of rawweb.KINDS were connected to."""
        return self._raw.connections

    def peak_rate(self, host: str) -> int:
        """The most requests to a host in any second."""
        times = sorted(self.hosts[host].times)
        return max((sum(begin <= t < begin + 1 for t in times) for begin in times), default=0)

    def hold(self, *paths: str) -> None:
        """Delay the answers on these paths until `release`."""
        self.held = set(paths)

    def hold_after(self, number: int) -> None:
        """Answer so many more requests, and delay all later ones until `release`."""
        self._loop.call_soon_threadsafe(self._open.clear)
        self.last_answered = self.requests.total() + number

    def release(self) -> None:
        """Answer all delayed requests."""
        self.held, self.last_answered = set(), None
        self._loop.call_soon_threadsafe(self._open.set)

    def wait_until(self, condition: Callable[["Web"], bool], timeout_s: float = 60.0) -> bool:
        """Wait until a condition is true. It is checked whenever a request begins or ends."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout_s)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        for stop in (self._runner.cleanup(), self._raw.close()):
            asyncio.run_coroutine_threadsafe(stop, self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> int:
        self._open = asyncio.Event()
        app = web.Application(middlewares=[self._count])
        app.router.add_get("/{kind}/{rest:.+}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOSTS[0], 0).start()
        port = int(self._runner.addresses[0][1])
        for host in HOSTS[1:]:
            with contextlib.suppress(OSError):
                await web.TCPSite(self._runner, host, port).start()
        return port

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = self.hosts[request.host.rpartition(":")[0]]
        with self._changed:
            host.begin()
            self.requests[request.path] += 1
            is_held = request.path in self.held or self.requests.total() > (self.last_answered or math.inf)
            self.agents.add(request.headers.get("User-Agent", ""))
            self.now += 1
            self.peak = max(self.peak, self.now)
            self._changed.notify_all()
        try:
            if is_held:
                await self._open.wait()
            return await handler(request)
        finally:
            with self._changed:
                host.now -= 1
                self.now -= 1
                self._changed.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, rest = request.match_info["kind"], request.match_info["rest"]
        asked = self.requests[request.path]
        jpeg = photo("jpeg", rest.rsplit("/", 1)[-1])
        match kind:
            case "photo":
                return _image(jpeg)
            case "kind":  # /kind/png/NAME
                return _image(photo(*rest.split("/", 1)))
            case "sized":  # /sized/640x480/NAME
                width, height = rest.split("/")[0].split("x")
                return _image(encoded(picture(rest.split("/")[-1], (int(width), int(height)))))
            case "bytes":  # /bytes/NUMBER/NAME
                return _image(b"\xff" * int(rest.split("/")[0]))
            case "chunks":  # /chunks/NUMBER/NAME: the same, without saying how many
                return await self._in_chunks(request, int(rest.split("/")[0]))
            case "close":  # and a new connection for the next request
                last = _image(jpeg)
                last.force_close()
                return last
            case "robots":  # /robots/TAG/NAME
                return _image(jpeg, {"X-Robots-Tag": rest.split("/")[0]})
            case "gzip" | "deflate":
                pack = gzip.compress if kind == "gzip" else zlib.compress
                return _image(pack(jpeg), {"Content-Encoding": kind})
            case "bomb":  # /bomb/MEGABYTES/NAME
                return _image(gzip_bomb(int(rest.split("/")[0])), {"Content-Encoding": "gzip"})
            case "raw-deflate":  # without zlib's header
                packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
                return _image(packer.compress(jpeg) + packer.flush(), {"Content-Encoding": "deflate"})
            case "gzip-twice":
                return _image(gzip.compress(gzip.compress(jpeg)), {"Content-Encoding": "gzip, gzip"})
            case "half-gzip":
                return _image(gzip.compress(jpeg)[:-100], {"Content-Encoding": "gzip"})
            case "encoded":  # /encoded/CODING/NAME: not compressed, whatever the header says
                return _image(jpeg, {"Content-Encoding": rest.split("/")[0]})
            case "miscoded":  # /miscoded/CODING/NAME: neither compressed nor a photograph
                return _image(b"not a photograph", {"Content-Encoding": rest.split("/")[0]})
            case "status":  # /status/404/NAME
                return web.Response(status=int(rest.split("/")[0]), text="no")
            case "flaky":
                return _image(jpeg) if asked > 2 else web.Response(status=503)
            case "busy" | "down":  # /busy/SECONDS/NAME, or a date in place of seconds: 429, or 503, once
                wait = {"Retry-After": rest.split("/")[0]}
                return _image(jpeg) if asked > 1 else web.Response(status=429 if kind == "busy" else 503, headers=wait)
            case "slow":  # /slow/SECONDS/NAME
                await asyncio.sleep(float(rest.split("/")[0]))
                return _image(jpeg)
            case "hang":
                await asyncio.sleep(3600)
            case "html":
                return _image(b"<!doctype html><title>Please accept our terms</title>")
            case "truncated":
                return _image(jpeg[: len(jpeg) // 2])
            case "empty":
                return _image(b"")
            case "short" | "endless" | "drip":
                return await self._badly(request, kind, jpeg)
            case "declared":  # declares too many bytes, and never sends them
                response = web.StreamResponse(headers={"Content-Length": "4000000000"})
                await response.prepare(request)
                await asyncio.sleep(3600)
            case "redirect":
                raise web.HTTPFound(f"/photo/{rest}")
            case "again":  # to itself twice, then the photograph
                if asked <= 2:
                    raise web.HTTPFound(request.path)
                return _image(jpeg)
            case "choices":
                return web.Response(status=300, headers={"Location": f"/photo/{rest}"})
            case "cookie":  # to itself, until its cookie comes back
                if request.headers.get("Cookie") == "seen=yes":
                    return _image(jpeg)
                return web.Response(status=302, headers={"Location": request.path, "Set-Cookie": "seen=yes; path=/"})
            case "cookie-to":  # /cookie-to/URL: with a cookie that is for this host
                return web.Response(status=302, headers={"Location": rest, "Set-Cookie": "other=\u00fc; path=/"})
            case "loop":
                raise web.HTTPFound(request.path)
            case "chain":  # /chain/3/NAME redirects three times
                number, _, name = rest.partition("/")
                raise web.HTTPFound(f"/chain/{int(number) - 1}/{name}" if int(number) > 1 else f"/photo/{name}")
            case "to":  # /to/URL redirects to whatever stands there
                return web.Response(status=302, headers={"Location": rest} if rest != "nowhere" else {})
        return web.Response(status=404)

    async def _badly(self, request: web.Request, kind: str, jpeg: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        if kind == "short":  # hangs up in the middle
            response.content_length = len(jpeg)
            await response.prepare(request)
            await response.write(jpeg[: len(jpeg) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.prepare(request)
        try:
            while True:
                await response.write(b"\xff" * (65536 if kind == "endless" else 1))
                if kind == "drip":
                    await asyncio.sleep(0.05)
        except ConnectionError:  # the client closed the connection
            return response

    async def _in_chunks(self, request: web.Request, number: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        for begin in range(0, number, 65536):
            await response.write(b"\xff" * min(65536, number - begin))
        return response


def _image(body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, content_type="image/jpeg", headers=headers)
