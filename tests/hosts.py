"""Machines with addresses of their own, on this machine: for what reaches its workers by ssh.

A host is a process that has its own network, processes, host name, home folder, /tmp/ray, /dev/shm and sshd. It shares
the rest of the file system, so that Python and a root on a shared folder need no copy. The hosts' network is a bridge
in a network of its own: nothing of this machine's network changes. All of it ends with the processes that made it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.head import PATIENT

NETWORK = "10.231.0"
TOOLS = ("ip", "nsenter", "rsync", "ssh", "ssh-keygen", "sshd", "unshare")
# What Ray and `ray up` keep outside the home folder.
PRIVATE = ("/tmp/ray", "/tmp/ray_tmp_mount", "/run/sshd")
BIN = Path(sys.executable).parent

NET = """
set -e
ip link add name lan type bridge
ip address add {network}.1/24 dev lan
ip link set lan up
ip link set lo up
echo ready
exec sleep infinity
"""
HOST = """
set -e
read -r go  # until the network is plugged in
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /dev/shm
for folder in {private}; do mkdir -p $folder {own}/root$folder; mount --bind {own}/root$folder $folder; done
# All of /etc: a mount on the file alone is gone as soon as somebody adds a user to this machine.
cp -a /etc /dev/shm/etc
sed -i 's|^root:\\(.*\\):[^:]*:[^:]*$|root:\\1:{own}/home:/bin/bash|' /dev/shm/etc/passwd
mount --bind /dev/shm/etc /etc
hostname {name}
ip link set lo up
ip address add {address}/24 dev eth0
ip link set eth0 up
ip route add default via {network}.1
chmod 0755 /run/sshd
exec {sshd} -D -e -f {own}/sshd_config
"""
BASHRC = "".join(f"export {name}={value}\n" for name, value in PATIENT.items())
SSHD_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/home/.ssh/id_ed25519.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PasswordAuthentication no
LogLevel ERROR
PidFile none
"""


def missing() -> str:
    """Say what this machine lacks for hosts; "" when it lacks nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if absent:
        return f"no {', '.join(absent)}"
    if os.geteuid() != 0:
        return "not root"
    probe = subprocess.run(["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "true"], capture_output=True)
    return "" if probe.returncode == 0 else f"no namespaces: {probe.stderr.decode().strip()}"


@dataclass(frozen=True)
class Hosts:
    """Running hosts: their addresses, and what runs commands beside them as a user at another computer would."""

    addresses: list[str]
    folder: Path
    net: int  # process id of their network

    @property
    def home(self) -> Path:
        """Home folder of that user, with an ssh key that the hosts accept."""
        return self.folder / "home"

    def run(
        self, *command: str | Path, timeout_s: float, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the hosts' network; kill it and fail when it takes too long."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.net}/ns/net", *map(str, command)],
            env=os.environ
            | {"HOME": str(self.home), "TMPDIR": str(self.home), "RAY_TMPDIR": str(self.home), "PATH": _path()}
            | (env or {}),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def on(self, address: str, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host by ssh."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5")
        login = ["ssh", "-i", self.home / ".ssh/id_ed25519", *(word for option in options for word in ("-o", option))]
        return self.run(*login, f"root@{address}", command, timeout_s=120)


@contextlib.contextmanager
def hosts(names: Sequence[str], folder: Path) -> Iterator[Hosts]:
    """Start hosts. All of their processes are killed in the end."""
    with contextlib.ExitStack() as stack:
        (folder / "home/.ssh").mkdir(parents=True)
        for path in ("host_key", "home/.ssh/id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / path], check=True)
        net = stack.enter_context(_namespace(["--net"], NET.format(network=NETWORK)))
        assert net.stdout is not None
        assert net.stdout.readline() == "ready\n"
        found = Hosts([f"{NETWORK}.{number}" for number, _ in enumerate(names, 2)], folder, net.pid)
        for name, address in zip(names, found.addresses, strict=True):
            own = folder / name
            (own / "home").mkdir(parents=True)
            (own / "home/.bashrc").write_text(BASHRC, encoding="utf-8")
            (own / "home/aitax").symlink_to(BIN.parent)  # the set-up commands find the package installed
            (own / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder), encoding="utf-8")
            script = HOST.format(
                own=own,
                name=name,
                address=address,
                network=NETWORK,
                sshd=shutil.which("sshd", path=_path()),
                private=" ".join(PRIVATE),
            )
            host = stack.enter_context(_namespace(["--net", "--pid", "--mount", "--uts", "--fork"], script))
            link = f"to-{address.rsplit('.', 1)[1]}"
            plug = f"ip link add {link} type veth peer name eth0 netns {_child_of(host.pid)}"
            plug += f" && ip link set {link} master lan up"
            done = found.run("bash", "-c", plug, timeout_s=120)
            assert done.returncode == 0, done.stdout
            assert host.stdin is not None
            host.stdin.write("go\n")
            host.stdin.flush()
        for address in found.addresses:
            _wait_for_ssh(found, address)
        yield found


@contextlib.contextmanager
def _namespace(kinds: list[str], script: str) -> Iterator["subprocess.Popen[str]"]:
    forks = ["--kill-child"] if "--fork" in kinds else []
    with subprocess.Popen(
        ["unshare", *kinds, *forks, "bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _child_of(pid: int) -> int:
    """Process id of the one child of `unshare --fork`, which lives in the new namespaces."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 120
    while not (found := children.read_text(encoding="utf-8").split()):
        assert time.monotonic() < deadline, "unshare does not start"
        threading.Event().wait(0.02)
    return int(found[0])


def _wait_for_ssh(found: Hosts, address: str) -> None:
    deadline = time.monotonic() + 120
    while (done := found.on(address, "true")).returncode != 0:
        assert time.monotonic() < deadline, f"no ssh to {address}: {done.stdout}"
        threading.Event().wait(0.2)


def _path() -> str:
    return f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin"
