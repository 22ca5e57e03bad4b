import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import workspace
from aitax_ray.errors import DataError
from aitax_ray.schemas import SPLIT
from aitax_ray.training import feed
from aitax_ray.training.augment import Augmentation
from aitax_ray.training.feed import (
    Labels,
    collate_evaluation,
    collate_training,
    decode_for_evaluation,
    decode_for_training,
    photographs,
    read_classes,
    read_labels,
    stack,
)
from aitax_ray.training.transforms import EvalTransform
from tests.small import KEYS, SIDES, jpeg, photo, write_root

TRANSFORM = EvalTransform(crop_size=16, resize_size=18)


class Unread:
    """Stands for a Dataset."""

    def map_batches(self, *_: object, **options: object) -> None: ...


def key(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def split(**sides: str) -> pa.Table:
    """A split of photographs by name; the class_index is the place of the name in the alphabet."""
    rows = [
        {"image_id": key(n), "gbif_id": "", "species_key": n, "class_index": ord(n) - ord("a"), "split": side}
        | {"weight": 0.5 if n == "c" else 1.0}
        for n, side in sides.items()
    ]
    return pa.Table.from_pylist(rows, SPLIT)


def batch_of(*names: str) -> pa.Table:
    return pa.table({"image_id": pa.array([key(n) for n in names], pa.string()), "name": pa.array(names, pa.string())})


def test_labels_are_found_by_key_in_any_order() -> None:
    labels = Labels(split(d="train", b="val", a="train", c="test", e="train"), ["train", "val"])
    assert len(labels) == 4
    rows = labels(batch_of("e", "x", "a", "c", "b", "zz", "d", "a")).to_pylist()
    assert [(r["name"], r["class_index"], r["split"]) for r in rows] == [
        ("e", 4, "train"),
        ("a", 0, "train"),
        ("b", 1, "val"),
        ("d", 3, "train"),
        ("a", 0, "train"),
    ]


def test_a_photograph_with_two_labels_is_an_error() -> None:
    with pytest.raises(DataError, match=rf"split\.parquet has 2 rows with the image_id '{key('a')}'"):
        Labels(pa.concat_tables([split(a="train", b="val"), split(a="val")]), ["train"])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            "aabc",
            f"1 photographs of the split are not stored exactly once, such as {key('a')}, which is stored 2 times",
        ),
        ("ac", f"{key('b')}, which is stored 0 times: run `aitax download`"),
        ("", "2 photographs"),
    ],
)
def test_a_photograph_that_is_stored_twice_or_not_at_all_is_an_error(stored: str, message: str) -> None:
    labels = Labels(split(a="train", b="train", c="val"), ["train"])
    assert labels.check_stored([batch_of("a"), batch_of("x"), batch_of("x", "b", "c")]) == [1, 0, 1]
    with pytest.raises(DataError, match=message):
        labels.check_stored(map(batch_of, stored))


def test_labels_can_be_chosen() -> None:
    labels = Labels(split(a="train", b="val", c="test", d="train"), ["train", "val"])
    chosen = labels.where(labels.class_index == 1)
    assert [row["name"] for row in chosen(batch_of("a", "b", "c", "d")).to_pylist()] == ["b"]
    others = labels.without([key("b"), key("x")])
    assert [row["name"] for row in others(batch_of("a", "b", "c", "d")).to_pylist()] == ["a", "d"]
    assert len(labels.without([])) == 3


@pytest.mark.parametrize(("chosen", "files"), [("a", ["images/a.parquet"]), ("", ["images/a.parquet"])])
def test_files_without_a_labelled_photograph_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, files: list[str]
) -> None:
    ws = write_root(tmp_path, ["train"])
    in_a = ws.storage.read_table("images/a.parquet", ["image_id"])["image_id"].to_pylist()
    labels = read_labels(ws, "train")
    labels = labels.where(np.isin(labels.image_ids.astype(str), in_a if chosen else []))
    read: list[str] = []
    monkeypatch.setattr(feed, "read_tables", lambda _, paths, *rest, **options: read.extend(paths) or Unread())
    photographs(ws, labels)
    assert read == files


