import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from aitax_ray.errors import GbifError
from aitax_ray.gbif import client as client_module
from aitax_ray.gbif.client import TRIES, Client
from aitax_ray.gbif.deadline import Deadline
from tests.fake_gbif import as_json
from tests.gbif_server import Server


@pytest.fixture
def dripping() -> Iterator[str]:
    """A host that sends a header byte by byte, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                try:
                    while not stop.wait(0.01):
                        connection.sendall(b"x")
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_an_answer_that_does_not_begin_in_time_is_given_up(
    dripping: str, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_HEAD_S", 0.1)
    with (
        Client(sleep=naps.append, timeout_s=60) as client,
        pytest.raises(GbifError, match=rf"127\.0\.0\.1 does not answer .*, {TRIES} times"),
    ):
        client.json(f"{dripping}/x")
    assert len(naps) == TRIES - 1


def test_connections_work_on_after_a_deadline_that_was_kept(server: Server) -> None:
    server.routes["/x"] = as_json({"frogs": 3})
    deadline = Deadline(60)
    with httpx.Client() as http:
        for _ in range(2):
            with deadline.running():
                answer = http.get(f"{server.url}/x", extensions={"trace": deadline.trace})
            assert answer.json() == {"frogs": 3}
