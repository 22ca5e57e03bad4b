"""A cluster of Ray whose nodes are on this machine, and commands that run on it until something is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psutil

from tests.head import RAY, ROOT, free_ports

START_S = 300.0  # a busy machine
RUN_S = 600.0
LOOK_S = 0.1
MAX_STARTS = 3  # of a node
ALONE = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": str(int(START_S)),
    # A node that does not answer for 3 x 10 s is dead. A busy machine may take some of them to start.
    "RAY_health_check_initial_delay_ms": "60000",
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
}
# A client of the GCS would end its process a minute after the head has died: this script goes on.
os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "86400"}


def say(text: str) -> None:
    """Print what happens, with the seconds since the script began."""
    sys.stdout.write(f"{time.monotonic() - BEGIN:6.1f} s  {text}\n")
    sys.stdout.flush()


def fail(text: str) -> NoReturn:
    """End the script: the outcome is wrong."""
    say(f"WRONG: {text}")
    sys.exit(1)


def check(holds: object, text: str) -> None:
    """Go on if something holds, else end the script."""
    if not holds:
        fail(text)
    say(f"as it should be: {text}")


BEGIN = time.monotonic()
signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running


class Node:
    """A node: the process `ray start --block`, and those below it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the node
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def below(self) -> list[psutil.Process]:
        """The processes of the node: its raylet, its workers, and on the head also the GCS."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def titles(self) -> list[str]:
        """The titles of its workers, such as `ray::Embedder.__call__`: the actor, and the method at work."""
        found = []
        for process in self.below():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()).strip())
        return [title for title in found if title.startswith("ray::")]

    def is_at_work(self, what: str) -> bool:
        """Whether one of its workers is an actor or a task whose name contains `what`."""
        return any(what in title for title in self.titles())

    def has_lost_raylet(self) -> bool:
        """Whether its raylet has ended by itself."""
        with contextlib.suppress(psutil.Error):
            return any(each.name() == "raylet" and each.status() == psutil.STATUS_ZOMBIE for each in self.below())
        return False

    def kill_raylet(self) -> None:
        """`kill -9` of its raylet; the workers end by themselves."""
        for process in self.below():
            if process.name() == "raylet":
                process.kill()

    def kill(self) -> None:
        """Kill all of it, as a machine does that loses its power."""
        below = self.below()
        self.process.kill()
        self.process.wait()
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Cluster:
    """A head and further nodes, on ports and in a folder that nobody else has."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.nodes = folder, list[Node]()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        python_path = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.environment = clean | ALONE | python_path | environment
        self._port, self._client_port = free_ports(2)
        self.address = f"127.0.0.1:{self._port}"

    @property
    def head(self) -> Node:
        """The first node."""
        return self.nodes[0]

    def start(self, num_cpus: int, store_bytes: int) -> None:
        """Start the head."""
        options = ["--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}"]
        options += [f"--temp-dir={self.folder}", "--include-dashboard=false"]
        self._start(options, num_cpus, store_bytes, {})

    def add(self, num_cpus: int = 4, store_bytes: int = 200_000_000, **environment: str) -> Node:
        """Start one more node, and wait until the cluster has it."""
        return self._start([f"--address={self.address}"], num_cpus, store_bytes, environment)

    def _start(self, options: list[str], num_cpus: int, store_bytes: int, environment: dict[str, str]) -> Node:
        command = [*RAY, "start", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}", *options]
        command += [f"--object-store-memory={store_bytes}", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--dashboard-agent-listen-port={free_ports(1)[0]}", "--disable-usage-stats"]
        for _ in range(MAX_STARTS):
            before = self.live_nodes()
            node = Node(command, self.environment | environment)
            self.nodes.append(node)
            if self._has_started(node, before):
                return node
            say("a raylet ended because its agents take longer than 15 s to start here")
            self.nodes.pop().kill()
        fail(f"a node did not start, {MAX_STARTS} times")

    def _has_started(self, node: Node, before: set[object]) -> bool:
        """Wait until the cluster has a node that is not one of those before, or its raylet has ended (False)."""

        def is_decided() -> bool:
            if node.process.poll() is not None:
                fail(f"a node did not start:\n{os.pread(node.log.fileno(), 1 << 20, 0).decode(errors='replace')}")
            return node.has_lost_raylet() or bool(self.live_nodes() - before)

        wait_until(is_decided, "a node starts", START_S)
        return not node.has_lost_raylet()

    def live_nodes(self) -> set[object]:
        """The ids of the nodes that are alive, as the GCS knows it."""
        from ray._raylet import GcsClient

        with contextlib.suppress(OSError):  # the client itself would wait for long
            socket.create_connection(("127.0.0.1", self._port), timeout=10).close()
            found = GcsClient(address=self.address).get_all_node_info(timeout=10)
            return {name for name, node in found.items() if node.state == 0}
        return set()

    def begin(self, *arguments: str | Path, **environment: str) -> "Command":
        """Begin `aitax ...` on this cluster."""
        return Command(arguments, self.environment | {"RAY_ADDRESS": self.address} | environment)

    def stop(self) -> None:
        """Kill all that is left of it."""
        for node in self.nodes:
            node.kill()


class Command:
    """`aitax ...`, at work."""

    def __init__(self, arguments: tuple[str | Path, ...], environment: dict[str, str]) -> None:
        self.name = f"aitax {arguments[0]}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the command
        command = [sys.executable, "-m", "aitax_ray.cli", *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=self._log)

    def log(self) -> str:
        """What it has written so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait while it works; it must not end before."""
        wait_until(lambda: self._is_over(what) or holds(), what, RUN_S)

    def _is_over(self, what: str) -> bool:
        if self.process.poll() is not None:
            fail(f"{self.name} ended ({self.process.returncode}) before {what}:\n{self.log()}")
        return False

    def finish(self, status: int = 0) -> str:
        """Wait for its end and its exit status; returns its log."""
        try:
            self.process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            fail(f"{self.name} did not end:\n{self.log()}")
        if self.process.returncode != status:
            fail(f"{self.name} ended with status {self.process.returncode} in place of {status}:\n{self.log()}")
        return self.log()


def wait_until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Look again and again; end the script when it takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            fail(f"after {seconds:.0f} s it is not so: {what}")
        threading.Event().wait(LOOK_S)


@contextlib.contextmanager
def cluster(num_cpus: int = 4, store_bytes: int = 200_000_000, **environment: str) -> Iterator[Cluster]:
    """A head; add nodes to it. In the end all of it is killed."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), environment)
        try:
            made.start(num_cpus, store_bytes)
            yield made
        finally:
            made.stop()
