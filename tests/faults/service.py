"""The raylet of the second node is killed under load: the service loses no request but those in flight.

python -m tests.faults.service

Clients send a request again when it fails, as docs/operations.md says. Both nodes have HAProxy at the same port, and
the kernel divides the connections among them, as a load balancer does.
"""

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from aitax_ray.serving.serve import APPLICATION, FAST
from tests.engines import COLOURS, NAMES, photo, write_small_engine
from tests.faults.cluster import RUN_S, START_S, Cluster, Node, check, cluster, say, wait_until
from tests.head import free_ports

NUM_CLIENTS = 6
TRIES, PAUSE_S = 20, 0.5
NUM_BEFORE, NUM_AFTER = 200, 400  # requests
REPLICAS = ("Ingress", "Classifier", "Retrieval")
STARTS = ("__init__", "initialize_and_get_metadata")  # methods of Ray Serve's replicas


@dataclass(frozen=True)
class Attempt:
    """A request of a client, and how it ended."""

    began: float
    ended: float
    problem: str
    """Empty if it was answered."""


@dataclass
class Load:
    """Clients that ask without a pause, and send a request again when it fails."""

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    attempts: list[Attempt] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Requests without a right answer in the end."""

    def run(self, number: int) -> None:
        """Identify one photograph after the other, until the end."""
        key = list(COLOURS)[number % len(COLOURS)]
        while not self.over.is_set():
            name = self._ask(key)
            if name != NAMES[key]:
                self.lost.append(name)

    def num_answered(self, since: float = 0.0) -> int:
        """Count the requests that began after this time and were answered."""
        return sum(not each.problem and each.began > since for each in list(self.attempts))

    def describe(self, begin: float, end: float) -> str:
        """Say how fast the requests of some time were answered."""
        seconds = [each.ended - each.began for each in self.attempts if not each.problem and begin < each.began < end]
        p50, p99 = np.percentile(seconds, [50, 99]) if seconds else (np.nan, np.nan)
        return f"{len(seconds):,} requests in {end - begin:.1f} s, p50 {p50:.2f} s, p99 {p99:.2f} s"

    def _ask(self, key: str) -> str:
        name = ""
        for _ in range(TRIES):
            began = time.monotonic()
            try:
                answer = httpx.post(f"{self.url}/identify", files={"image": photo(COLOURS[key])}, timeout=60)
                problem = "" if answer.status_code == 200 else f"HTTP {answer.status_code} {answer.text[:80]}"
                name = "" if problem else str(answer.json()["results"][0]["name"])
            except httpx.TransportError as error:
                problem = type(error).__name__
            self.attempts.append(Attempt(began, time.monotonic(), problem))
            if not problem:
                break
            time.sleep(PAUSE_S)
        return name


def main() -> None:
    """Serve on two nodes, and kill one."""
    # In /tmp, because the path of a socket must be short.
    with (
        tempfile.TemporaryDirectory(prefix="aitax-", dir="/tmp", ignore_cleanup_errors=True) as scratch,
        cluster(**FAST, **_own_haproxy(Path(scratch) / "head")) as ray,
    ):
        other = ray.add(**_own_haproxy(Path(scratch) / "other"))
        say("two nodes are there")
        url = serve(ray, Path(scratch))
        wait_until(lambda: _count(other) == _count(ray.head) == len(REPLICAS), "each node has all replicas", START_S)
        say("each deployment has a replica on each node")
        load = Load(url)
        clients = [threading.Thread(target=load.run, args=(number,), daemon=True) for number in range(NUM_CLIENTS)]
        begin = time.monotonic()
        for client in clients:
            client.start()
        wait_until(lambda: load.num_answered() >= NUM_BEFORE, "requests are answered", RUN_S)
        check(all(not each.problem for each in load.attempts), "no request fails before")
        of_node = other.below()
        other.kill_raylet()
        killed = time.monotonic()
        say("the raylet of the second node was killed")
        _, rest = psutil.wait_procs(of_node, 60)
        gone = time.monotonic()
        say(f"its processes have ended {gone - killed:.1f} s later, except {[each.name() for each in rest]}")
        wait_until(lambda: _count(ray.head) == 2 * len(REPLICAS), "the first node has all replicas", START_S)
        normal = time.monotonic()
        say(f"all replicas are there again {normal - killed:.1f} s after the kill")
        wait_until(lambda: load.num_answered(normal) >= NUM_AFTER, "requests are answered", RUN_S)
        load.over.set()
        for client in clients:
            client.join(TRIES * 60)
        say(f"before:    {load.describe(begin, killed)}")
        say(f"meanwhile: {load.describe(killed, normal)}")
        say(f"after:     {load.describe(normal, time.monotonic())}")
        failed = [each for each in load.attempts if each.problem]
        say(f"attempts that failed: {dict(Counter(each.problem for each in failed))}")
        for each in failed:
            say(f"  from {each.began - killed:+.2f} s to {each.ended - killed:+.2f} s: {each.problem}")
        check(not load.lost, "each request was answered rightly in the end")
        check(all(each.began < gone for each in failed), "only requests in flight had to be sent again")
    say("all is as it should be")


def serve(ray: Cluster, folder: Path) -> str:
    """`aitax serve` with two replicas of each deployment; returns the address."""
    (port,) = free_ports(1)
    flags = [f"--{limit}-{name.lower()}-replicas=2" for name in REPLICAS for limit in ("min", "max")]
    engine = write_small_engine(folder / "colours-1")
    command = ray.begin("serve", "--engine", engine, "--port", str(port), *flags)
    command.wait_until(lambda: "serving http" in command.log(), "the service is ready")
    return f"http://127.0.0.1:{port}"


def _own_haproxy(folder: Path) -> dict[str, str]:
    """Give a node files and ports for HAProxy, and let it share the port of the service: each machine has its own."""
    folder.mkdir()
    metrics, stats, fallback = free_ports(3)
    return {
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
    }


def _count(node: Node) -> int:
    """Count the replicas on a node that have started."""
    found = [title.rpartition(f"ray::ServeReplica:{APPLICATION}:")[2].partition(".") for title in node.titles()]
    return sum(name in REPLICAS and method not in STARTS for name, _, method in found)


if __name__ == "__main__":
    main()
