"""An S3 server on loopback: moto's, behind a layer that counts requests and answers some of them with faults."""

import collections
import contextlib
import itertools
import logging
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

BUCKET = "frogs"
# Names of all that a machine may know of other storage: nothing of it may reach a test.
CHAIN = re.compile("AWS_")
THROTTLED = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
HALF = 100  # bytes of an answer that is cut off

Fault = str
"""throttle: 503 SlowDown. error: 500. reset: the connection is reset before the answer. cut: after a part of it."""


@dataclass
class S3:
    """The server: its address, the requests that it has had, and which of them fail."""

    address: str
    requests: "list[tuple[str, str, str]]" = field(default_factory=list)
    """Kind (GET, HEAD, PUT, POST, DELETE, or LIST), path of the object or folder, and the fault or ''."""
    choose: Callable[[int], Fault] = lambda number: ""
    """Gives the fault of a request by its number."""
    watch: Callable[[int], object] = lambda number: None
    """Is called with the number of each request before it is answered."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def environment(self) -> dict[str, str]:
        """The variables with which every client finds the server: the usual chain, and nothing of ours."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def counts(self, start: int = 0) -> Mapping[str, int]:
        """Count the requests from number `start` on by their kind."""
        return collections.Counter(kind for kind, _, _ in self.requests[start:])

    def note(self, environ: Mapping[str, Any]) -> tuple[Fault, int]:
        with self._lock:
            number = next(self._numbers)
            fault = self.choose(number)
            self.requests.append((*_kind(environ), fault))
        self.watch(number)
        return fault, number


def _kind(environ: Mapping[str, Any]) -> tuple[str, str]:
    method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    prefix = re.search("(?:^|&)prefix=([^&]*)", query)
    is_listing = method == "GET" and path.strip("/").count("/") == 0
    return ("LIST" if is_listing else method), (prefix[1].replace("%2F", "/") if is_listing and prefix else path)


def share(every: int, burst_every: int = 0, burst: int = 5, kinds: Iterable[Fault] = ()) -> Callable[[int], Fault]:
    """Choose every `every`-th request, and `burst` in a row each `burst_every`, with these faults in turn."""
    turns = itertools.cycle(kinds or ("throttle", "error", "reset", "cut"))

    def choose(number: int) -> Fault:
        hit = number % every == every - 1 or (burst_every and number % burst_every < burst)
        return next(turns) if hit else ""

    return choose


@contextlib.contextmanager
def serving_s3() -> Iterator[S3]:
    """Serve an empty bucket on loopback, in a thread of this process."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        fault, _ = s3.note(environ)
        if fault in ("throttle", "error"):
            _drain(environ)
            body = THROTTLED if fault == "throttle" else BROKEN
            status = "503 Slow Down" if fault == "throttle" else "500 Internal Server Error"
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if fault == "reset":
            _reset(environ)
            return []
        answer = moto(environ, start_response)
        return _cut(answer, environ) if fault == "cut" else answer

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object) -> None:
            pass

    with patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}):
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
        s3 = S3(f"http://127.0.0.1:{server.port}")
        thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
        thread.start()
        try:
            s3_backends["123456789012"]["aws"].create_bucket(BUCKET, "eu-central-1")
            yield s3
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            s3_backends["123456789012"]["aws"].reset()


def _drain(environ: Mapping[str, Any]) -> None:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _reset(environ: Mapping[str, Any]) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def _cut(answer: Iterable[bytes], environ: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"".join(answer)[:HALF]
    _reset(environ)
