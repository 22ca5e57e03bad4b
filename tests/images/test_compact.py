"""Small files are merged after a run, and a run that is killed while it does so loses nothing."""

import itertools
from pathlib import Path

import pytest

from aitax_ray.images import compact as module
from aitax_ray.images.compact import compact, group
from aitax_ray.images.inventory import find_changes, record_files
from aitax_ray.images.reconcile import reconcile
from aitax_ray.storage import Storage
from tests.images.test_ledger import SIZE, list_media, outcome, planned, rows_of, statuses, store, stored
from tests.images.test_reconcile import dies_at

SHARD_SIZE = 8


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def prepare(storage: Storage) -> None:
    """What a run with slow hosts leaves: a file for every few photographs."""
    list_media(storage, "abcdefghijklm")
    for number, urls in enumerate(("ab", "c", "def", "ghijk", "l")):
        store(storage, f"r1-w-{number}", ok=urls, failed="m" if urls == "c" else "", reason="gone")
    reconcile(storage, "r1", SIZE)


def files(storage: Storage, folder: str) -> list[str]:
    return [file.path for file in storage.files(folder, ".parquet")]


def test_small_files_are_merged_and_every_photograph_keeps_its_fate(storage: Storage) -> None:
    prepare(storage)
    before, rows = outcome(storage), rows_of(storage)
    compact(storage, "r1c", SIZE, SHARD_SIZE)
    assert sorted(map(len, [storage.read_table(path) for path in files(storage, "images")])) == [5, 7]
    assert len(files(storage, "ledger")) == 1
    assert stored(storage) == list("abcdefghijkl")
    assert outcome(storage) == before
    assert planned(storage, "r2", None) == ["m"]
    assert planned(storage, "r2") == []
    # Rows were added for what moved, and none was lost.
    after = rows_of(storage)
    assert [row for row in after if row in rows] == rows
    assert len(after) == len(rows) + 7
    assert statuses(storage, "a") == ["ok", "ok"]
    assert str(find_changes(storage)) == ""


def test_merged_files_stay_as_they_are(storage: Storage) -> None:
    prepare(storage)
    compact(storage, "r1c", SIZE, SHARD_SIZE)
    before = storage.files("")
    reconcile(storage, "r2", SIZE)
    compact(storage, "r2c", SIZE, SHARD_SIZE)
    assert storage.files("") == before


def test_a_run_that_stored_nothing_leaves_the_names_of_photographs(storage: Storage) -> None:
    prepare(storage)
    record_files(storage)
    before = files(storage, "images")
    store(storage, "r2-w-0", failed="m", reason="gone")
    compact(storage, "r2c", SIZE, SHARD_SIZE)
    assert files(storage, "images") == before
    assert len(files(storage, "ledger")) == 1


def test_compacting_can_die_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment in itertools.count():
        storage = Storage(f"{tmp_path}/{moment}")
        prepare(storage)
        record_files(storage)  # of the run before: it knew all but the last pair
        list_media(storage, "abcdefghijklmn")
        store(storage, "r2-w-0", ok="n")
        reconcile(storage, "r2", SIZE)
        with monkeypatch.context() as patch:
            dies_at(patch, moment)
            try:
                compact(storage, "r2c", SIZE, SHARD_SIZE)
                break
            except KeyboardInterrupt:
                pass
        assert set(stored(storage)) == set("abcdefghijkln"), moment  # at no moment is one lost
        reconcile(storage, "r3", SIZE)
        assert stored(storage) == list("abcdefghijkln"), moment
        assert planned(storage, "r3") == [], moment
        assert outcome(storage).counts == {"urls": 14, "ok": 13, "failed": 1, "bytes": 65}, moment
        assert len({tuple(row.items()) for row in rows_of(storage)}) == len(rows_of(storage)), moment
        compact(storage, "r3c", SIZE, SHARD_SIZE)
        assert stored(storage) == list("abcdefghijkln"), moment
        assert str(find_changes(storage)) == "", moment
    assert moment >= 14


def test_a_merged_file_has_a_bound(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://h/{number}" for number in range(40)]
    list_media(storage, urls)
    for number, url in enumerate(urls):
        store(storage, f"r1-w-{number:02}", ok=[url])
    size = storage.files("ledger", ".parquet")[0].size
    monkeypatch.setattr(module, "LEDGER_BYTES", 10 * size)
    compact(storage, "r1c", SIZE, SHARD_SIZE)
    assert len(files(storage, "images")) == 5
    assert 5 <= len(files(storage, "ledger")) <= 10
    assert outcome(storage).counts["ok"] == 40


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ({}, []),
        ({"a": 1}, []),
        ({"a": 1, "b": 1}, [["a", "b"]]),
        ({"a": 4, "b": 4, "c": 4}, [["a", "b"]]),
        ({"a": 5, "b": 3, "c": 9}, []),
        ({"b": 4, "a": 4, "c": 1, "d": 1}, [["a", "b", "c", "d"]]),
    ],
)
def test_groups_hold_small_files_up_to_the_target(sizes: dict[str, int], groups: list[list[str]]) -> None:
    assert group(sizes, 10) == groups
