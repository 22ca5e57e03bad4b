from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import SettingsError
from aitax_ray.index.assemble import divide
from aitax_ray.index.distributed import write_shares
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import open_index
from aitax_ray.training.feed import read_labels
from tests.small import write_root


def test_shards_that_ray_writes_are_those_of_one_process(ray_session: None, tmp_path: Path) -> None:
    ws = write_root(tmp_path)
    labels = read_labels(ws, "train")
    drawn = np.random.default_rng(0).normal(size=(len(labels), 8))
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    columns = {"image_id": [key.decode() for key in labels.image_ids], "embedding": list(unit.astype(np.float16))}
    columns["jpeg_sha256"] = [""] * len(labels)
    table = pa.table(columns, schemas.EMBEDDINGS)
    found = []
    for size in (10, 100):
        ws.storage.delete(workspace.SHARDS)
        shares = divide(labels, size)
        write_shares(ws, IndexSettings(root=ws.root, photographs_per_shard=size), lambda: [table], shares)
        with open_index(ws.storage) as index:
            assert len(index.shards) == len(shares) == (3 if size == 10 else 1)
            rows, _ = index.search(unit.astype(np.float32), 3)
            keys = np.concatenate([share.image_ids for share in shares])
            found.append(keys[rows].tolist())
    assert found[0] == found[1]


def test_what_a_task_refuses_is_said_in_one_line(ray_session: None, tmp_path: Path) -> None:
    def refuse() -> list[pa.Table]:
        raise SettingsError("set --recall 0.90")

    ws = write_root(tmp_path)
    shares = divide(read_labels(ws, "train"), 10)
    with pytest.raises(SettingsError) as caught:
        write_shares(ws, IndexSettings(root=ws.root, thumbnails=False), refuse, shares)
    assert str(caught.value) == "set --recall 0.90"
