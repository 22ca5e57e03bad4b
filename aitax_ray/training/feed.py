"""The feed: reads stored photographs with their classes and decodes them. Train, evaluate and index use it.

images/*.parquet    INPUT row:  image_id, jpeg, ...
photographs()       OUTPUT row: image_id, jpeg, class_index, split, weight       of the chosen sides of the split
decode_*            OUTPUT row: image_id, class_index, split, weight, height, width, pixels: uint8 RGB
"""

import io
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import schemas, workspace
from aitax_ray.cluster import read_tables
from aitax_ray.errors import DataError
from aitax_ray.joins import check_unique
from aitax_ray.training.transforms import EvalTransform, resize_shorter_side
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image
    from ray.data import Dataset

    from aitax_ray.training.augment import Augmentation

ROWS_PER_BLOCK = 128  # about 20 MB of decoded photographs; small blocks use all CPUs and little memory
LABEL_COLUMNS = ["image_id", "class_index", "split", "weight"]
READERS = 16  # files whose keys are read at the same time


class Labels:
    """The photographs of some sides of the split, and their classes. Lookup is by key, in a sorted array."""

    def __init__(self, split: pa.Table, sides: Collection[str]) -> None:
        """Take the rows of `split` on these sides. Raises DataError when a photograph has several rows."""
        check_unique(split, "image_id", workspace.SPLIT)
        is_chosen = pc.is_in(split["split"], pa.array(list(sides), pa.string()))
        self._rows = rows = split.select(LABEL_COLUMNS).filter(is_chosen).sort_by("image_id")
        self.image_ids = np.array(rows["image_id"].to_pylist(), dtype="S40")
        self.class_index = rows["class_index"].to_numpy()
        self.weight = pc.fill_null(rows["weight"], 1.0).to_numpy()  # an earlier version of `split` wrote none
        self.sides = rows["split"]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Keep the rows of labelled photographs, and add class_index, split and weight."""
        place, found = self.find(batch["image_id"])
        kept = batch.filter(pa.array(found))
        added = {
            "class_index": pa.array(self.class_index[place], pa.int32()),
            "split": self.sides.take(pa.array(place)).combine_chunks(),
            "weight": pa.array(self.weight[place], pa.float32()),
        }
        return pa.table({**{name: kept[name] for name in kept.column_names}, **added})

    def check_stored(self, batches: Iterable[pa.Table]) -> list[int]:
        """Count the labelled photographs in each of these tables with image_id.

        Raises DataError unless each labelled photograph is in exactly one row.
        """
        counts, found = np.zeros(len(self), np.int64), []
        for batch in batches:
            places = self.find(batch["image_id"])[0]
            np.add.at(counts, places, 1)
            found.append(len(places))
        wrong = np.flatnonzero(counts != 1)
        if len(wrong):
            example, num = self.image_ids[wrong[0]].decode(), counts[wrong[0]]
            raise DataError(
                f"{len(wrong):,} photographs of the split are not stored exactly once, such as {example}, which is "
                f"stored {num} times: run `aitax download` and `aitax split` again"
            )
        return found

    def without(self, image_ids: Collection[str]) -> "Labels":
        """Leave out some photographs."""
        return self.where(~np.isin(self.image_ids, np.array(list(image_ids), dtype="S40")))

    def where(self, chosen: np.ndarray) -> "Labels":
        """Keep the photographs where `chosen`, bool (N,) in the order of `image_ids`, is true."""
        return Labels(self._rows.filter(pa.array(chosen)), self._rows["split"].unique().to_pylist())

    def find(self, image_ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Look up keys. Returns the positions of the keys that have a label, and for each key whether it has one."""
        keys = np.array(image_ids.to_pylist(), dtype="S40")
        place = np.searchsorted(self.image_ids, keys)
        found = place < len(self.image_ids)
        found[found] = self.image_ids[place[found]] == keys[found]
        return place[found], found


def read_labels(ws: Workspace, *sides: str) -> Labels:
    """Read which photographs are on the given sides of the split."""
    return Labels(ws.storage.read_table(workspace.SPLIT, LABEL_COLUMNS, schemas.SPLIT), sides)


def read_classes(ws: Workspace) -> tuple[list[str], list[int]]:
    """Read the species key of each class, in the order of class_index, and its number of training photographs.

    Raises DataError unless classes and species are one to one and the classes are numbered from 0 without a gap.
    """
    split = ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT)
    pairs = split.group_by(["class_index", "species_key"]).aggregate([]).sort_by("class_index")
    keys, indices = pairs["species_key"].to_pylist(), pairs["class_index"].to_pylist()
    if indices != list(range(len(keys))) or len(set(keys)) < len(keys):
        raise DataError(
            f"{workspace.SPLIT} does not give each species one class, numbered from 0: run `aitax split --force`"
        )
    trained = split.filter(pc.equal(split["split"], "train"))["class_index"].to_numpy()
    return keys, np.bincount(trained, minlength=len(keys)).tolist()


