"""Galleries of invented photographs, which are given by their cosines with the colour red."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aitax_ray import schemas
from aitax_ray.index.shards import Index, write_shard
from aitax_ray.serving.gallery import Gallery
from tests.blank import blank_row


def key(number: int) -> str:
    return f"{number:040x}"


def make_gallery(folder: Path, cosines: list[list[float]], ends: tuple[int, ...] = (), **columns: Any) -> Gallery:
    """Make a gallery of photographs with these cosines with red, per class. Columns have a value per photograph.

    With `ends` the shards end before these rows.
    """
    return Gallery(Index(write_shards(folder, cosines, ends, **columns)), len(cosines))


def write_shards(folder: Path, cosines: list[list[float]], ends: tuple[int, ...] = (), **columns: Any) -> list[Path]:
    """Write the shards of such a gallery, and return their folders."""
    flat = np.array([cosine for of_class in cosines for cosine in of_class])
    vectors = np.stack([flat, np.sqrt(1 - flat**2), np.zeros(len(flat))], axis=1)
    classes = [number for number, of_class in enumerate(cosines) for _ in of_class]
    rows = []
    for number, class_index in enumerate(classes):
        known = {"image_id": key(number), "class_index": class_index, "is_shown": True, "gbif_id": str(number)}
        known |= {name: values[number] for name, values in columns.items()}
        rows.append(blank_row(schemas.INDEX_ROWS, **known))
    starts, folders = [0, *ends], list[Path]()
    for start, end in zip(starts, [*ends, len(rows)], strict=True):
        folders.append(folder / f"{len(folders):05}")
        write_shard(folders[-1], pa.Table.from_pylist(rows[start:end], schemas.INDEX_ROWS), vectors[start:end])
    return folders
