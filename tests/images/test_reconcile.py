"""What becomes of files, ledger and manifest that do not agree, and that a run can be killed at any step.

A photograph's URL is a letter; `r1`, `r2`, ... are runs, one after the other.
"""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray.errors import DataError
from aitax_ray.images import inventory, shards
from aitax_ray.images import ledger as ledger_module
from aitax_ray.images.ledger import new_run
from aitax_ray.images.reconcile import reconcile
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome
from tests.blank import blank_row
from tests.images.test_ledger import (
    SIZE,
    fate,
    list_media,
    outcome,
    planned,
    statuses,
    store,
    stored,
    told,
    write_rows,
)  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_without_a_manifest_and_without_a_ledger_nothing_is_left_to_do(storage: Storage) -> None:
    assert planned(storage) == []
    reconcile(storage, "r1", SIZE, prune=True)
    assert outcome(storage) == Outcome(counts={"urls": 0, "ok": 0, "failed": 0, "bytes": 0})
    assert storage.entries("") == []


def test_photographs_whose_file_was_deleted_are_fetched_again(storage: Storage) -> None:
    list_media(storage, "abcd")
    store(storage, "r1-w-0", ok="ab")
    store(storage, "r1-w-1", ok="c", failed="d", reason="not_found")
    storage.delete("images/r1-w-0.parquet")
    reconcile(storage, "r2", SIZE)
    assert set(planned(storage, "r2")) == {"a", "b"}
    store(storage, "r2-w-0", ok="a", failed="b", reason="gone")
    reconcile(storage, "r2", SIZE)
    assert planned(storage, "r2") == []
    assert stored(storage) == ["a", "c"]
    assert outcome(storage).reasons == {"gone": 1, "not_found": 1}


def test_what_the_manifest_has_no_more_is_marked_once_and_kept(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="ab", failed="cd", reason="gone")
    list_media(storage, "ac")
    reconcile(storage, "r2", SIZE)
    once = told(storage)
    assert statuses(storage, "b") == ["ok", "vanished"]
    assert statuses(storage, "d") == ["failed", "vanished"]
    assert once.total() == 6
    for run in ("r2", "r3"):
        reconcile(storage, run, SIZE)
    assert told(storage) == once
    assert stored(storage) == ["a", "b"]
    assert planned(storage, "r3", None) == ["c"]
    assert outcome(storage) == Outcome(
        counts={"urls": 2, "ok": 1, "failed": 1, "bytes": 5, "vanished": 1}, reasons={"gone": 1}
    )


def test_a_mark_leaves_the_rest_of_what_was_known(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="a")
    (before,) = storage.read_table("ledger").to_pylist()
    begin = datetime.now(UTC)
    reconcile(storage, "r2", SIZE)
    before_row, after = sorted(storage.read_table("ledger").to_pylist(), key=lambda row: row["run"])
    assert before_row == before
    assert begin <= after["fetched_at"] <= datetime.now(UTC)
    assert after == before | {"status": "vanished", "run": "r2", "fetched_at": after["fetched_at"]}
    assert storage.read_table("ledger").schema.equals(LEDGER)
    assert shards.stored_image_size(storage) == SIZE


def test_what_comes_back_is_there_without_being_fetched(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="ab")
    for number, urls in enumerate(("a", "ab", "b", "ab")):
        list_media(storage, urls)
        reconcile(storage, f"r{number + 2}", SIZE)
        assert planned(storage, f"r{number + 2}", None) == []
        assert outcome(storage).counts["ok"] == len(urls)
    assert statuses(storage, "a") == ["ok", "vanished", "ok"]
    assert statuses(storage, "b") == ["ok", "vanished", "ok"]
    assert stored(storage) == ["a", "b"]


def test_what_failed_and_comes_back_gets_a_fate_again(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="a", failed="b", reason="timeout")
    for run, urls in (("r2", "a"), ("r3", "ab")):
        list_media(storage, urls)
        reconcile(storage, run, SIZE)
    assert planned(storage, "r3") == ["b"]
    store(storage, "r3-w-0", failed="b", reason="timeout")
    assert planned(storage, "r3") == []
    assert outcome(storage).reasons == {"timeout": 1}


def test_what_comes_back_after_its_file_was_deleted_is_fetched(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="ab")
    list_media(storage, "a")
    reconcile(storage, "r2", SIZE)
    storage.delete("images/r1-w-0.parquet")
    list_media(storage, "ab")
    reconcile(storage, "r3", SIZE)
    assert set(planned(storage, "r3")) == {"a", "b"}


