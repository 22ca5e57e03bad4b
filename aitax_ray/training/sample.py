"""A sample of the stored photographs, read in one process: to check an exported classifier, and to calibrate it.

Photographs are drawn by a hash of image_id. So the sample is the same in every run, and does not depend on the order of
the rows or on the files that contain them.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import schemas, workspace
from aitax_ray.training.feed import Labels, decode_for_evaluation, stack
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.workspace import Workspace

BATCH = 16  # photographs that are decoded together
READERS = 4  # files that are read at the same time; a file may contain 256 photographs


class Sample:
    """Photographs with their classes. Iterating decodes them, batch by batch, in the order of image_id."""

    def __init__(self, rows: pa.Table, transform: EvalTransform) -> None:
        """Take rows of image_id, class_index, split, jpeg."""
        self._rows, self._transform = rows.sort_by("image_id"), transform

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pixels uint8 (N, H, W, 3) and class_index (N,) of at most BATCH photographs."""
        for start in range(0, len(self), BATCH):
            rows = decode_for_evaluation(self._rows.slice(start, BATCH), self._transform)
            yield stack(rows, self._transform.crop_size), rows["class_index"].to_numpy()


def draw_sample(ws: Workspace, transform: EvalTransform, num: int, *sides: str) -> Sample:
    """Draw at most `num` photographs from these sides of the split: from the next side only if the first has too few.

    The JPEGs are kept in memory, about 0.1 MB each.
    """
    split = ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT)
    drawn: list[str] = []
    for side in sides:
        ids = split.filter(pc.equal(split["split"], side))["image_id"].to_pylist()
        drawn += sorted(ids, key=lambda image_id: hashlib.sha1(image_id.encode()).digest())[: num - len(drawn)]
    labels = Labels(split.filter(pc.is_in(split["image_id"], pa.array(drawn, pa.string()))), sides)

    def read(path: str) -> pa.Table:
        if not len(labels(ws.storage.read_table(path, ["image_id"]))):  # in a large root most files have none of them
            return schemas.IMAGES.empty_table().select(["image_id", "jpeg"])
        return ws.storage.read_table(path, ["image_id", "jpeg"])

    paths = [file.path for file in ws.storage.files(workspace.IMAGES, ".parquet")]
    with ThreadPoolExecutor(READERS) as pool:
        rows = pa.concat_tables(labels(table) for table in pool.map(read, paths))
    return Sample(rows, transform)
