import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.index.thumbnails import make_thumbnails, open_thumbnails, pack_thumbnails, write_thumbnails
from aitax_ray.training.feed import read_labels
from aitax_ray.workspace import Workspace
from tests.small import SIDES, jpeg, photo, write_root

NUM = 3 * SIDES.count("train")
SIZE = 40


def stored(ws: Workspace, size: int = SIZE) -> dict[str, bytes]:
    table = ws.storage.read_table(open_thumbnails(ws.storage, size).folder, schema=schemas.THUMBNAILS)
    assert table.schema.equals(schemas.THUMBNAILS)
    rows = {row["image_id"]: row["thumbnail"] for row in table.to_pylist()}
    assert len(rows) == table.num_rows  # each photograph once
    return rows


def read_images(ws: Workspace) -> pa.Table:
    return ws.storage.read_table(workspace.IMAGES, schemas.IMAGES.names)


def test_each_photograph_has_one_thumbnail_per_size_and_it_is_made_again_when_its_jpeg_changes(
    ray_session: None, tmp_path: Path
) -> None:
    ws = write_root(tmp_path)
    labels = read_labels(ws, "train")
    some = labels.without([key.decode() for key in labels.image_ids[5:]])
    make_thumbnails(ws, some, SIZE)
    first = stored(ws)
    assert len(first) == 5
    make_thumbnails(ws, labels, SIZE)
    files = ws.storage.files(workspace.THUMBNAILS)
    found = stored(ws)
    assert set(found) == {key.decode() for key in labels.image_ids}
    assert first.items() <= found.items()
    jpegs = {row["image_id"]: row["jpeg"] for row in read_images(ws).to_pylist()}
    for image_id, content in found.items():
        with Image.open(io.BytesIO(content)) as small, Image.open(io.BytesIO(jpegs[image_id])) as original:
            assert (small.format, small.size) == ("WEBP", (40, 31))
            difference = np.abs(np.subtract(small.convert("RGB"), original.resize(small.size), dtype=float))
            assert difference.mean() < 8
    make_thumbnails(ws, labels, SIZE)
    assert ws.storage.files(workspace.THUMBNAILS) == files  # nothing is made twice
    make_thumbnails(ws, labels, 20)
    assert len(stored(ws, 20)) == NUM
    assert stored(ws) == found

    changed, other = labels.image_ids[0].decode(), jpeg(photo("Z9", 99))
    new = {"jpeg": other, "jpeg_sha256": hashlib.sha256(other).hexdigest()}
    for file in ws.storage.files(workspace.IMAGES, ".parquet"):
        rows = ws.storage.read_table(file.path).to_pylist()
        rows = [row | (new if row["image_id"] == changed else {}) for row in rows]
        ws.storage.write_table(file.path, pa.Table.from_pylist(rows, schemas.IMAGES))
    make_thumbnails(ws, labels, SIZE)
    again = stored(ws)
    assert {image_id for image_id in found if again[image_id] != found[image_id]} == {changed}
    assert len(again) == NUM

    begun = tmp_path / open_thumbnails(ws.storage, SIZE).folder / ".part-0.parquet.0"
    begun.write_bytes(b"PAR1")  # as a killed run leaves it
    make_thumbnails(ws, labels, SIZE)
    assert not begun.exists()


def write(ws: Workspace, **jpegs: bytes) -> None:
    rows = [{"image_id": image_id, "jpeg": content} for image_id, content in jpegs.items()]
    done = write_thumbnails(pa.Table.from_pylist(rows), open_thumbnails(ws.storage, SIZE), SIZE)
    assert done["num_rows"].to_pylist() == [len(jpegs)]


def test_thumbnails_are_packed_one_after_the_other_and_only_those_of_shown_photographs(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))
    write(ws, b=jpeg(photo("7K3", 0)), x=jpeg(photo("7K3", 1)), a=jpeg(photo("A12", 2)))
    write(ws, c=jpeg(photo("7K3", 3)), d=b"no picture", e=jpeg(photo("Z9", 4)))
    image_ids = np.array(["e", "a", "b", "c", "d", "z"], "S40")
    target = tmp_path / "packed"
    offset, length = pack_thumbnails(ws.storage, SIZE, image_ids, [True, True, True, False, True, True], target)
    content, made = target.read_bytes(), stored(ws)
    found = [content[start : start + size] for start, size in zip(offset.tolist(), length.tolist(), strict=True)]
    assert found == [made["e"], made["a"], made["b"], b"", b"", b""]
    assert len(content) == sum(map(len, found))
    assert made["d"] == b""  # it is known to be broken, and not tried again
    assert (offset.dtype, length.dtype) == (np.int64, np.int32)


def test_a_photograph_whose_thumbnail_two_workers_made_is_packed_once(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))
    for _ in range(2):
        write(ws, a=jpeg(photo("7K3", 0)))
    _, length = pack_thumbnails(ws.storage, SIZE, np.array(["a"], "S40"), [True], tmp_path / "packed")
    assert (tmp_path / "packed").stat().st_size == length[0] > 0


@pytest.mark.parametrize("num", [0, 1])
def test_without_thumbnails_nothing_is_packed(tmp_path: Path, num: int) -> None:
    keys = np.array(["a"] * num, "S40")
    offset, length = pack_thumbnails(Workspace(str(tmp_path)).storage, SIZE, keys, [True] * num, tmp_path / "packed")
    assert (offset.tolist(), length.tolist()) == ([0] * num, [0] * num)
