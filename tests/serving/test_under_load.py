"""`aitax serve` while clients ask it without a pause: it grows, loses replicas, changes engines, shrinks."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import pytest

from aitax_ray.engine.engines import Engines
from aitax_ray.engine.info import ENGINES, write_current
from aitax_ray.schemas import image_id
from aitax_ray.serving import guard
from aitax_ray.serving.serve import APPLICATION
from aitax_ray.storage import Storage
from aitax_ray.takedowns import WITHDRAWN_FILE, write_withdrawn
from tests.commands import Running, running
from tests.engines import COLOURS, NAMES, divide_index, photo, write_root

pytestmark = pytest.mark.ray

TIMEOUT_S = 400.0  # for what takes a second or ten on a machine with nothing else to do
STARTS = ("__init__", "initialize_and_get_metadata")  # methods of Ray Serve's replicas, in the titles of processes
DEPLOYMENTS = ("Ingress", "Classifier", "Retrieval-0", "Retrieval-1")
NUM_CLIENTS, MAX_WAITING = 8, 12
RED = photo(COLOURS["11"])
WITHDRAWN = "https://photos.example/11/0.jpg"


@dataclass(frozen=True)
class Reply:
    status: int
    """0: the connection was lost."""
    began: float
    name: str
    """Of the best species, or the message of an error."""
    score: float = 0.0
    urls: tuple[str, ...] = ()

    @property
    def engine(self) -> tuple[str, float, set[str]]:
        """What the answer says of the engine: its classifier and both parts of its index."""
        return self.name, self.score, {url.split("/")[-2] for url in self.urls}


class Load:
    """Clients that ask for a red photograph again and again, each as soon as it has its answer, or a pause later."""

    def __init__(self, address: str, num_clients: int, pause_s: float = 0.0) -> None:
        self.replies: list[Reply] = []
        self._address, self._pause_s, self._ended = address, pause_s, threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(num_clients)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        for client in self._clients:
            client.join()

    def wait_for(self, number: int, holds: Callable[[Reply], bool] = lambda reply: reply.status == 200) -> None:
        """Wait until so many replies have come of which this holds."""
        start = len(self.replies)
        wait_until(lambda: sum(map(holds, self.replies[start:])) >= number)
        assert all(client.is_alive() for client in self._clients)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._address, timeout=TIMEOUT_S) as client:
            while not self._ended.is_set():
                began = time.monotonic()
                try:
                    answer = client.post("/v2/identify/all?include-related-images=true", files={"images": RED})
                except httpx.TransportError as error:
                    self.replies.append(Reply(0, began, repr(error)))
                    continue
                reply = Reply(answer.status_code, began, answer.text)
                if answer.status_code == 200:
                    best = answer.json()["results"][0]
                    name, urls = best["species"]["scientificNameWithoutAuthor"], [i["url"]["o"] for i in best["images"]]
                    reply = Reply(200, began, name, round(best["score"], 3), tuple(urls))
                self.replies.append(reply)
                self._ended.wait(self._pause_s)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


class Service:
    """`aitax serve`, and the processes of its replicas."""

    def __init__(self, command: Running) -> None:
        self.address = command.wait_for(r"serving (http://\S+) ", TIMEOUT_S)[1]
        self._process = psutil.Process(command.process.pid)

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Give the replicas that have started, the oldest one first."""
        title, found = f"ray::ServeReplica:{APPLICATION}:{deployment}", []
        for process in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                name, _, method = "".join(process.cmdline()[:1]).partition(".")
                if name == title and method not in STARTS:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def num_replicas(self) -> list[int]:
        return [len(self.replicas(deployment)) for deployment in DEPLOYMENTS]

    def kill_one(self, deployment: str) -> None:
        """Kill the older one of two replicas, and wait until it has ended: it may accept requests until then."""
        wait_until(lambda: len(self.replicas(deployment)) == 2)
        replica = self.replicas(deployment)[0]
        replica.kill()
        replica.wait(TIMEOUT_S)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        made = write_root(tmp_path_factory.mktemp("root"), patch)
    for version in ("1", "2"):
        divide_index(made / ENGINES / version, 3)  # red lies in both parts
    return made


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[Service]:
    flags = ["--upscale-delay-s", "1", "--downscale-delay-s", "2", "--target-ongoing-requests", "0.5"]
    flags += ["--target-ongoing-calls", "0.1", "--classifier-cpus", "0.5", "--max-waiting", str(MAX_WAITING)]
    for name in ("ingress", "classifier", "retrieval"):
        flags += [f"--max-{name}-replicas", "2"]
    with running("serve", "--engine", root, "--port", "0", *flags, cwd=root) as command:
        yield Service(command)
        assert command.interrupt() == 0


