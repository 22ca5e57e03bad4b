import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.index.embeddings import Embeddings, StoredPhotographs, hashes_of, keys_of
from aitax_ray.storage import Storage
from tests.blank import blank_row


def key(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def rows(*photographs: tuple[str, str], value: float = 1) -> pa.Table:
    """Embeddings of photographs, each a name and the content of its JPEG."""
    columns = {
        "image_id": [key(name) for name, _ in photographs],
        "embedding": [np.array([value, 0], np.float16)] * len(photographs),
        "jpeg_sha256": [sha(content) for _, content in photographs],
    }
    return pa.table(columns, schemas.EMBEDDINGS)


def store(storage: Storage, file: str, photographs: Sequence[tuple[str, str | None]]) -> None:
    """Store photographs; one whose content is None has no hash, as those of an earlier version."""
    found = [
        blank_row(schemas.IMAGES, image_id=key(name)) | {"jpeg_sha256": content and sha(content)}
        for name, content in photographs
    ]
    storage.write_table(f"{workspace.IMAGES}/{file}.parquet", pa.Table.from_pylist(found, schemas.IMAGES))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage(str(tmp_path))
    store(made, "a", [("one", "1"), ("two", "2")])
    store(made, "b", [("three", "3"), ("old", None)])
    return made


def clean(embeddings: Embeddings) -> set[str]:
    """Clean, and give the names of the photographs that then have an embedding."""
    photographs = StoredPhotographs(embeddings.storage)
    found = {image_id.decode() for image_id in photographs.image_ids[embeddings.clean(photographs)]}
    return {name for name in ("one", "two", "three", "old") if key(name) in found}


def kept(embeddings: Embeddings) -> list[str]:
    return [image_id for table in embeddings.batches() for image_id in table["image_id"].to_pylist()]


def test_rows_that_hold_stay_as_they_are(storage: Storage, tmp_path: Path) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("one", "1"), ("two", "2")))
    embeddings.add(rows(("old", "any")))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "e").iterdir()}
    assert clean(embeddings) == {"one", "two", "old"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "e").iterdir()} == before
    assert len(before) == 2


def test_without_files_nothing_has_an_embedding(storage: Storage) -> None:
    assert clean(Embeddings(storage, "e")) == set()
    assert list(Embeddings(storage, "e").batches()) == []


@pytest.mark.parametrize(
    "gone", [("one", "other pixels"), ("vanished", "1")], ids=["another JPEG", "photograph that is not stored"]
)
def test_rows_of_other_pixels_are_deleted(storage: Storage, gone: tuple[str, str]) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("two", "2"), gone))
    embeddings.add(rows(gone))
    assert clean(embeddings) == {"two"}
    assert kept(embeddings) == [key("two")]
    assert len(storage.files("e")) == 1


def test_a_photograph_keeps_one_row(storage: Storage) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("one", "1"), ("two", "2"), ("one", "1")))
    embeddings.add(rows(("two", "2"), ("three", "3")))
    assert clean(embeddings) == {"one", "two", "three"}
    assert sorted(kept(embeddings)) == sorted(map(key, ("one", "two", "three")))


def test_a_row_of_other_pixels_does_not_stand_in_for_the_right_one(storage: Storage) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("one", "other pixels"), ("one", "1")))
    assert clean(embeddings) == {"one"}
    assert [table["jpeg_sha256"].to_pylist() for table in embeddings.batches()] == [[sha("1")]]


def test_files_that_a_killed_run_had_begun_are_deleted(storage: Storage, tmp_path: Path) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("one", "1")))
    begun = tmp_path / "e" / ".part-0.parquet.0"
    begun.write_bytes(b"PAR1")
    assert clean(embeddings) == {"one"}
    assert not begun.exists()


def test_keys_and_hashes_are_compact() -> None:
    table = rows(("one", "1"), ("two", "2"))
    assert keys_of(table).tolist() == [key("one").encode(), key("two").encode()]
    assert hashes_of(table).tolist() == [sha("1")[:16].encode(), sha("2")[:16].encode()]
    assert (keys_of(table[:0]).dtype, hashes_of(table[:0]).dtype) == (np.dtype("S40"), np.dtype("S16"))


def test_some_columns_can_be_read_alone(storage: Storage) -> None:
    embeddings = Embeddings(storage, "e")
    embeddings.add(rows(("one", "1")))
    assert [table.schema.names for table in embeddings.batches(["image_id"])] == [["image_id"]]
    assert [table.schema for table in embeddings.batches()] == [schemas.EMBEDDINGS]
