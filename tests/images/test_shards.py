from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray.images import shards
from aitax_ray.schemas import IMAGES, LEDGER, MEDIA, image_id
from aitax_ray.storage import Storage
from tests.blank import blank_row


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def list_media(storage: Storage, *urls: str, species_key: str = "2") -> None:
    blank = blank_row(MEDIA, gbif_id="1", species_key=species_key)
    rows = [{**blank, "image_id": image_id(url), "url": url} for url in urls]
    storage.write_table("manifest/media/part-00000.parquet", pa.Table.from_pylist(rows, MEDIA))


def store(storage: Storage, ok: str = "", failed: str = "", reason: str = "not_found", name: str = "") -> str:
    """Store a batch: a URL for each letter."""
    now = datetime.now(UTC)
    photographs = [
        {"image_id": image_id(u), "url": u, "gbif_id": "1", "species_key": "2", "width": 1, "height": 1, "jpeg": b"j"}
        for u in ok
    ]
    blank = {"http_status": 200, "attempts": 1, "num_bytes": 5, "fetched_at": now, "shard": ""}
    fates = [{"image_id": image_id(u), "url": u, "status": "ok", "reason": "", **blank} for u in ok]
    fates += [{"image_id": image_id(u), "url": u, "status": "failed", "reason": reason, **blank} for u in failed]
    path = shards.ledger_path([name or ok + failed])
    shards.write_shard(
        storage, path, pa.Table.from_pylist(photographs, IMAGES), pa.Table.from_pylist(fates, LEDGER), 512
    )
    return path


def stored(storage: Storage) -> str:
    return "".join(sorted(storage.read_table("images", ["url"], IMAGES)["url"].to_pylist()))


def fates(storage: Storage) -> str:
    return "".join(sorted(storage.read_table("ledger", ["url"], LEDGER)["url"].to_pylist()))


def assert_agree(storage: Storage) -> None:
    """Each photograph that the ledger calls ok stands in the file it names, and there is no other file."""
    ledger = storage.read_table("ledger", schema=LEDGER).to_pylist()
    assert all((row["shard"] != "") == (row["status"] == "ok") for row in ledger)
    found = {
        (row["image_id"], f.path.removeprefix("images/"))
        for f in storage.files("images")
        for row in storage.read_table(f.path).to_pylist()
    }
    assert found == {(row["image_id"], row["shard"]) for row in ledger if row["status"] == "ok"}


def test_a_batch_done_again_replaces_itself(storage: Storage) -> None:
    list_media(storage, *"abc")
    store(storage, ok="ab", failed="c", name="batch")
    store(storage, ok="abc", name="batch")
    shards.settle(storage)
    assert (stored(storage), fates(storage)) == ("abc", "abc")
    assert_agree(storage)


def test_photographs_without_fates_are_deleted(storage: Storage) -> None:
    list_media(storage, *"abcd")
    storage.delete(store(storage, ok="ab"))  # as after a kill between the two
    store(storage, ok="c", failed="d")
    shards.settle(storage)
    assert stored(storage) == "c"
    assert shards.write_todo(storage) == 2
    assert set(storage.read_table(shards.TODO)["url"].to_pylist()) == {"a", "b"}


def test_what_left_the_manifest_leaves_the_store(storage: Storage) -> None:
    store(storage, ok="ab", failed="cd")
    store(storage, ok="ef")
    store(storage, failed="gh")
    list_media(storage, *"adehx")
    shards.settle(storage)
    assert (stored(storage), fates(storage)) == ("ae", "adeh")
    assert_agree(storage)
    assert shards.write_todo(storage) == 1
    assert shards.stored_image_size(storage) == 512


def test_a_photograph_gets_the_species_that_the_manifest_says_now(storage: Storage) -> None:
    store(storage, ok="ab")
    store(storage, ok="c", failed="d")
    list_media(storage, *"abcd", species_key="new")
    shards.settle(storage)
    assert set(storage.read_table("images")["species_key"].to_pylist()) == {"new"}
    assert storage.read_table("images").schema.equals(IMAGES)
    assert stored(storage) == "abc"
    assert_agree(storage)


def test_a_url_is_there_once_even_if_two_batches_held_it(storage: Storage) -> None:
    list_media(storage, *"abc")
    store(storage, ok="a", failed="b")
    store(storage, ok="bc", failed="a")
    shards.settle(storage)
    assert (stored(storage), fates(storage)) == ("abc", "abc")
    assert_agree(storage)


def test_failures_that_may_pass_are_forgotten_when_asked_to(storage: Storage) -> None:
    list_media(storage, *"abcd")
    store(storage, ok="a", failed="b", reason="timeout")
    store(storage, failed="c", reason="timeout")
    store(storage, failed="d", reason="gone")
    shards.settle(storage, frozenset({"timeout", "server_error"}))
    assert fates(storage) == "ad"
    assert_agree(storage)


def test_every_fate_is_counted(storage: Storage) -> None:
    store(storage, ok="ab", failed="cde")
    store(storage, failed="f", reason="timeout")
    outcome = shards.count(storage)
    assert outcome.counts == {"urls": 6, "ok": 2, "failed": 4, "bytes": 10}
    assert outcome.reasons == {"not_found": 3, "timeout": 1}


def test_nothing_is_there_before_the_first_batch(storage: Storage) -> None:
    list_media(storage, *"ab")
    shards.settle(storage)
    assert shards.stored_image_size(storage) is None
    assert shards.count(storage).counts == {"urls": 0, "ok": 0, "failed": 0, "bytes": 0}
    assert shards.write_todo(storage) == 2
