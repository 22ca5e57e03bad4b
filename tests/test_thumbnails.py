from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray import thumbnails as module
from aitax_ray.thumbnails import THUMBNAIL, thumbnails
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.dataset.test_card import looks_like, picture
from tests.dataset.test_facts import EXCLUDED, make_nothing, make_world


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_world(str(tmp_path_factory.mktemp("world")))


def test_thumbnails_are_small_and_of_the_photographs_asked_for(ws: Workspace) -> None:
    found = thumbnails(ws.storage, ["a2", "e1", "nowhere"])
    assert set(found) == {"a2", "e1"}
    for image_id, source in found.items():
        assert looks_like(source, image_id)
        assert max(picture(source).size) == THUMBNAIL


def test_only_the_file_that_the_ledger_names_is_read(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    read_jpegs = module._read_jpegs

    def spy(storage: Any, path: str, wanted: set[str]) -> dict[str, bytes]:
        read.append(path)
        return read_jpegs(storage, path, wanted)

    monkeypatch.setattr(module, "_read_jpegs", spy)
    assert set(thumbnails(ws.storage, ["b4"])) == {"b4"}
    assert read == [f"{workspace.IMAGES}/1.parquet"]


def test_without_a_ledger_photographs_are_found_all_the_same(tmp_path: Path) -> None:
    storage = make_world(str(tmp_path), ledger=False).storage
    assert set(thumbnails(storage, EXCLUDED)) == set(EXCLUDED)


def test_a_photograph_in_a_late_row_group_is_found(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    world = make_world(str(tmp_path), ledger=False)
    path = world.storage.full(f"{workspace.IMAGES}/0.parquet")
    pq.write_table(pq.read_table(path), path, row_group_size=2)
    found = thumbnails(world.storage, ["a2", "b3"])
    assert all(looks_like(source, image_id) for image_id, source in found.items())
    assert set(found) == {"a2", "b3"}


def test_the_size_can_be_chosen(ws: Workspace) -> None:
    (source,) = thumbnails(ws.storage, ["a2"], 40).values()
    assert max(picture(source).size) == 40


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    storage = make_nothing(str(tmp_path)).storage
    broken = {"w": b"", "x": b"no picture", "y": b"\xff\xd8\xff\xe0 broken"}
    images = [blank_row(schemas.IMAGES, image_id=name, jpeg=jpeg) for name, jpeg in broken.items()]
    storage.write_table(f"{workspace.IMAGES}/0.parquet", pa.Table.from_pylist(images, schemas.IMAGES))
    assert thumbnails(storage, broken) == {}
