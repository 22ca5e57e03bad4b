import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aitax_ray.serving import haproxy
from aitax_ray.serving.serve import free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def listening(folder: Path, name: str = "haproxy") -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process with the command line of HAProxy that listens on a port."""
    code = "import socket, threading; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    command = [f"/bin/{name}", "-c", f"{code}; threading.Event().wait()", "-f", f"{folder}/1/haproxy.cfg"]
    home = {"PYTHONHOME": sys.base_prefix}  # Python would look for it at its name
    with subprocess.Popen(command, executable=sys.executable, env=home, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def folder_of(service: int, processes: str | None = None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=haproxy.PREFIX))
    (folder / haproxy.MARK).write_text(f"{service} {processes or haproxy._processes()}")
    return folder


def test_the_path_of_its_socket_is_short_enough() -> None:
    folder = f"/tmp/{haproxy.PREFIX}abcdefgh/{'f' * 56}"  # Ray's
    assert len(f"{folder}/admin.sock") <= 97


def test_haproxy_of_a_killed_service_ends_and_gives_its_port_back(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as service:
        service.wait()
    mine, left = Path(haproxy.make_folder()), folder_of(service.pid)
    with listening(mine) as (kept, _), listening(left) as (ended, port), listening(left, "editor") as (other, _):
        haproxy.clear_leftovers()
        assert free_port("127.0.0.1", port) == port
        assert ended.wait(10) < 0
        assert (kept.poll(), other.poll()) == (None, None)
    assert list(tmp_path.iterdir()) == [mine]


def test_folders_of_others_stay(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as service:
        service.wait()
    (tmp_path / f"{haproxy.PREFIX}{service.pid}-frogs").mkdir()  # of the user
    folder_of(service.pid, "pid:[1]")  # of a service in another container
    (folder_of(service.pid) / haproxy.MARK).write_text("")
    haproxy.clear_leftovers()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_service_that_ends_takes_its_haproxy_with_it(tmp_path: Path) -> None:
    code = "from aitax_ray.serving.haproxy import make_folder; print(make_folder(), flush=True); input()"
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        folder = Path(service.stdout.readline().strip())
        with listening(folder) as (process, _):
            service.communicate("\n")
            assert process.wait(10) < 0
    assert list(tmp_path.iterdir()) == []