def test_under_load_replicas_come_die_and_go_and_engines_change_without_a_failed_or_a_mixed_answer(
    root: Path, service: Service
) -> None:
    storage = Storage(str(root))
    with Load(service.address, NUM_CLIENTS) as load:
        wait_until(lambda: min(service.num_replicas()) == 2)
        for deployment in ("Classifier", "Retrieval-0", "Retrieval-1"):
            service.kill_one(deployment)
            load.wait_for(NUM_CLIENTS)
        write_current(storage, ENGINES, "2")
        load.wait_for(NUM_CLIENTS, lambda reply: reply.name == f"{NAMES['11']} alter")
        service.kill_one("Classifier")
        Engines(str(root)).rollback("1")
        load.wait_for(NUM_CLIENTS, lambda reply: reply.name == NAMES["11"])
        assert any(WITHDRAWN in reply.urls for reply in load.replies)
        write_withdrawn(storage, f"{ENGINES}/{WITHDRAWN_FILE}", {image_id(WITHDRAWN)})
        load.wait_for(NUM_CLIENTS, lambda reply: WITHDRAWN not in reply.urls)
        assert [reply for reply in load.replies if reply.status != 200] == []
        before = len(load.replies)
        service.kill_one("Ingress")
        killed = time.monotonic()
        load.wait_for(3 * NUM_CLIENTS)
        lost = [reply for reply in load.replies[before:] if reply.status != 200]
        # Those that the ingress was answering: its death is noticed with them.
        assert len(lost) <= NUM_CLIENTS
        assert all(reply.began < killed for reply in lost)
    engines = sorted({reply.engine[:2] for reply in load.replies if reply.status == 200})
    assert [name for name, _ in engines] == [NAMES["11"], f"{NAMES['11']} alter"]
    for reply in load.replies:
        if reply.status == 200:
            assert reply.engine[2] == ({"11"} if reply.engine[:2] == engines[0] else {"411"})
    with Load(service.address, 1, pause_s=0.5) as light:
        wait_until(lambda: max(service.num_replicas()) == 1)
    assert [reply for reply in light.replies if reply.status != 200] == []


async def test_too_many_requests_are_refused_at_once_and_the_others_are_answered_in_time(
    service: Service,
) -> None:
    rss = max(process.memory_info().rss for process in service.replicas("Ingress"))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.address, timeout=TIMEOUT_S, limits=limits) as client:

        async def ask(_: int = 0) -> tuple[httpx.Response, float]:
            began = time.monotonic()
            return await client.post("/identify", files={"image": RED}), time.monotonic() - began

        found = await asyncio.gather(*map(ask, range(20 * MAX_WAITING)))
        answered = [seconds for answer, seconds in found if answer.status_code == 200]
        refused = [answer for answer, _ in found if answer.status_code != 200]
        assert refused
        assert len(answered) >= MAX_WAITING
        assert max(answered) < guard.TIMEOUT_S
        for answer in refused:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, str(guard.RETRY_AFTER_S))
            assert answer.json()["message"]
        assert (await ask())[0].status_code == 200
    assert max(process.memory_info().rss for process in service.replicas("Ingress")) < rss + 200_000_000