def test_the_feed_refuses_a_photograph_that_two_files_hold(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    ws.storage.copy("images/a.parquet", "images/c.parquet")
    with pytest.raises(DataError, match="2 photographs of the split are not stored exactly once"):
        photographs(ws, read_labels(ws, "train"))


def test_classes_come_in_their_order_with_their_numbers_of_training_photographs(tmp_path: Path) -> None:
    sides = {KEYS[0]: ["train", "val"], KEYS[1]: ["test"], KEYS[2]: ["train"] * 3}
    assert read_classes(write_root(tmp_path, sides)) == (KEYS, [1, 0, 3])


@pytest.mark.parametrize("wrong", [[0, 1, 1], [0, 1, 3], [1, 2, 3]])
def test_classes_that_are_not_one_to_one_with_species_are_an_error(tmp_path: Path, wrong: list[int]) -> None:
    ws = write_root(tmp_path, ["train"])
    table = split(a="train", b="train", c="train").set_column(3, "class_index", pa.array(wrong, pa.int32()))
    ws.storage.write_table(workspace.SPLIT, table)
    with pytest.raises(DataError, match="not give each species one class, numbered from 0: run `aitax split --force`"):
        read_classes(ws)


@pytest.mark.parametrize("names", [(), ("x",), ("x", "y", "zz")])
def test_a_batch_of_unknown_photographs_keeps_its_columns_and_no_row(names: tuple[str, ...]) -> None:
    kept = Labels(split(a="train"), ["train"])(batch_of(*names))
    assert kept.num_rows == 0
    assert kept.schema.names == ["image_id", "name", "class_index", "split", "weight"]
    assert kept.schema.field("class_index").type == pa.int32()
    assert kept.schema.field("split").type == pa.string()


def test_labels_of_an_empty_side_know_nothing() -> None:
    labels = Labels(split(a="train"), ["val"])
    assert len(labels) == 0
    assert labels(batch_of("a")).num_rows == 0


@pytest.mark.usefixtures("ray_session")
def test_the_feed_has_each_labelled_photograph_once_with_its_class(tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    labels = read_labels(ws, "val", "test")
    rows = photographs(ws, labels).take_all()
    expected = [r for r in ws.storage.read_table("split/split.parquet").to_pylist() if r["split"] != "train"]
    assert len(labels) == len(expected) == 3 * sum(side != "train" for side in SIDES)
    given = sorted((r["image_id"], r["class_index"], r["split"]) for r in rows)
    assert given == sorted((r["image_id"], r["class_index"], r["split"]) for r in expected)
    stored = {r["image_id"]: r["jpeg"] for r in ws.storage.read_table("images").to_pylist()}
    assert all(r["jpeg"] == stored[r["image_id"]] for r in rows)


def decoded(row: dict[str, object]) -> np.ndarray:
    flat = np.frombuffer(row["pixels"], np.uint8)  # type: ignore[call-overload]
    return flat.reshape(row["height"], row["width"], 3)


@pytest.mark.parametrize(
    ("size", "expected"), [((80, 60), (40, 30)), ((60, 80), (30, 40)), ((20, 15), (40, 30)), ((300, 60), (60, 30))]
)
def test_decoding_keeps_the_aspect_and_crops_only_panoramas(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = photo("7K3", 2, size)
    (row,) = decode_for_training(pa.table({"image_id": ["a"], "jpeg": [jpeg(image)]}), 30).to_pylist()
    assert (row["width"], row["height"]) == expected
    assert set(row) == {"image_id", "width", "height", "pixels"}
    assert np.abs(decoded(row).mean(axis=(0, 1)) - np.asarray(image).mean(axis=(0, 1))).max() < 6


def test_large_photographs_keep_their_content_when_decoded_smaller() -> None:
    image = Image.new("RGB", (800, 600), (20, 160, 60))
    image.paste((220, 40, 40), (0, 0, 400, 600))
    (row,) = decode_for_training(pa.table({"jpeg": [jpeg(image)]}), 60).to_pylist()
    pixels = decoded(row).astype(int)
    assert pixels.shape == (60, 80, 3)
    assert np.abs(pixels[:, :38] - (220, 40, 40)).max() < 12
    assert np.abs(pixels[:, 42:] - (20, 160, 60)).max() < 12


def test_pixels_may_come_to_more_than_2_gib_in_one_column() -> None:
    batch = pa.table({"jpeg": [jpeg(photo("Z9", 0))]})
    for prepared in (decode_for_training(batch, 30), decode_for_evaluation(batch, TRANSFORM)):
        assert prepared["pixels"].type == pa.large_binary()


def test_a_gray_photograph_has_three_channels() -> None:
    batch = pa.table({"jpeg": [jpeg(Image.new("L", (40, 30), 77))]})
    (row,) = decode_for_training(batch, 30).to_pylist()
    assert np.abs(decoded(row).astype(int) - 77).max() <= 1


def test_photographs_are_evaluated_as_the_transform_prepares_them() -> None:
    images = [photo("Z9", n, (40 + n, 30)) for n in range(3)]
    table = decode_for_evaluation(pa.table({"jpeg": [jpeg(image) for image in images]}), TRANSFORM)
    pixels = stack(table, TRANSFORM.crop_size)
    assert pixels.shape == (3, 16, 16, 3)
    for image, given in zip(images, pixels, strict=True):
        difference = np.abs(TRANSFORM.pixels(image).astype(int) - given)
        assert difference.mean() < 6  # JPEG
    assert stack(table.slice(0, 0), 16).shape == (0, 16, 16, 3)


def evaluation_batch(num: int) -> dict[str, np.ndarray]:
    table = decode_for_evaluation(pa.table({"jpeg": [jpeg(photo("A12", n)) for n in range(num)]}), TRANSFORM)
    return {
        "image_id": np.array([key(str(n)) for n in range(num)], object),
        "class_index": np.arange(num, dtype=np.int32),
        "weight": np.full(num, 0.5, np.float32),
        "pixels": np.array(table["pixels"].to_pylist(), object),
    }


def test_prepared_photographs_are_joined_in_their_order() -> None:
    batch = evaluation_batch(3)
    tensors = collate_evaluation(batch, 16)
    assert tensors["class_index"].tolist() == [0, 1, 2]
    assert tensors["weight"].tolist() == [0.5, 0.5, 0.5]
    assert tensors["pixels"].shape == (3, 16, 16, 3)
    assert [pixels.numpy().tobytes() for pixels in tensors["pixels"]] == list(batch["pixels"])


def test_photographs_of_different_sizes_are_augmented_into_one_batch() -> None:
    table = decode_for_training(pa.table({"jpeg": [jpeg(photo("A12", n, (40 + 9 * n, 40))) for n in range(3)]}), 20)
    batch = {name: np.array(table[name].to_pylist(), object) for name in ("pixels", "height", "width")}
    batch |= {"image_id": np.array(["x", "y", "z"], object), "class_index": np.array([2, 0, 1], np.int32)}
    batch |= {"weight": np.array([1, 0.5, 1], np.float32)}
    augmentation = Augmentation(16, seed=1)
    tensors = collate_training(batch, augmentation, epoch=4)
    assert tensors["pixels"].shape == (3, 16, 16, 3)
    assert tensors["class_index"].tolist() == [2, 0, 1]
    own = augmentation(decoded(table.to_pylist()[1]), "y", 4)
    np.testing.assert_array_equal(tensors["pixels"][1].numpy(), own)
