import random
from pathlib import Path

import pytest

from aitax_ray.errors import GbifError
from aitax_ray.gbif.client import TRIES, Client
from aitax_ray.gbif.fetch import fetch

from .conftest import Answer, Server, write_zip


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    return write_zip(tmp_path / "made.zip", {"a.bin": random.Random(1).randbytes(100_000)}).read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "archive.zip"


def ranges(server: Server) -> list[str]:
    return [headers.get("range", "") for _, headers in server.requests]


def test_an_archive_is_fetched_whole(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = Answer(body)
    fetch(client, f"{server.url}/a", target, size=len(body))
    assert target.read_bytes() == body
    assert list(target.parent.iterdir()) == [target]


def test_redirects_are_followed(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes |= {"/a": Answer(status=302, headers={"Location": "/b"}), "/b": Answer(body)}
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == body


def test_a_fetch_that_breaks_off_goes_on_there(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = [Answer(body, ranges=True, stop_after=40_000)] * 2 + [Answer(body, ranges=True)]
    fetch(client, f"{server.url}/a", target, size=len(body))
    assert target.read_bytes() == body
    assert ranges(server) == ["", "bytes=40000-", "bytes=80000-"]


def test_a_host_without_ranges_starts_again(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = [Answer(body, stop_after=40_000), Answer(body)]
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == body


def test_a_later_run_goes_on_with_what_an_earlier_one_left(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = Answer(body, ranges=True)
    target.parent.mkdir()
    target.with_name("archive.zip.part").write_bytes(body[:70_000])
    fetch(client, f"{server.url}/a", target, size=len(body))
    assert target.read_bytes() == body
    assert ranges(server) == ["bytes=70000-"]


@pytest.mark.parametrize("keep", [70_000, None])
def test_what_an_earlier_run_left_of_another_file_is_noticed(
    server: Server, client: Client, body: bytes, target: Path, keep: int | None
) -> None:
    server.routes["/a"] = Answer(body, ranges=True)
    target.parent.mkdir()
    other = body[:100] + bytes(len(body) - 200) + body[-100:]
    target.with_name("archive.zip.part").write_bytes(other[:keep])
    fetch(client, f"{server.url}/a", target, size=len(body))
    assert target.read_bytes() == body


def test_a_host_that_breaks_off_without_end_is_given_up(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = Answer(body, stop_after=0)
    with pytest.raises(GbifError, match="breaks off again and again: run the same command later"):
        fetch(client, f"{server.url}/a", target)
    assert len(server.requests) == TRIES


def test_a_json_error_instead_of_the_archive_is_shown(server: Server, client: Client, target: Path) -> None:
    server.routes["/a"] = Answer(b'{"message": "erased"}')
    with pytest.raises(GbifError, match=r"is no archive, it begins .*erased.* request it again at GBIF"):
        fetch(client, f"{server.url}/a", target)
    assert list(target.parent.iterdir()) == []


def test_an_archive_of_another_size_than_told_is_refused(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = Answer(body)
    with pytest.raises(GbifError, match=r"is no whole archive .* run the same command again"):
        fetch(client, f"{server.url}/a", target, size=len(body) - 1)
    assert not target.exists()


def test_an_archive_that_is_too_large_is_not_fetched(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = Answer(body)
    with pytest.raises(GbifError, match="more than the 1,000 allowed"):
        fetch(client, f"{server.url}/a", target, max_bytes=1000)


def test_an_address_without_archive_is_told(server: Server, client: Client, target: Path) -> None:
    with pytest.raises(GbifError, match="answers 404"):
        fetch(client, f"{server.url}/nothing", target)
