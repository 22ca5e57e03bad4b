"""The fetched archive under the root, after kills and damages, through the stage."""

import gzip
import hashlib
import logging
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from aitax_ray import workspace
from aitax_ray.darwin_core import unpack
from aitax_ray.errors import AitaxError, ArchiveError, GbifError
from aitax_ray.gbif.client import Client
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.origin import Origin
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.manifest.source import open_download, open_url
from aitax_ray.manifest.stored import STORED, Link, is_stored, open_stored
from aitax_ray.storage import Storage
from aitax_ray.workspace import StageReport
from tests.fake_gbif import DOI, KEY, Answer, Gbif
from tests.gbif_download import archive_files, occurrence, photo, write_folder, write_zip
from tests.gbif_server import Server

LINK = f"/v1/occurrence/download/request/{KEY}.zip"
OCCURRENCES = [occurrence("1"), occurrence("2", "12")]
MEDIA = [photo("1", "http://a.org/1.jpg"), photo("2", "http://b.org/2.jpg")]
# What changes files while an archive is fetched, and what takes long.
STEPS = [
    (Storage, "write_json"),
    (Storage, "delete"),
    (Path, "replace"),
    (unpack, "digest"),
]
Build = Callable[..., StageReport]


class KilledError(BaseException):
    """What no one catches."""


@pytest.fixture
def files() -> dict[str, str | bytes]:
    return archive_files(OCCURRENCES, MEDIA)


@pytest.fixture
def archive(tmp_path: Path, files: dict[str, str | bytes]) -> bytes:
    return write_zip(tmp_path / "frogs.zip", files).read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def build(root: Path, server: Server, naps: list[float]) -> Build:
    return lambda **given: manifest(
        ManifestSettings(**{"root": str(root), "gbif_url": server.url, "vernacular_names": False} | given)
    )


@pytest.fixture
def tgz(tmp_path: Path, files: dict[str, str | bytes]) -> bytes:
    folder = write_folder(tmp_path / "in", files)
    with tarfile.open(tmp_path / "frogs.tgz", "w:gz") as tar:
        for path in folder.iterdir():
            tar.add(path, path.name)
    return (tmp_path / "frogs.tgz").read_bytes()


def with_bad_checksum(archive: bytes, member: str, path: Path) -> bytes:
    """The same zip, in which the packed bytes of a member are others."""
    path.write_bytes(archive)
    with zipfile.ZipFile(path) as found:
        info = found.getinfo(member)
    begin = info.header_offset + 30 + len(member) + 20
    return archive[:begin] + bytes(b ^ 0xFF for b in archive[begin : begin + 4]) + archive[begin + 4 :]


