import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import GbifError, StorageError
from aitax_ray.gbif import fetch as fetch_module
from aitax_ray.gbif.client import TRIES, Client
from aitax_ray.gbif.fetch import fetch
from tests.fake_gbif import Answer
from tests.gbif_download import write_zip
from tests.gbif_server import Server


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    return write_zip(tmp_path / "made.zip", {"a.bin": random.Random(1).randbytes(100_000)}).read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "archive.zip"


def ranges(server: Server) -> list[str]:
    return [asked.headers.get("range", "") for asked in server.requests]


def test_all_of_an_archive_is_fetched(server: Server, client: Client, body: bytes, target: Path) -> None:
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


def test_an_archive_of_another_size_than_announced_is_refused(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = Answer(body)
    with pytest.raises(GbifError, match=r"is not a complete archive .* run the same command again"):
        fetch(client, f"{server.url}/a", target, size=len(body) - 1)
    assert not target.exists()


def test_an_archive_that_is_too_large_is_not_fetched(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = Answer(body)
    with pytest.raises(GbifError, match="more than the 1,000 allowed"):
        fetch(client, f"{server.url}/a", target, max_bytes=1000)


def test_an_address_without_archive_is_an_error(server: Server, client: Client, target: Path) -> None:
    with pytest.raises(GbifError, match="answers 404"):
        fetch(client, f"{server.url}/nothing", target)


def test_an_archive_that_changes_between_two_pieces_is_fetched_from_the_beginning(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    other = body[:100] + bytes(len(body) - 100)
    server.routes["/a"] = [Answer(other, ranges=True, stop_after=40_000), Answer(body, ranges=True)]
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == body
    assert ranges(server) == ["", "bytes=40000-", ""]


def test_an_answer_from_another_place_than_asked_is_not_appended(server: Server, client: Client, target: Path) -> None:
    # A gzip, of which nothing but its size is checked: what was put together wrongly would pass.
    body = gzip.compress(random.Random(2).randbytes(1000))
    elsewhere = Answer(body[10:], 206, {"Content-Range": f"bytes 10-{len(body) - 1}/{len(body)}"})
    server.routes["/a"] = [Answer(body, ranges=True, stop_after=400), elsewhere, Answer(body)]
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == body
    assert ranges(server) == ["", "bytes=400-", ""]


def test_a_body_without_end_is_cut_off(server: Server, client: Client, body: bytes, target: Path) -> None:
    server.routes["/a"] = Answer(body, headers={"Content-Length": ""})
    with pytest.raises(GbifError, match="sends more than the 1,000 bytes allowed"):
        fetch(client, f"{server.url}/a", target, max_bytes=1000)


def test_a_busy_host_is_waited_for(
    server: Server, client: Client, body: bytes, target: Path, naps: list[float]
) -> None:
    server.routes["/a"] = [Answer(status=429, headers={"Retry-After": "9"}), Answer(body)]
    fetch(client, f"{server.url}/a", target)
    assert naps == [9]
    assert target.read_bytes() == body


def test_a_folder_that_cannot_be_written_is_an_error(
    server: Server, client: Client, body: bytes, tmp_path: Path
) -> None:
    server.routes["/a"] = Answer(body)
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot be written: .*; make room or choose another --root"):
        fetch(client, f"{server.url}/a", tmp_path / "file" / "archive.zip")


def test_what_an_earlier_run_left_complete_is_not_asked_for(
    server: Server, client: Client, body: bytes, target: Path, tmp_path: Path
) -> None:
    target.parent.mkdir()
    for name, size in (("archive.zip.part", 0), ("archive.zip.part", len(body)), ("archive.zip.part.complete", 0)):
        target.with_name(name).write_bytes(body)
        fetch(client, f"{server.url}/a", target, size=size)
        assert target.read_bytes() == body
        assert list(target.parent.iterdir()) == [target]
    assert server.requests == []


def test_a_zip_within_a_part_does_not_make_it_complete(
    server: Server, client: Client, body: bytes, target: Path, tmp_path: Path
) -> None:
    outer = tmp_path / "outer.zip"
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("inner.zip", body)
        archive.writestr("more", b"x" * 1000)
    all_of_it = outer.read_bytes()
    server.routes["/a"] = Answer(all_of_it, ranges=True)
    target.parent.mkdir()
    part = all_of_it[: all_of_it.index(body) + len(body)]
    assert zipfile.is_zipfile(io.BytesIO(part))
    target.with_name("archive.zip.part").write_bytes(part)
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == all_of_it
    assert ranges(server) == [f"bytes={len(part)}-"]


def test_a_page_instead_of_the_rest_leaves_what_was_fetched(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = [Answer(body, ranges=True, stop_after=40_000), Answer(b"<html>Sign in</html>")]
    with pytest.raises(GbifError, match="is no archive, it begins b'<html>"):
        fetch(client, f"{server.url}/a", target)
    server.routes["/a"] = Answer(body, ranges=True)
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == body
    assert ranges(server)[-1] == "bytes=40000-"


def test_a_host_that_sends_too_slowly_is_given_up_and_the_next_run_goes_on(
    server: Server, client: Client, target: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = write_zip(tmp_path / "made.zip", {"a.bin": random.Random(1).randbytes(5_000_000)}).read_bytes()
    server.routes["/a"] = Answer(body, ranges=True)
    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "SLOW_S", 0.0)
        patch.setattr(fetch_module, "MIN_RATE", 1e15)
        with pytest.raises(GbifError, match="breaks off again and again"):
            fetch(client, f"{server.url}/a", target)
    assert len(server.requests) <= TRIES
    have = target.with_name("archive.zip.part").stat().st_size
    server.requests.clear()
    fetch(client, f"{server.url}/a", target)
    assert ranges(server) == [f"bytes={have}-"]
    assert target.read_bytes() == body


def test_a_host_that_breaks_off_after_every_byte_is_given_up(
    server: Server, client: Client, body: bytes, target: Path
) -> None:
    server.routes["/a"] = Answer(body, ranges=True, stop_after=1000)
    with pytest.raises(GbifError, match="breaks off again and again"):
        fetch(client, f"{server.url}/a", target)
    assert len(server.requests) == TRIES


def test_a_fetch_ends_when_its_time_is_up(
    server: Server, client: Client, body: bytes, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/a"] = Answer(body, ranges=True, stop_after=40_000)
    monkeypatch.setattr(fetch_module, "MAX_S", 0.0)
    with pytest.raises(GbifError, match=r"takes more than 0 h: run the same command later, it goes on at [\d,]+ bytes"):
        fetch(client, f"{server.url}/a", target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_taken_however_it_is_packed(server: Server, client: Client, target: Path, mode: Any) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:
        tar.addfile(tarfile.TarInfo("meta.xml"))
    server.routes["/a"] = Answer(packed.getvalue())
    fetch(client, f"{server.url}/a", target)
    assert target.read_bytes() == packed.getvalue()