def test_pruned_photographs_are_deleted_and_fetched_anew_when_they_come_back(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="abc", failed="d")
    store(storage, "r1-w-1", ok="e")
    list_media(storage, "ac")
    reconcile(storage, "r2", SIZE, prune=True)
    once = told(storage)
    assert stored(storage) == ["a", "c"]
    assert [file.path for file in storage.files("images")] == ["images/r1-w-0.parquet"]
    assert statuses(storage, "b")[-1] == statuses(storage, "e")[-1] == "pruned"
    assert statuses(storage, "a") == ["ok"]
    assert statuses(storage, "d") == ["failed", "vanished"]
    assert ("b", "pruned", "", "") in once
    reconcile(storage, "r3", SIZE, prune=True)
    assert told(storage) == once
    assert outcome(storage).counts == {"urls": 2, "ok": 2, "failed": 0, "bytes": 10}

    list_media(storage, "abce")
    reconcile(storage, "r4", SIZE)
    assert set(planned(storage, "r4")) == {"b", "e"}
    store(storage, "r4-w-0", ok="be")
    reconcile(storage, "r4", SIZE)
    assert planned(storage, "r4", None) == []
    assert stored(storage) == list("abce")
    assert outcome(storage).counts == {"urls": 4, "ok": 4, "failed": 0, "bytes": 20}


def test_photographs_that_were_only_marked_are_deleted_by_a_later_run(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="ab")
    list_media(storage, "a")
    reconcile(storage, "r2", SIZE)
    assert stored(storage) == ["a", "b"]
    reconcile(storage, "r3", SIZE, prune=True)
    assert stored(storage) == ["a"]
    assert statuses(storage, "b")[:2] == ["ok", "vanished"]
    assert statuses(storage, "b")[-1] == "pruned"


def prepare(storage: Storage) -> None:
    """All that `settle` has to do with, but for twins."""
    store(storage, "r1-w-0", ok="abc", failed="de")
    store(storage, "r1-w-1", ok="f")
    list_media(storage, "acd")
    write_rows(storage, "r2-0", fate("c", "vanished", "r2", shard="r1-w-0.parquet"))  # and is back
    photographs = [blank_row(IMAGES, image_id=image_id(url), url=url, jpeg=b"jpeg") for url in "cz"]
    shards.write_photographs(storage, "r2-w-0.parquet", pa.Table.from_pylist(photographs, IMAGES), SIZE)
    for path in ("images/r2-w-3.parquet", "images/.r2-w-1.parquet.0123", "ledger/.r2-w-0.parquet.0123"):
        storage.write_bytes(path, b"half")
    storage.write_bytes("ledger/.todo/000000.parquet", b"old")
    storage.write_json("images/.started.json", {})


def content(storage: Storage) -> tuple[object, ...]:
    held = [(f.path, storage.read_table(f.path)["url"].to_pylist()) for f in storage.files("images")]
    hidden = [path for folder in ("images", "ledger") for path in storage.entries(folder) if "/." in path]
    return held, hidden, told(storage)


def dies_at(patch: pytest.MonkeyPatch, moment: int) -> None:
    """Make the n-th change of storage from now on the death of the program."""
    left = moment

    def dying(work: Callable[..., Any]) -> Callable[..., Any]:
        def change(*given: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return work(*given, **options)

        return change

    for name in ("delete", "write_table", "write_bytes", "copy"):
        patch.setattr(Storage, name, dying(getattr(Storage, name)))


def test_reconciling_can_die_at_any_moment_and_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "BATCH_ROWS", 2)
    undisturbed = Storage(str(tmp_path / "undisturbed"))
    prepare(undisturbed)
    reconcile(undisturbed, "r3", SIZE, prune=True)
    for moment in itertools.count():
        storage = Storage(f"{tmp_path}/{moment}")
        prepare(storage)
        with monkeypatch.context() as patch:
            dies_at(patch, moment)
            try:
                reconcile(storage, "r3", SIZE, prune=True)
                break
            except KeyboardInterrupt:
                pass
        reconcile(storage, "r4", SIZE, prune=True)
        assert content(storage) == content(undisturbed)
    assert moment >= 9
    assert stored(undisturbed) == ["a", "c"]
    assert content(undisturbed)[1] == ["images/.damaged", "images/.started.json"]
    reconcile(undisturbed, "r4", SIZE, prune=True)
    assert content(undisturbed) == content(storage)


def work_like_a_run(storage: Storage, run: str) -> None:
    """What the stage does, with a worker that stores one URL after the other: `x` is gone and `y` times out."""
    reconcile(storage, run, SIZE)
    for number, url in enumerate(planned(storage, run)):
        if url in "xy":
            store(storage, f"{run}-w-{number}", failed=url, reason={"x": "gone", "y": "timeout"}[url])
        else:
            store(storage, f"{run}-w-{number}", ok=url)
    storage.delete(shards.TODO)
    reconcile(storage, run, SIZE)


