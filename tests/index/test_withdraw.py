import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas
from aitax_ray.index.build import SearchOptions
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.shards import Index, open_index, write_shard
from aitax_ray.index.withdraw import drop_photographs, write_without
from aitax_ray.storage import Storage
from tests.blank import blank_row
from tests.index.vectors import clustered_vectors, near, recall
from tests.kills import killed_at_each_write

PLACE = "index/shards"
KEYS = [f"{number:040x}" for number in range(9)]
VECTORS = np.eye(9, 16, dtype=np.float16)
ENDS = (3, 6, 9)


def thumbnail(number: int) -> bytes:
    return f"thumbnail of {number}".encode() * (number % 3)  # some have none


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine photographs in three shards; each is in a direction of its own."""
    for number, (first, end) in enumerate(zip((0, *ENDS), ENDS, strict=False)):
        folder = tmp_path / "root" / PLACE / f"{number:05}"
        sizes = [len(thumbnail(n)) for n in range(first, end)]
        rows = [
            blank_row(
                schemas.INDEX_ROWS,
                image_id=KEYS[n],
                class_index=n // 2,
                url=f"https://x.org/{n}.jpg",
                thumbnail_offset=sum(sizes[: n - first]),
                thumbnail_length=sizes[n - first],
            )
            for n in range(first, end)
        ]
        write_shard(folder, pa.Table.from_pylist(rows, schemas.INDEX_ROWS), VECTORS[first:end])
        (folder / "thumbnails.bin").write_bytes(b"".join(map(thumbnail, range(first, end))))
    return tmp_path / "root"


def assert_holds(root: Path, *numbers: int) -> None:
    """Each of these photographs, and no other, finds itself and its thumbnail, and the order is as it was."""
    with open_index(Storage(str(root))) as index:
        rows = pa.concat_tables([shard.rows for shard in index.shards])
        assert rows["image_id"].to_pylist() == [KEYS[n] for n in numbers]
        neighbors, similarities = index.search(VECTORS[list(numbers)].astype(np.float32), 1)
        assert neighbors.ravel().tolist() == list(range(len(numbers)))
        assert similarities.ravel().tolist() == pytest.approx([1] * len(numbers))
        found = [
            (shard.folder / "thumbnails.bin").read_bytes()[row["thumbnail_offset"] :][: row["thumbnail_length"]]
            for shard in index.shards
            for row in shard.rows.to_pylist()
        ]
        assert found == [thumbnail(n) for n in numbers]
    held = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for number in set(range(9)) - set(numbers):
        assert KEYS[number].encode() not in held
        assert f"https://x.org/{number}.jpg".encode() not in held
        assert not thumbnail(number) or thumbnail(number) not in held


def test_photographs_are_gone_from_rows_vectors_and_thumbnails_and_the_others_stay(root: Path) -> None:
    storage = Storage(str(root))
    assert drop_photographs(storage, PLACE, [KEYS[1], KEYS[8], "unknown"]) == 2
    assert_holds(root, 0, 2, 3, 4, 5, 6, 7)
    assert drop_photographs(storage, PLACE, [KEYS[1]]) == 0
    assert drop_photographs(storage, PLACE, [KEYS[2], KEYS[6]]) == 2
    assert_holds(root, 0, 3, 4, 5, 7)


def test_a_shard_without_photographs_is_deleted(root: Path) -> None:
    assert drop_photographs(Storage(str(root)), PLACE, KEYS[3:6]) == 3
    assert_holds(root, 0, 1, 2, 6, 7, 8)
    assert len(Index(sorted((root / PLACE).iterdir())).shards) == 2


def test_shards_that_hold_none_of_them_stay_as_they_are(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / PLACE / "00001").rglob("*")}
    drop_photographs(Storage(str(root)), PLACE, [KEYS[0]])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_index_in_an_object_store_is_changed_there(root: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/withdraw", recursive=True)
    assert drop_photographs(Storage("memory://withdraw"), PLACE, [KEYS[4], KEYS[7]]) == 2
    memory.get("/withdraw", str(tmp_path / "back"), recursive=True)
    assert_holds(tmp_path / "back", 0, 1, 2, 3, 5, 6, 8)


def test_after_a_kill_at_any_write_the_same_call_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_ids = [KEYS[1], *KEYS[3:6]]
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    numbers = []
    for number in killed_at_each_write(lambda: drop_photographs(Storage(str(copy)), PLACE, image_ids), monkeypatch):
        drop_photographs(Storage(str(copy)), PLACE, image_ids)
        assert_holds(copy, 0, 2, 6, 7, 8)
        shutil.rmtree(copy)
        shutil.copytree(root, copy)
        numbers.append(number)
    assert len(numbers) >= 6


@pytest.mark.parametrize("state", ["half of the new one", "half of the old one", "both", "only the new one"])
def test_after_a_kill_while_shards_are_exchanged_the_same_call_goes_on(root: Path, state: str) -> None:
    storage, old = Storage(str(root)), root / PLACE / "00000"
    new = old.with_name("00000-new")
    write_without(storage, f"{PLACE}/00000", f"{PLACE}/00000-new", [KEYS[1]])
    if state == "half of the new one":
        (new / "rows.arrow").unlink()
    elif state == "half of the old one":
        (old / "rows.arrow").unlink()
    elif state == "only the new one":
        shutil.rmtree(old)
    drop_photographs(storage, PLACE, [KEYS[1]])
    assert_holds(root, 0, 2, 3, 4, 5, 6, 7, 8)
    assert [path.name for path in sorted((root / PLACE).iterdir())] == ["00000", "00001", "00002"]


@pytest.mark.parametrize(
    "options", [{}, {"compression": 8.0}, {"memory": 60 * 6000}], ids=["plain", "compressed", "small"]
)
def test_a_tree_is_searched_without_them_in_as_much_memory_and_finds_as_much(
    tmp_path: Path, options: dict[str, float]
) -> None:
    vectors = clustered_vectors(6000).astype(np.float16)
    rows = [
        blank_row(schemas.INDEX_ROWS, image_id=f"{n:040x}", class_index=n // 60, thumbnail_length=0)
        for n in range(6000)
    ]
    folder = tmp_path / PLACE / "00000"
    write_shard(folder, pa.Table.from_pylist(rows, schemas.INDEX_ROWS), vectors, SearchOptions(**options))  # type: ignore[arg-type]
    before, gone = SearchInfo.read(folder), np.arange(7, 6000, 31)
    drop_photographs(Storage(str(tmp_path)), PLACE, [f"{n:040x}" for n in gone])
    after, kept = SearchInfo.read(folder), np.setdiff1d(np.arange(6000), gone)
    assert before.scann is not None
    assert after.scann is not None
    assert after.scann.in_memory == before.scann.in_memory
    assert (after.compression is None) == (before.compression is None)
    assert after.num_rows == len(kept)
    with open_index(Storage(str(tmp_path))) as index:
        queries = near(vectors[kept].astype(np.float32))
        found, _ = index.search(queries, 10)
        assert recall(found, vectors[kept], queries) > 0.9
        assert [row["image_id"] for row in index.shards[0].rows.to_pylist()] == [f"{n:040x}" for n in kept]
