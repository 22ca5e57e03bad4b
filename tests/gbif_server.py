"""A real HTTP server on loopback, which answers as GBIF does or as a test says."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_gbif import Answer, Asked, Gbif


@dataclass
class Server:
    """Answers by path; a list is given in turn, its last answer for ever. Other paths are answered as by GBIF."""

    url: str
    gbif: Gbif
    routes: dict[str, Any] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        found: Any = self.routes.get(asked.path) or self.routes.get(asked.path.split("?")[0])
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(asked)
        return found or self.gbif.answer(asked)

    def paths(self, part: str = "") -> list[str]:
        """The paths that were asked for, those with `part` in them."""
        return [asked.path for asked in self.requests if part in asked.path]

    def posts(self) -> list[Asked]:
        return [asked for asked in self.requests if asked.method == "POST"]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            asked = Asked(self.path, headers, self.command, body)
            server.requests.append(asked)
            self._send(server.answer(asked))

        do_POST = do_GET  # noqa: N815

        def _send(self, answer: Answer) -> None:
            body, status, headers = answer.body, answer.status, dict(answer.headers)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and answer.ranges and status == 200:
                begin, total = int(asked[1]), len(body)
                body, status = body[begin:], 206 if begin < total else 416
                headers["Content-Range"] = f"bytes {begin}-{total - 1}/{total}" if body else f"bytes */{total}"
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: answer.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{httpd.server_address[1]}"
    server = Server(url, Gbif(url))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