@pytest.mark.parametrize("moment", [3, 5, 6])  # before any, between the two files of a pair, between pairs
def test_a_run_can_die_at_any_moment_and_the_next_one_stores_each_photograph_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    list_media(storage, "abxy")
    with monkeypatch.context() as patch:
        dies_at(patch, moment)
        with pytest.raises(KeyboardInterrupt):
            work_like_a_run(storage, "r1")
    work_like_a_run(storage, "r2")
    assert stored(storage) == ["a", "b"]
    # What was in a file and not yet in the ledger is entered by the next run, which does not know the bytes fetched.
    assert outcome(storage) == Outcome(
        counts={"urls": 4, "ok": 2, "failed": 2, "bytes": 5 if moment == 5 else 10}, reasons={"gone": 1, "timeout": 1}
    )
    assert [statuses(storage, url) for url in "abx"] == [["ok"], ["ok"], ["failed"]]


def test_twins_are_taken_out_of_one_file(storage: Storage) -> None:
    list_media(storage, "abcde")
    store(storage, "r1-v-0", ok="abc")
    store(storage, "r1-w-0", ok="bcde")
    reconcile(storage, "r2", SIZE)
    assert stored(storage) == list("abcde")
    assert outcome(storage).counts["ok"] == 5
    assert planned(storage, "r2", None) == []
    assert sum(file.path.startswith("images/") for file in storage.files("")) == 2


def test_reconciling_twins_can_die_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(storage):
        store(storage, "r1-v-0", ok="abc")
        store(storage, "r1-w-0", ok="bc")
        store(storage, "r1-x-0", ok="cd")
        list_media(storage, "abcd")

    for moment in itertools.count():
        storage = Storage(f"{tmp_path}/{moment}")
        prepare(storage)
        with monkeypatch.context() as patch:
            dies_at(patch, moment)
            try:
                reconcile(storage, "r2", SIZE)
                break
            except KeyboardInterrupt:
                pass
        reconcile(storage, "r3", SIZE)
        assert stored(storage) == list("abcd"), moment
        assert planned(storage, "r3") == [], moment
        assert outcome(storage).counts["ok"] == 4, moment


# The same crash, then the URL vanishes, and is pruned: the photograph must not stay.
def test_a_twin_whose_file_was_deleted_in_a_crash_is_pruned(storage: Storage) -> None:
    store(storage, "r1-v-0", ok="ab")
    store(storage, "r1-w-0", ok="b")
    storage.delete("images/r1-w-0.parquet")  # drop_twins died here
    list_media(storage, "a")
    reconcile(storage, "r2", SIZE, prune=True)
    assert stored(storage) == ["a"]


