"""A Ray head of its own, with dashboard, jobs and a token, on ports that nobody else has."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
ROOT = Path(__file__).parents[1]
START_S = 300  # a busy machine
RUN_S = 400
# On a busy machine Ray's processes take each other for dead.
PATIENT = {
    "RAY_raylet_start_wait_time_s": str(START_S),
    "RAY_health_check_initial_delay_ms": "60000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_agent_register_timeout_ms": "300000",
}


@dataclass(frozen=True)
class Head:
    """A running head: the address of its dashboard, that of the cluster, and the environment of its users."""

    dashboard: str
    address: str
    token: str
    environment: dict[str, str] = field(repr=False)

    def job(self, *arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `ray job ...` to its end; its log is in stdout."""
        verb, *rest = map(str, arguments)
        return self._run([*RAY, "job", verb, "--address", self.dashboard, *rest], environment)

    def submit(self, *entrypoint: str | Path, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Submit a job as the guide does, and wait for its end."""
        return self.job("submit", "--working-dir", ROOT, *options, "--", *entrypoint)

    def serve(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run `serve ...`."""
        command = [Path(sys.executable).with_name("serve"), *arguments]
        return self._run([*map(str, command)], {"RAY_DASHBOARD_ADDRESS": self.dashboard})

    def aitax(self, *arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `aitax` on this machine, beside the head."""
        return self._run([sys.executable, "-m", "aitax_ray.cli", *map(str, arguments)], environment)

    def _run(self, command: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=ROOT, env=self.environment | environment, capture_output=True, text=True, timeout=RUN_S
        )


@contextlib.contextmanager
def head(num_cpus: int = 4) -> Iterator[Head]:
    """Start a head. In the end all of its processes are killed."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # Ray's sockets need a short path
        gcs, dashboard, agent, client = free_ports(4)
        token = "0123456789abcdef" * 4
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "HOME": folder, "NO_COLOR": "1"}
        # Ray Serve would end a proxy that a busy machine starts slowly.
        environment["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "120"
        # `python` in a job is the one on the PATH of the head.
        environment |= PATIENT | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [*RAY, "start", "--head", "--block", f"--temp-dir={folder}", f"--num-cpus={num_cpus}"]
        command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        command += [
            f"--ray-client-server-port={client}",
            "--object-store-memory=200000000",
            "--node-ip-address=127.0.0.1",
        ]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                url = f"http://127.0.0.1:{dashboard}"
                _wait_for_jobs(url, token, process)
                users = environment | {"RAY_ADDRESS": f"127.0.0.1:{gcs}", "PYTHONPATH": str(ROOT)}
                yield Head(url, f"127.0.0.1:{gcs}", token, users)
            finally:
                _kill_session(process)


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait_for_jobs(url: str, token: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the head takes a job: at first it has no agent for that."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    job = urllib.request.Request(f"{url}/api/jobs/", json.dumps({"entrypoint": "true"}).encode(), headers)
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(job, timeout=60):
            return
        assert process.poll() is None, "Ray does not start"
        assert time.monotonic() < deadline, "Ray takes no jobs"
        threading.Event().wait(0.2)


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    """Kill the processes of a head; some of them have process groups of their own."""
    import psutil

    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
