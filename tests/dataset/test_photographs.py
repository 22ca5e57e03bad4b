import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyarrow.parquet import ParquetWriter

from aitax_ray.dataset import photographs
from aitax_ray.dataset.label_trust import judge_label
from aitax_ray.dataset.photographs import COLUMNS, write_photographs
from aitax_ray.errors import DataError, StorageError
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace
from tests.dataset.test_similar import random_hashes
from tests.dataset.test_split import Photo, store

PHOTOS: list[Photo] = [("c", "g1", "s"), ("a", "g2", "t"), ("b", "g3", "s")]


def read(root: str, min_side: int | None) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        return write_photographs(Workspace(root), min_side, Path(folder)).read(COLUMNS.names)


def test_rows_are_sorted_and_say_what_the_manifest_says(tmp_path: Path) -> None:
    store(str(tmp_path), PHOTOS, num_shards=2, listed=[("c", "g9", "t"), ("b", "g3", "s"), ("not stored", "g", "s")])
    rows = read(str(tmp_path), None)
    assert rows.select("image_id", "gbif_id", "species_key", "reason").rows() == [
        ("a", "g2", "t", "not_in_manifest"),
        ("b", "g3", "s", ""),
        ("c", "g9", "t", ""),
    ]


def test_rules_are_asked_when_there_is_a_limit(tmp_path: Path) -> None:
    root = store(
        str(tmp_path),
        PHOTOS,
        known={"a": {"title": "Label"}, "b": {"url": "https://archive.org/download/x/page/n7.jpg"}},
    )
    rows = read(root, 128)
    assert rows["reason"].to_list() == ["label", "book_page", ""]
    assert read(root, None)["reason"].to_list() == [""] * 3


def test_a_photograph_that_two_files_hold_is_one(tmp_path: Path) -> None:
    root = store(str(tmp_path), [*PHOTOS, PHOTOS[0]], num_shards=2, listed=PHOTOS)
    assert read(root, None)["image_id"].to_list() == ["a", "b", "c"]


def test_nothing_stored_and_nothing_listed_is_no_row(tmp_path: Path) -> None:
    assert read(store(str(tmp_path), []), None).height == 0


def test_no_table_is_read_whole_and_each_text_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"{n:02}", f"g{n}", "s") for n in range(20)]
    remarks = {"identification_remarks": "identified by AI"}
    root = store(str(tmp_path), rows, num_shards=3, known={f"g{n}": remarks for n in range(0, 20, 2)})
    judged: list[str] = []

    def judge(*texts: str) -> str:
        judged.append(texts[-1])
        return judge_label(*texts)

    monkeypatch.setattr(photographs, "judge_label", judge)
    monkeypatch.setattr(photographs, "ROWS", 4)
    monkeypatch.delattr(Storage, "read_table")
    found = read(root, 128)
    assert found["image_id"].to_list() == [image_id for image_id, _, _ in rows]
    assert found["trust"].to_list() == ["machine", "unknown"] * 10
    assert sorted(judged) == ["", "identified by AI"]


def test_chosen_photographs_are_read_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, hashes = [f"{n:02}" for n in range(20)], random_hashes(20)
    is_hashed = np.arange(20) % 3 != 0
    known = {name: {"phash": hashes[n].tobytes()} for n, name in enumerate(ids) if is_hashed[n]}
    root = store(str(tmp_path / "root"), [(name, f"g{name}", "st"[n % 2]) for n, name in enumerate(ids)], known=known)
    monkeypatch.setattr(photographs, "ROWS", 4)
    stored = write_photographs(Workspace(root), None, tmp_path)
    assert [batch["image_id"].to_list() for batch in stored.batches(["image_id"])] == [
        ids[n : n + 4] for n in range(0, 20, 4)
    ]
    columns = ["image_id", "species_key", "has_hash"]
    chosen = np.ones(20, bool)
    chosen[[0, 2, 8, 9, 10, 11, 19]] = False  # one batch has none
    rows = stored.read(columns)
    assert rows["has_hash"].to_list() == is_hashed.tolist()
    assert stored.read(columns, pl.Series(chosen)).equals(rows.filter(pl.Series(chosen)))
    found, is_known = stored.hashes(pl.Series(chosen))
    assert is_known.tolist() == is_hashed[chosen].tolist()
    assert found.tolist() == hashes[chosen & is_hashed].tolist()
    looked_for = ["03", "04", "07", "075", "19", "unknown"]
    assert stored.find(pl.Series(looked_for)).to_list() == [name in looked_for for name in ids]


def test_no_room_for_the_file_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = store(str(tmp_path), PHOTOS)

    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ParquetWriter, "write_table", fill_up)
    with pytest.raises(
        StorageError, match=r"No space left on device\): make room or set TMPDIR to another disk$"
    ) as raised:
        read(root, None)
    assert str(raised.value).startswith(f"no room below {tempfile.gettempdir()} (")


def test_a_photograph_that_the_manifest_lists_twice_is_an_error(tmp_path: Path) -> None:
    root = store(str(tmp_path), PHOTOS, listed=[*PHOTOS, PHOTOS[0]])
    with pytest.raises(DataError, match="manifest/media has 2 rows with the image_id 'c' where it may have one"):
        read(root, None)


def test_a_sha256_is_shortened_and_any_other_text_stays(tmp_path: Path) -> None:
    digests = {"a": "12" * 32, "b": "12" * 31 + "13", "c": "same"}
    root = store(str(tmp_path), PHOTOS, known={name: {"jpeg_sha256": digest} for name, digest in digests.items()})
    assert read(root, None)["jpeg_sha256"].to_list() == ["EhISEhISEhIS"] * 2 + ["same"]