@pytest.mark.parametrize("moment", [2, 3])
def test_what_was_pruned_half_way_and_comes_back_is_fetched(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    store(storage, "r1-w-0", ok="ab")
    list_media(storage, "a")
    with monkeypatch.context() as patch:
        dies_at(patch, moment)  # 0: TODO, 1: mark, 2: drop_photographs, 3: mark_pruned
        with pytest.raises(KeyboardInterrupt):
            reconcile(storage, "r2", SIZE, prune=True)
    list_media(storage, "ab")
    reconcile(storage, "r3", SIZE)
    for url in planned(storage, "r3"):
        store(storage, "r3-w-0", ok=url)
    reconcile(storage, "r3", SIZE)
    assert stored(storage) == ["a", "b"]


# A mark of this run must not outdate what a worker of this run did, whose clock is behind.
@pytest.mark.parametrize("status", ["ok", "failed"])
def test_what_comes_back_without_its_file_gets_its_fate_from_the_worker(storage: Storage, status: str) -> None:
    store(storage, "r1-w-0", ok="a")
    reconcile(storage, "r2", SIZE)
    storage.delete("images/r1-w-0.parquet")
    list_media(storage, "a")
    reconcile(storage, "r3", SIZE)
    assert planned(storage, "r3") == ["a"]
    store(storage, "r3-w-0", **{status: "a"})  # at START, long before now
    assert planned(storage, "r3") == []


# A driver whose clock is behind an earlier driver's.
def test_a_run_is_later_than_all_that_the_ledger_knows(storage: Storage) -> None:
    list_media(storage, "a")
    store(storage, "29990101T000000000000-w-0", failed="a")
    run = new_run(storage)
    assert run.startswith("29990101T000000000001-")
    reconcile(storage, run, SIZE)
    assert planned(storage, run) == ["a"]
    rows = fate("a", "ok", run, shard="x.parquet")
    storage.write_bytes("images/x.parquet", b"")
    write_rows(storage, "x", rows)
    assert planned(storage, run) == []


def test_a_lost_ledger_is_made_again_from_the_photographs(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    list_media(storage, "abcx")
    store(storage, "r1-w-0", ok="ab", failed="x", reason="gone")
    store(storage, "r1-w-1", ok="cd")
    storage.delete("ledger")
    reconcile(storage, "r2", SIZE)
    assert "4 photographs were in images/ and not in the ledger" in caplog.text
    assert stored(storage) == list("abcd")
    assert planned(storage, "r2") == ["x"]
    assert outcome(storage).counts == {"urls": 3, "ok": 3, "failed": 0, "bytes": 0, "vanished": 1}
    assert statuses(storage, "d") == ["ok", "vanished"] or statuses(storage, "d") == ["vanished", "ok"]
    assert shards.stored_image_size(storage) == SIZE


def test_a_part_of_the_ledger_that_is_lost_is_made_again(storage: Storage) -> None:
    list_media(storage, "abcdx")
    store(storage, "r1-w-0", ok="ab", failed="x", reason="gone")
    store(storage, "r1-w-1", ok="cd")
    inventory.record_files(storage)
    storage.delete("ledger/r1-w-1.parquet")
    reconcile(storage, "r2", SIZE)
    assert planned(storage, "r2") == []
    assert outcome(storage).counts["ok"] == 4
    assert outcome(storage).reasons == {"gone": 1}


def test_a_damaged_file_of_the_ledger_is_made_again(storage: Storage) -> None:
    list_media(storage, "abcd")
    store(storage, "r1-w-0", ok="ab")
    store(storage, "r1-w-1", ok="cd")
    path = Path(storage.full("ledger/r1-w-1.parquet"))
    path.write_bytes(path.read_bytes()[:-100])
    reconcile(storage, "r2", SIZE)
    assert planned(storage, "r2") == []
    assert outcome(storage).counts["ok"] == 4


def test_photographs_in_two_files_without_a_ledger_are_entered_once(storage: Storage) -> None:
    list_media(storage, "abc")
    store(storage, "r1-w-0", ok="ab")
    store(storage, "r1-w-1", ok="bc")
    storage.delete("ledger")
    reconcile(storage, "r2", SIZE)
    assert stored(storage) == list("abc")
    assert outcome(storage).counts["ok"] == 3


def test_a_truncated_file_of_photographs_counts_as_missing(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    list_media(storage, "abcd")
    store(storage, "r1-w-0", ok="ab")
    store(storage, "r1-w-1", ok="cd")
    inventory.record_files(storage)
    path = Path(storage.full("images/r1-w-1.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    assert outcome(storage).counts["ok"] == 4  # the file is there: only `reconcile` opens it
    reconcile(storage, "r2", SIZE)
    assert "2 photographs of the ledger are not there, since 1 files of images/ are missing" in caplog.text
    assert outcome(storage).counts["ok"] == 2
    assert outcome(storage).reasons == {shards.FILE_MISSING: 2}
    assert sorted(planned(storage, "r2", frozenset())) == ["c", "d"]


def test_photographs_that_a_file_lost_are_fetched_again_and_the_others_kept(storage: Storage) -> None:
    list_media(storage, "abcd")
    store(storage, "r1-w-0", ok="abcd")
    inventory.record_files(storage)
    path = "images/r1-w-0.parquet"
    storage.write_table(path, storage.read_table(path).slice(1, 2))
    (kept,) = [stored(storage)]
    reconcile(storage, "r2", SIZE)
    assert stored(storage) == kept
    assert sorted(planned(storage, "r2")) == sorted(set("abcd") - set(kept))
    assert outcome(storage).counts["bytes"] == 10  # what the ledger knew of the two is known still


def test_a_file_that_comes_back_is_used_again(storage: Storage) -> None:
    """Its photographs were not to be had any more."""
    list_media(storage, "ab")
    store(storage, "r1-w-0", ok="ab")
    inventory.record_files(storage)
    aside = Path(storage.full("images/r1-w-0.parquet")).rename(Path(storage.full("backup")))
    reconcile(storage, "r2", SIZE)
    store(storage, "r2-w-0", ok="a", failed="b", reason="gone")
    reconcile(storage, "r2e", SIZE)
    inventory.record_files(storage)
    aside.rename(Path(storage.full("images/r1-w-0.parquet")))
    reconcile(storage, "r3", SIZE)
    assert stored(storage) == ["a", "b"]
    assert outcome(storage).counts["ok"] == 2
    assert outcome(storage).reasons == {}


def test_a_manifest_that_lists_a_photograph_twice_is_refused(storage: Storage) -> None:
    list_media(storage, "ab")
    rows = storage.read_table("manifest/media")
    storage.write_table("manifest/media/part-00009.parquet", rows.slice(0, 1))
    with pytest.raises(DataError, match="more than once: run `aitax manifest --force`"):
        reconcile(storage, "r1", SIZE)
