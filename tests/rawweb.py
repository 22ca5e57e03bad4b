"""Servers on loopback that break rules of HTTP as no library does: they hang up, reset, and send without end.

Each kind has its own port, because some do not wait for a request. `Web.raw` returns their URLs.
"""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
BODY = b"\xff\xd8" + b"not much of a photograph" * 40
HALF = BODY[: len(BODY) // 2]
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(HALF), HALF)
GZIP_NAME = b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08" + bytes(6)
CLOSE, HALF_CLOSE, RESET, WAIT = "close", "half close", "reset", "wait"
CLOSE_LATER = "close when the next request comes"


@dataclass(frozen=True)
class Kind:
    """What a server does: read the request, send bytes, repeat bytes without end, then close or wait."""

    sends: bytes = b""
    then: str = CLOSE
    repeats: bytes = b""
    every_s: float = 0.0  # between two repetitions
    reads: bool = True


def declared(length: int) -> bytes:
    """The head of an answer that declares so many bytes."""
    return OK + b"Content-Length: %d\r\n\r\n" % length


def headed(lines: bytes) -> bytes:
    """An answer with additional lines in its head."""
    return OK + lines + declared(len(BODY)).removeprefix(OK) + BODY


KINDS = {
    # before any answer
    "accept and close": Kind(reads=False),
    "accept and reset": Kind(reads=False, then=RESET),
    "close": Kind(),
    "half close": Kind(then=HALF_CLOSE),
    "reset": Kind(then=RESET),
    "silent": Kind(then=WAIT, reads=False),  # so is a TLS port that never says hello
    # in the middle of the head
    "half a head": Kind(OK),
    "half a head, half closed": Kind(OK, HALF_CLOSE),
    "head without end": Kind(OK, repeats=b"X-More: of the same\r\n"),
    "line without end": Kind(OK + b"X-More: ", repeats=b"x" * 65536),
    "status without end": Kind(b"HTTP/1.1 200 ", repeats=b"x" * 65536),
    "head that drips": Kind(OK, repeats=b"X: y\r\n", every_s=0.05),
    "large head": Kind(OK + b"X-More: " + b"x" * 1_000_000 + b"\r\n\r\n", WAIT),
    "for ever nearly ready": Kind(repeats=b"HTTP/1.1 100 Continue\r\n\r\n", every_s=0.01),
    # no HTTP
    "garbage": Kind(bytes(range(128, 256)) * 100, WAIT),
    "another protocol": Kind(b"SSH-2.0-OpenSSH_9.6\r\n", WAIT, reads=False),
    "no head": Kind(BODY),
    "bad length": Kind(OK + b"Content-Length: many\r\n\r\n" + BODY, WAIT),
    "two lengths": Kind(OK + b"Content-Length: 5\r\n" + declared(6).removeprefix(OK) + BODY, WAIT),
    # in the middle of the body
    "half a body": Kind(declared(len(BODY)) + HALF),
    "half a body, half closed": Kind(declared(len(BODY)) + HALF, HALF_CLOSE),
    "half a body, reset": Kind(declared(len(BODY)) + HALF, RESET),
    "half a body, silent": Kind(declared(len(BODY)) + HALF, WAIT),
    "chunks, closed": Kind(CHUNKED + CHUNK),
    "chunks, half closed": Kind(CHUNKED + CHUNK, HALF_CLOSE),
    "chunks, silent": Kind(CHUNKED + CHUNK, WAIT),
    "chunks without end": Kind(CHUNKED, repeats=CHUNK * 100),
    "chunks that drip": Kind(CHUNKED, repeats=b"1\r\nx\r\n", every_s=0.05),
    # the file name in gzip's header has no end, so nothing can be inflated
    "gzip without end": Kind(OK + GZIP_NAME, repeats=b"x" * 65536),
    "chunk of no length": Kind(CHUNKED + CHUNK + b"some\r\n", WAIT),
    "chunk of a large length": Kind(CHUNKED + b"ffffffffffffffffff\r\n", WAIT),
    "trailer without end": Kind(CHUNKED + CHUNK + b"0\r\n", repeats=b"X-More: of the same\r\n"),
    # with a body that curl reads
    "longer than declared": Kind(declared(len(HALF)) + BODY, WAIT),
    "without a length": Kind(OK + b"\r\n" + BODY),
    "without a length, half closed": Kind(OK + b"\r\n" + BODY, HALF_CLOSE),
    "ready at last": Kind(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + declared(len(BODY)) + BODY, WAIT),
    "before it is asked": Kind(declared(len(BODY)) + BODY, WAIT, reads=False),
    "more than one body": Kind(declared(len(BODY)) + BODY + b"<br />\n<b>Warning</b>: on line 3<br />\n", WAIT),
    "length twice": Kind(headed(b"Content-Length: %d\r\n" % len(BODY)), WAIT),
    "length and chunks": Kind(CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n" + CHUNK + b"0\r\n\r\n", WAIT),
    "headers of 64 KB": Kind(headed(b"Set-Cookie: c=%b\r\n" % (b"x" * 16_000) * 4), WAIT),
    "a header of 64 KB": Kind(headed(b"X-More: %b\r\n" % (b"x" * 65_000)), WAIT),
    "a thousand headers": Kind(headed(b"X: y\r\n" * 1000), WAIT),
    "lines that are no headers": Kind(headed(b"X-A : b\r\nno header\r\n: x\r\nX B: c\r\n"), WAIT),
    "reset after the body": Kind(declared(len(BODY)) + BODY, RESET),
    "closed without saying so": Kind(declared(len(BODY)) + BODY, CLOSE_LATER),
    "chunks without their end": Kind(CHUNKED + b"%x\n%b\n" % (len(BODY) + 2, BODY + b"\xff\xd9")),
    # bytes that are not text
    "type in bytes": Kind(declared(len(BODY)).replace(b"jpeg", b"jp\xe9g\xff") + BODY, WAIT),
    "redirect in bytes": Kind(b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9.jpg\r\n\r\n"),
    "redirect without an empty line": Kind(b"HTTP/1.1 301 Moved\r\nLocation: /z.jpg\r\n"),
}


class RawWeb:
    """The servers. Each starts when its port is first asked for. Use it in the event loop of `Web`."""

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        self._servers: dict[str, asyncio.Server] = {}
        self._connected: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._full: list[socket.socket] = []

    async def port(self, kind: str) -> int:
        """Return the port of a kind."""
        if kind not in self._servers:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(kind, reader, writer)

            self._servers[kind] = await asyncio.start_server(serve, "127.0.0.1", 0)
        return int(self._servers[kind].sockets[0].getsockname()[1])

    def full_port(self) -> int:
        """Return a port that accepts no connection because its queue is full."""
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._full.append(server)
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            self._full.append(client)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        return int(server.getsockname()[1])

    async def close(self) -> None:
        """Stop all servers and close all connections."""
        for server in self._servers.values():
            server.close()
        for each in self._full:
            each.close()
        tasks = [task for task in self._connected.values() if task]
        for writer in self._connected:
            writer.transport.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = KINDS[name]
        self.connections[name] += 1
        self._connected[writer] = asyncio.current_task()
        try:
            if kind.reads:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(kind.sends)
            await writer.drain()
            while kind.repeats:
                writer.write(kind.repeats)
                await writer.drain()
                await asyncio.sleep(kind.every_s)
            if kind.then == RESET:
                # Without the pause the reset would overtake the bytes.
                await asyncio.sleep(0.05 if kind.sends else 0)
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif kind.then == HALF_CLOSE:
                writer.write_eof()
            elif kind.then == CLOSE_LATER:
                await reader.readuntil(b"\r\n\r\n")
            if kind.then in (HALF_CLOSE, WAIT):
                await reader.read()  # until the client hangs up
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client closed the connection
        finally:
            writer.close()
            del self._connected[writer]
