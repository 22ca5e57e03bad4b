"""demo.demo: its world and its root. The demo as a user starts it is in tests/test_pipeline.py."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitax_ray.demo import demo as module
from aitax_ray.demo.demo import MARK, run_demo, served_world
from aitax_ray.demo.world import DOI, build_world
from aitax_ray.errors import AitaxError, StorageError
from aitax_ray.storage import Storage


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses for which worlds, small ones here, were drawn."""
    addresses: list[str] = []
    draw = partial(build_world, num_species=1, fewest=1, most=1)

    def build(folder: Path, *, base_url: str, advance: Any) -> None:
        draw(folder, base_url=base_url, advance=advance)
        addresses.append(base_url)

    monkeypatch.setattr(module, "build_world", build)
    return addresses


def test_a_world_is_drawn_once_and_keeps_its_address(tmp_path: Path, drawn: list[str]) -> None:
    storage = Storage(str(tmp_path))
    for _ in range(2):
        with served_world(storage) as address:
            record = httpx.get(f"{address}/v1/occurrence/download/{DOI}", trust_env=False).json()
            assert record["totalRecords"] > 0
            assert drawn == [address]


def test_half_a_world_is_drawn_to_its_end(tmp_path: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))

    def stop(folder: Path, **_: object) -> None:
        (folder / "photos").mkdir()
        (folder / "photos" / "1.jpg").write_bytes(b"half a photo")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "build_world", stop)
        with pytest.raises(KeyboardInterrupt), served_world(storage):
            pass
    port = storage.read_json(MARK)["port"]
    with served_world(storage):
        assert drawn == [f"http://127.0.0.1:{port}"]


def test_a_users_own_world_is_in_the_way_and_stays(tmp_path: Path, drawn: list[str]) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "map.svg").write_text("a year's work")
    told = f"{tmp_path}/world holds files, .* move them away or choose another --root"
    with pytest.raises(StorageError, match=told), served_world(Storage(str(tmp_path))):
        pass
    assert [path.name for path in (tmp_path / "world").iterdir()] == ["map.svg"]
    assert drawn == []


def test_a_world_whose_port_is_taken_is_told_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        Storage(str(tmp_path)).write_json(MARK, {"port": taken.getsockname()[1], "drawn": True})
        with pytest.raises(AitaxError, match="stop the program that uses the port, or give another --root"):
            run_demo(tmp_path, once=True, port=0)


def test_a_root_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose a folder or URL that can"):
        run_demo(tmp_path / "file" / "demo", once=True, port=0)

    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "build_world", fill)
    with pytest.raises(StorageError, match=r"\(No space left on device\): make room or choose another --root"):
        run_demo(tmp_path / "demo", once=True, port=0)
