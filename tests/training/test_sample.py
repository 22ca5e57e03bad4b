"""training.sample: the same photographs whatever the order, from the sides asked for."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import workspace
from aitax_ray.schemas import image_id
from aitax_ray.training.sample import BATCH, Sample, draw_sample
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.workspace import Workspace
from tests.small import KEYS, SIDES, jpeg, photo, write_root

TRANSFORM = EvalTransform(crop_size=32, resize_size=36)
NUM = {side: SIDES.count(side) * len(KEYS) for side in ("train", "val", "test")}


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return write_root(tmp_path_factory.mktemp("root"))


def pixels_of(sample: Sample) -> list[bytes]:
    return [pixels.tobytes() for batch, _ in sample for pixels in batch]


def test_photographs_are_prepared_as_the_service_prepares_them(ws: Workspace) -> None:
    stored = {(key, n): Image.open(io.BytesIO(jpeg(photo(key, n)))) for key in KEYS for n in range(len(SIDES))}
    expected = {TRANSFORM.pixels(image).tobytes(): KEYS.index(key) for (key, _), image in stored.items()}
    sample = draw_sample(ws, TRANSFORM, 1000, "train", "val", "test")
    assert len(sample) == len(expected)
    for pixels, class_index in sample:
        assert pixels.shape[1:] == (32, 32, 3)
        assert [expected[one.tobytes()] for one in pixels] == class_index.tolist()


def test_no_batch_is_larger_than_stated_and_none_is_empty(ws: Workspace) -> None:
    sizes = [len(class_index) for _, class_index in draw_sample(ws, TRANSFORM, BATCH + 1, "train")]
    assert sizes == [BATCH, 1]


def test_a_side_is_used_before_the_next_one(ws: Workspace) -> None:
    val = pixels_of(draw_sample(ws, TRANSFORM, NUM["val"], "val", "test"))
    assert sorted(val) == sorted(pixels_of(draw_sample(ws, TRANSFORM, 1000, "val")))
    more = pixels_of(draw_sample(ws, TRANSFORM, NUM["val"] + 5, "val", "test"))
    test = pixels_of(draw_sample(ws, TRANSFORM, 1000, "test"))
    assert len(more) == NUM["val"] + 5
    assert set(val) <= set(more) <= {*val, *test}


def test_the_draw_depends_on_neither_files_nor_their_order(ws: Workspace, tmp_path: Path) -> None:
    other = write_root(tmp_path / "other")
    stored = other.storage.read_table(workspace.IMAGES)
    for file in other.storage.files(workspace.IMAGES, ".parquet"):
        other.storage.delete(file.path)
    order = pa.array(np.random.default_rng(1).permutation(len(stored)))
    other.storage.write_table("images/all.parquet", stored.take(order))
    for num in (1, 10):
        assert pixels_of(draw_sample(other, TRANSFORM, num, "val")) == pixels_of(draw_sample(ws, TRANSFORM, num, "val"))


def test_the_draw_is_no_first_part_of_the_sorted_keys(ws: Workspace) -> None:
    """Duplicates are resolved in favour of the smallest image_id, so small ones are no random sample."""
    train = sorted(image_id(f"https://photos.example/{key}/{n}.jpg") for key in KEYS for n in range(8))
    rows = draw_sample(ws, TRANSFORM, 8, "train")._rows
    assert set(rows["image_id"].to_pylist()) < set(train)
    assert rows["image_id"].to_pylist() != train[:8]
