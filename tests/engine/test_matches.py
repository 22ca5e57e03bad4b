"""Where photographs are found, on a small root written by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray import schemas, takedowns, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.engine.matches import find_photographs, match, record_matches
from aitax_ray.index.added import TABLES
from aitax_ray.schemas import image_id
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Kind, Request
from tests.blank import blank_row


def url(name: object) -> str:
    return f"https://photos.example/{name}"


def write(storage: Storage, path: str, schema: pa.Schema, *rows: dict[str, Any]) -> None:
    full = [
        blank_row(schema, **row) | ({"image_id": image_id(row["url"])} if "image_id" in schema.names else {})
        for row in rows
    ]
    storage.write_table(path, pa.Table.from_pylist(full, schema))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Photographs 1 and 2 of Anna, 3 of Bob; 4 has the pixels of 1, 5 was never listed; 6 is in an engine only."""
    storage = Storage(str(tmp_path))
    media = [{"url": url(n), "gbif_id": f"g{n}", "species_key": "s"} for n in (1, 2, 3, 4)]
    for row, creator in zip(media, ("Anna", "ANNA", "Bob", "Cy"), strict=True):
        row |= {"creator": creator, "references": f"https://pages.example/{row['gbif_id']}"}
    write(storage, f"{workspace.MEDIA}/a.parquet", schemas.MEDIA, *media[:2])
    write(storage, f"{workspace.MEDIA}/b.parquet", schemas.MEDIA, *media[2:])
    write(storage, workspace.DROPPED, schemas.DROPPED, {"url": url(7), "gbif_id": "g7", "reason": "over_number"})
    pixels = {1: "same", 2: "two", 3: "", 4: "same", 5: ""}
    stored = [{"url": url(n), "gbif_id": f"g{n}", "jpeg_sha256": digest} for n, digest in pixels.items()]
    write(storage, "images/a.parquet", schemas.IMAGES, *stored)
    write(storage, "ledger/a.parquet", schemas.LEDGER, {"url": url(3), "final_url": "https://cdn.example/three.jpg"})
    engine = [{"url": url(6), "gbif_id": "g6", "creator": "Anna"}]
    write(storage, "engines/old/rows.parquet", schemas.INDEX_ROWS, *engine)
    return storage


def found(storage: Storage, kind: Kind, value: str) -> set[str]:
    request = Request(kind=kind, value=value, requested=takedowns.now())
    rows = find_photographs(storage, Criteria([request]))
    ids = {image_id(url(n)): str(n) for n in range(9)}
    return {ids[key] for key in match(request, rows).image_ids}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("image", image_id(url(2)), "2"),
        ("image", image_id(url(5)), "5"),
        ("url", url(3), "3"),
        ("url", "https://pages.example/g3/", "3"),
        ("url", "http://cdn.example/three.jpg", "3"),
        ("url", url(7), "7"),
        ("occurrence", "g7", "7"),
        ("occurrence", "g2", "2"),
        ("creator", "anna", "1246"),
        ("image", image_id(url(1)), "14"),
        ("image", image_id(url(3)), "3"),
        ("creator", "nobody", ""),
    ],
)
def test_photographs_are_found_wherever_they_are_and_with_their_copies(
    storage: Storage, kind: Kind, value: str, expected: str
) -> None:
    assert found(storage, kind, value) == set(expected)


def test_each_photograph_is_found_at_all_its_places(storage: Storage) -> None:
    request = Request(kind="creator", value="Anna", requested=takedowns.now())
    rows = find_photographs(storage, Criteria([request])).group_by("place").agg("image_id").to_dicts()
    assert {row["place"]: len(set(row["image_id"])) for row in rows} == {"manifest": 3, "images": 3, "engines/old": 1}


def test_each_request_records_its_own_photographs(storage: Storage) -> None:
    requests = [Request(kind="creator", value=name, requested=takedowns.now()) for name in ("Bob", "Anna")]
    rows = find_photographs(storage, Criteria(requests))
    bob, anna = record_matches(storage, requests, rows)
    assert (bob.urls, bob.gbif_ids, bob.jpeg_sha256) == ([url(3)], ["g3"], [])
    assert (anna.urls, anna.jpeg_sha256) == ([url(1), url(2), url(4), url(6)], ["same", "two"])
    assert {request.name for request in takedowns.read_requests(storage)} == {bob.name, anna.name}
    listed = takedowns.read_withdrawn(storage, "engines/withdrawn.json")
    assert listed == {*bob.image_ids, *anna.image_ids}


def test_an_engine_that_is_damaged_does_not_keep_others_from_being_found(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write_bytes("engines/broken/shards/00000/rows.arrow", b"rubbish")
    assert found(storage, "creator", "bob") == {"3"}
    assert "engines/broken/shards/00000 cannot be searched" in caplog.text


def test_an_empty_root_has_none(tmp_path: Path) -> None:
    assert found(Storage(str(tmp_path / "new")), "creator", "anna") == set()


def test_photographs_of_other_roots_that_were_added_are_found(storage: Storage) -> None:
    # Those of val and test are in no shard of the index.
    row = {"url": url(8), "gbif_id": "g8", "creator": "Anna"}
    write(storage, TABLES[workspace.MEDIA], schemas.MEDIA, row)
    assert found(storage, "creator", "anna") == {"1", "2", "4", "6", "8"}