def photographs(ws: Workspace, labels: Labels, *, shuffle_files: bool = False) -> "Dataset":
    """Read the labelled photographs, as a streaming Ray Dataset of image_id, jpeg, class_index, split, weight.

    With `shuffle_files` each pass reads the files in another order. Files without a labelled photograph are not read.
    Raises DataError unless each photograph is stored exactly once.
    """
    paths = [file.path for file in ws.storage.files(workspace.IMAGES, ".parquet")]
    with ThreadPoolExecutor(READERS) as pool:
        found = labels.check_stored(pool.map(lambda path: ws.storage.read_table(path, ["image_id"]), paths))
    # A Dataset without files would have no columns.
    paths = [path for path, num in zip(paths, found, strict=True) if num] or paths[:1]
    dataset = read_tables(ws.storage, paths, ["image_id", "jpeg"], ROWS_PER_BLOCK, shuffle_files=shuffle_files)
    return dataset.map_batches(labels, batch_format="pyarrow", batch_size=None)


def decode_for_training(batch: pa.Table, shorter_side: int) -> pa.Table:
    """Decode, and resize the shorter side to `shorter_side` px. The longer side is cropped to at most twice that."""

    def prepare(image: "Image.Image") -> np.ndarray:
        scaled = resize_shorter_side(image, shorter_side)
        left, top = max(0, scaled.width - 2 * shorter_side) // 2, max(0, scaled.height - 2 * shorter_side) // 2
        return np.asarray(scaled.crop((left, top, scaled.width - left, scaled.height - top)))

    return _decode(batch, prepare, shorter_side)


def decode_for_evaluation(batch: pa.Table, transform: EvalTransform) -> pa.Table:
    """Decode, resize and crop in the same way as the service."""
    return _decode(batch, transform.pixels, None)


def stack(batch: pa.Table, crop_size: int) -> np.ndarray:
    """Join the pixels of a batch, all of one size: uint8 (N, crop_size, crop_size, 3)."""
    flat = b"".join(batch["pixels"].to_pylist())
    return np.frombuffer(flat, np.uint8).reshape(batch.num_rows, crop_size, crop_size, 3)


def _decode(batch: pa.Table, prepare: Callable[["Image.Image"], np.ndarray], draft: int | None) -> pa.Table:
    from PIL import Image

    decoded = []
    for jpeg in batch["jpeg"].to_pylist():
        with Image.open(io.BytesIO(jpeg)) as image:
            if draft is not None:  # JPEG can be decoded at half or a quarter of its size, which is much faster
                image.draft("RGB", (draft, draft))
            decoded.append(np.ascontiguousarray(prepare(image.convert("RGB"))))
    columns = {
        "height": pa.array([pixels.shape[0] for pixels in decoded], pa.int32()),
        "width": pa.array([pixels.shape[1] for pixels in decoded], pa.int32()),
        # Training has all photographs in one column, and pa.binary() can hold only 2 GiB.
        "pixels": pa.array([pixels.tobytes() for pixels in decoded], pa.large_binary()),
    }
    kept = batch.drop_columns(["jpeg"])
    return pa.table({**{name: kept[name] for name in kept.column_names}, **columns})


def collate_training(batch: dict[str, Any], augmentation: "Augmentation", epoch: int) -> dict[str, Any]:
    """Augment a batch of decoded photographs: tensors of pixels, uint8 (N, H, W, 3), class_index and weight."""
    pixels = np.stack(
        [
            augmentation(np.frombuffer(flat, np.uint8).reshape(height, width, 3), image_id, epoch)
            for flat, height, width, image_id in zip(
                *(batch[c] for c in ("pixels", "height", "width", "image_id")), strict=True
            )
        ]
    )
    return _tensors(pixels, batch)


def collate_evaluation(batch: dict[str, Any], crop_size: int) -> dict[str, Any]:
    """Join a batch of cropped photographs: tensors as for training."""
    flat = bytearray(b"".join(batch["pixels"]))  # torch needs memory that is writable
    pixels = np.frombuffer(flat, np.uint8).reshape(-1, crop_size, crop_size, 3)
    return _tensors(pixels, batch)


def _tensors(pixels: np.ndarray, batch: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        "pixels": torch.from_numpy(pixels),
        "class_index": torch.from_numpy(batch["class_index"].astype(np.int64)),
        "weight": torch.from_numpy(batch["weight"].astype(np.float32)),
    }
