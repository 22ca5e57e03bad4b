"""serving.queries: photographs are kept with their answers, and deleted by their token."""

import hashlib
import io
import json
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aitax_ray.errors import RequestError, StorageError
from aitax_ray.serving import queries
from aitax_ray.serving.assessment import Kept
from aitax_ray.serving.queries import CLOCKS_S, DELETED, GIVE_UP_S, QueryStore, check_queries, locate_queries
from aitax_ray.storage import Storage

RED = Image.new("RGB", (40, 30), (200, 0, 0))


def opened(folder: Path, max_bytes: int = 10**9, **options: Any) -> QueryStore:
    store = QueryStore(str(folder), max_bytes, **options)
    store.flush(20)
    return store


def kept(store: QueryStore, *photos: Image.Image) -> Kept:
    found = store.keep(photos or [RED], {"engine": "v1"})
    assert found is not None
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def status(store: QueryStore, query_id: str, token: str) -> int:
    try:
        store.delete(query_id, token)
    except RequestError as error:
        return error.status
    return 204


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Storage that does not write until the event is set."""
    event, write = threading.Event(), Storage.write_bytes

    def wait_and_write(self: Storage, path: str, data: bytes) -> None:
        if path.endswith(".zip"):
            event.wait(20)
        write(self, path, data)

    monkeypatch.setattr(Storage, "write_bytes", wait_and_write)
    return event


def test_a_query_is_one_file_with_the_pixels_and_the_answer_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at my garden"
    buffer = io.BytesIO()
    RED.save(buffer, "JPEG", exif=exif, comment=b"at my garden")
    store = opened(tmp_path)
    receipt = kept(store, Image.open(buffer), RED)
    store.flush(20)
    (name,) = files(tmp_path)
    assert name == f"{receipt.id[:10]}/{receipt.id}.zip"
    content = (tmp_path / name).read_bytes()
    assert b"at my garden" not in content
    assert receipt.token.encode() not in content
    assert receipt.id.endswith(hashlib.sha256(receipt.token.encode()).hexdigest()[:32])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["query.json", "1.jpg", "2.jpg"]
        assert json.loads(archive.read("query.json")) == {"id": receipt.id, "engine": "v1"}
        photo = Image.open(io.BytesIO(archive.read("1.jpg")))
        assert (photo.size, photo.format, dict(photo.getexif())) == ((40, 30), "JPEG", {})


def test_only_its_token_deletes_a_query_also_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = kept(store), kept(store)
    store.flush(20)
    again = opened(tmp_path)
    assert status(again, first.id, second.token) == status(again, first.id, "") == 403
    assert status(again, "../../etc/passwd", first.token) == 404
    assert status(again, first.id, first.token) == 204
    assert files(tmp_path) == [f"{second.id[:10]}/{second.id}.zip"]
    assert status(again, first.id, first.token) == 204  # asked twice, gone once


def test_an_old_query_that_is_not_there_is_not_found_and_writes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path, clock=lambda: time.time() - 2 * GIVE_UP_S - CLOCKS_S)
    receipt = kept(store)
    store.flush(20)
    now = opened(tmp_path)
    assert (status(now, receipt.id, receipt.token), status(now, receipt.id, receipt.token)) == (204, 404)
    assert files(tmp_path) == []


@pytest.mark.parametrize("ahead_s", [0, 3600, -3600])
def test_a_query_that_is_deleted_before_it_is_written_does_not_stay(
    tmp_path: Path, blocked: threading.Event, ahead_s: float
) -> None:
    """The copy of the service that deletes it may have another clock."""
    store, other = opened(tmp_path), opened(tmp_path, clock=lambda: time.time() + ahead_s)
    receipt = kept(store)
    assert status(other, receipt.id, receipt.token) == 204
    blocked.set()
    store.flush(20)
    assert files(tmp_path) == [f"{DELETED}/{receipt.id}"]


def test_slow_storage_holds_nobody_up_and_photographs_beyond_the_bound_are_not_kept(
    tmp_path: Path, blocked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_UNWRITTEN_BYTES", 3 * 40 * 30 * 3)
    store = opened(tmp_path)
    found = [store.keep([RED], {}) for _ in range(5)]
    assert [receipt is not None for receipt in found] == [True] * 3 + [False] * 2
    assert files(tmp_path) == []
    blocked.set()
    store.flush(20)
    assert len(files(tmp_path)) == 3
    assert store.keep([RED], {}) is not None


def test_a_full_folder_takes_no_more_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path, 1000)
    receipt = kept(store, Image.effect_noise((60, 60), 50))
    store.flush(20)
    assert store.keep([RED], {}) is None
    assert opened(tmp_path, 1000).keep([RED], {}) is None  # another copy counts too
    store.delete(receipt.id, receipt.token)
    monkeypatch.setattr(store, "_count_at", 0.0)
    assert store.keep([RED], {}) is None  # and looks again
    store.flush(20)
    assert store.keep([RED], {}) is not None
    store.flush(20)


def test_what_killed_writers_and_early_deletions_left_goes_away(tmp_path: Path) -> None:
    (tmp_path / DELETED).mkdir()
    rests = [tmp_path / ".x.zip.0123", tmp_path / DELETED / "old"]
    for path in [*rests, tmp_path / ".new"]:
        path.write_bytes(b"half")
    for path in rests:
        os.utime(path, (1, 1))
    opened(tmp_path)
    assert files(tmp_path) == [".new"]


def test_many_deletions_of_what_is_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_EARLY_DELETIONS", 2)
    store = opened(tmp_path)
    now = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    ids = [(f"{now}-{hashlib.sha256(token.encode()).hexdigest()[:32]}", token) for token in "abc"]
    assert [status(store, *each) for each in ids] == [204, 204, 503]
    assert status(store, f"9999-99-99T000000Z-{ids[0][0][-32:]}", "a") == 404


def test_a_service_does_not_start_with_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    check_queries(str(tmp_path / "new"))
    assert files(tmp_path) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"--keep-queries: .* cannot be written: .* choose a folder or URL"):
        check_queries(str(tmp_path / "file" / "folder"))


@pytest.mark.parametrize("broken", ["file/folder", "nothing://bucket"])
def test_storage_that_is_away_at_the_start_stops_no_replica_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = QueryStore(broken if "://" in broken else str(tmp_path / broken), 10**9)
    for _ in range(3):
        store.flush(20)
        store._count_at = 0.0
        assert store.keep([RED], {}) is None
    store.flush(20)
    assert len([each for each in caplog.records if each.name == queries.__name__]) == 1
    store._location = str(tmp_path / "folder")  # it is back
    (tmp_path / "file").unlink()
    store._count_at = 0.0
    assert store.keep([RED], {}) is None
    store.flush(20)
    assert store.keep([RED], {}) is not None
    store.flush(20)


def test_a_storage_that_fails_later_is_said_once_and_answers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)

    def fail(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Storage, "write_bytes", fail)
    for _ in range(3):
        kept(store)
        store.flush(20)
    assert [each.message for each in caplog.records if each.name == queries.__name__] == [
        "photographs cannot be kept: the disk is full"
    ]


def test_paths_become_absolute_and_addresses_stay() -> None:
    assert locate_queries("kept") == str(Path.cwd() / "kept")
    assert locate_queries("s3://bucket/kept") == "s3://bucket/kept"
    assert locate_queries(None) is None