def kill_before(step: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Die before the step of that number; returns the names of the steps that were begun."""
    begun: list[str] = []

    def stepping(name: str, run: Any, *given: Any, **more: Any) -> Any:
        begun.append(name)
        if len(begun) == step:
            raise KilledError
        return run(*given, **more)

    for owner, name in STEPS:
        run = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *g, _n=name, _r=run, **m: stepping(_n, _r, *g, **m))
    return begun


@pytest.fixture(params=[DOI, "url"])
def read_archive(
    request: pytest.FixtureRequest, server: Server, gbif: Gbif, client: Client, root: Path, archive: bytes
) -> Callable[[], bytes]:
    """Read the same archive as a download of GBIF, and behind a URL of a host that sends no parts of files."""
    gbif.download(archive=archive)
    server.routes["/frogs.zip"] = Answer(archive)

    def read() -> bytes:
        storage = Storage(str(root))
        with (
            open_download(storage, client, server.url, DOI, 0)
            if request.param == DOI
            else open_url(storage, client, f"{server.url}/frogs.zip") as (path, origin)
        ):
            assert origin.sha256 == hashlib.sha256(archive).hexdigest()
            return path.read_bytes()

    return read


@pytest.mark.parametrize("step", range(1, 8))
def test_killed_at_any_step_the_next_run_fetches_only_what_is_missing(
    server: Server, root: Path, archive: bytes, read_archive: Callable[[], bytes], step: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        begun = kill_before(step, patch)
        try:
            read_archive()
        except KilledError:
            pass
        else:
            assert len(begun) < step
            assert step == 7  # so that no step is forgotten above
    is_complete = any(path.read_bytes() == archive for path in (root / "archive").glob("*") if path.is_file())
    asked = len(server.paths(".zip"))
    assert read_archive() == archive
    assert len(server.paths(".zip")) - asked == (0 if is_complete else 1)
    assert sorted(path.name for path in (root / "archive").iterdir()) == ["archive.zip", "query.json"]


def test_killed_while_it_hashes_the_next_run_fetches_nothing_from_an_object_store_either(
    server: Server, client: Client, archive: bytes, tmp_path: Path
) -> None:
    server.routes["/frogs.zip"] = Answer(archive)
    storage = Storage(f"memory://{tmp_path}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack, "digest", lambda path: kill())
        with pytest.raises(KilledError), open_url(storage, client, f"{server.url}/frogs.zip"):
            pass
    with open_url(storage, client, f"{server.url}/frogs.zip") as (path, origin):
        assert path.read_bytes() == archive
        assert origin.sha256 == hashlib.sha256(archive).hexdigest()
    assert len(server.requests) == 1


def kill() -> NoReturn:
    raise KilledError


def damaged(kind: str, archive: bytes, tgz: bytes, files: dict[str, str | bytes], folder: Path) -> Answer:
    unsized = {"Content-Length": ""}
    lacking = {name: content for name, content in files.items() if name != "multimedia.txt"}
    match kind:
        case "page":
            return Answer(b"<!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": "application/zip"})
        case "cut zip":
            return Answer(archive[:-40], headers=unsized)
        case "cut tgz":
            return Answer(tgz[:-200], headers=unsized)
        case "bad checksum of the photographs":
            return Answer(with_bad_checksum(archive, "multimedia.txt", folder / "bad.zip"))
        case "bad checksum of the occurrences":
            return Answer(with_bad_checksum(archive, "occurrence.txt", folder / "bad.zip"))
        case "bad checksum of meta.xml":
            return Answer(with_bad_checksum(archive, "meta.xml", folder / "bad.zip"))
        case "packed garbage":
            return Answer(gzip.compress(b"no tar"))
        case "broken meta.xml":
            return Answer(write_zip(folder / "bad.zip", files | {"meta.xml": "<archive"}).read_bytes())
        case _:
            return Answer(write_zip(folder / "bad.zip", lacking).read_bytes())


KINDS = [
    "page",
    "cut zip",
    "cut tgz",
    "bad checksum of the photographs",
    "bad checksum of the occurrences",
    "bad checksum of meta.xml",
    "packed garbage",
    "broken meta.xml",
    "no multimedia.txt",
]


@pytest.mark.parametrize(
    ("kind", "remote"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in KINDS[2:4])]
)
def test_what_cannot_be_read_is_fetched_again(
    server: Server,
    build: Build,
    archive: bytes,
    tgz: bytes,
    files: dict[str, str | bytes],
    tmp_path: Path,
    kind: str,
    remote: bool,
) -> None:
    root = f"memory://{tmp_path}/elsewhere" if remote else str(tmp_path / "root")
    given = {"root": root, "archive": f"{server.url}/frogs"}
    server.routes["/frogs"] = damaged(kind, archive, tgz, files, tmp_path)
    with pytest.raises((ArchiveError, GbifError)):
        build(**given)
    assert not is_stored(Storage(root), given["archive"])
    server.routes["/frogs"] = Answer(archive)
    assert build(**given).counts["kept"] == 2
    assert Storage(root).read_bytes(STORED) == archive


def test_the_error_says_that_the_next_run_fetches_again(
    server: Server, build: Build, archive: bytes, tmp_path: Path
) -> None:
    server.routes["/frogs"] = Answer(with_bad_checksum(archive, "multimedia.txt", tmp_path / "bad.zip"))
    with pytest.raises(ArchiveError, match=r"\(the archive was deleted: the same command fetches it again\)$"):
        build(archive=f"{server.url}/frogs")


def test_an_archive_that_was_given_by_path_is_never_deleted(build: Build, archive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    path.write_bytes(with_bad_checksum(archive, "multimedia.txt", tmp_path / "bad.zip"))
    before = path.read_bytes()
    with pytest.raises(ArchiveError) as raised:
        build(archive=str(path))
    assert path.read_bytes() == before
    assert "deleted" not in str(raised.value)


@pytest.fixture
def opened(root: Path, client: Client, server: Server, archive: bytes) -> Callable[[], Any]:
    server.routes["/frogs"] = Answer(archive)
    link = Link(f"{server.url}/frogs", 0, Origin(source="frogs"))
    return lambda: open_stored(Storage(str(root)), client, "frogs", lambda: link)


@pytest.mark.parametrize("error", [ArchiveError("no room"), AitaxError("no species"), KeyboardInterrupt()])
def test_trouble_that_is_not_the_archives_leaves_it_there(
    root: Path, opened: Callable[[], Any], error: BaseException
) -> None:
    if isinstance(error, ArchiveError):
        error.__cause__ = OSError(28, "No space left on device")
    with pytest.raises(type(error)), opened():
        raise error
    assert is_stored(Storage(str(root)), "frogs")


def test_a_full_disk_leaves_the_archive_there(
    server: Server, build: Build, root: Path, tgz: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/frogs"] = Answer(tgz)
    with monkeypatch.context() as patch:
        patch.setattr(unpack.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        with pytest.raises(ArchiveError, match=r"make room or set TMPDIR to another disk$"):
            build(archive=f"{server.url}/frogs")
    assert is_stored(Storage(str(root)), f"{server.url}/frogs")
    build(archive=f"{server.url}/frogs")
    assert len(server.paths("frogs")) == 1


def test_a_new_signature_does_not_fetch_again(
    server: Server, build: Build, root: Path, archive: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aitax_ray")
    server.routes["/frogs.zip"] = Answer(archive)
    signed = f"{server.url}/frogs.zip?version=2&X-Amz-Date={{}}&X-Amz-Signature=s3cr3t{{}}"
    first = build(archive=signed.format(1, 1))
    assert build(archive=signed.format(2, 2)).started == first.started
    assert build(archive=signed.format(3, 3), number=1).counts["kept"] == 2
    assert len(server.paths(".zip")) == 1
    assert build(archive=signed.format(4, 4).replace("version=2", "version=3")).counts["kept"] == 2
    assert len(server.paths(".zip")) == 2
    assert "s3cr3t" not in caplog.text
    assert [path for path in (root / "archive").rglob("*") if b"s3cr3t" in path.read_bytes()] == []


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(b"<html>"), Answer(b"PK", stop_after=1)])
def test_an_error_of_the_fetch_hides_the_secrets_of_the_address(server: Server, build: Build, answer: Answer) -> None:
    server.routes["/frogs.zip"] = answer
    with pytest.raises(GbifError) as raised:
        build(archive=f"{server.url}/frogs.zip?sig=s3cr3t")
    assert "s3cr3t" not in str(raised.value)
    assert "/frogs.zip?sig=***" in str(raised.value)


def test_the_origin_stands_in_query_json_before_the_archive_is_complete(
    server: Server, build: Build, root: Path, gbif: Gbif
) -> None:
    gbif.download(archive=b"<html>")
    with pytest.raises(GbifError):
        build(doi=DOI)
    query = Storage(str(root)).read_json(workspace.QUERY)
    assert (query["source"], query["download_key"], query["sha256"]) == (DOI, KEY, "")
