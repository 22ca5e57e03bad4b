"""A limit for the time until an answer begins: httpx limits only the time between two bytes of it."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

CONNECTIONS = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})


class Deadline:
    """Ends the requests of one thread that take too long: it shuts their sockets down, which fails the request."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._streams: deque[Any] = deque(maxlen=16)  # the newest connections

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the connections that are opened. See https://www.encode.io/httpcore/extensions/#trace."""
        if event in CONNECTIONS:
            self._streams.append(info["return_value"])

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Limit the time of what is done in this context."""
        timer = threading.Timer(self._seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        for stream in list(self._streams):
            with contextlib.suppress(OSError):  # it is closed already
                # Not the method of an SSL socket, which another thread is reading.
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)
