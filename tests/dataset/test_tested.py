from pathlib import Path

import polars as pl

from aitax_ray import schemas, workspace
from aitax_ray.dataset import tested
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.workspace import Workspace


def test_what_was_in_test_is_remembered_by_how_it_was_drawn(tmp_path: Path) -> None:
    ws, root = Workspace(str(tmp_path)), str(tmp_path)
    mine, other = SplitSettings(root=root), SplitSettings(root=root, seed=1)
    assert tested.read(ws, mine).to_list() == []
    tested.add(ws, mine, pl.Series("image_id", ["b", "a"]))
    tested.add(ws, other, pl.Series("image_id", ["c"]))
    tested.add(ws, SplitSettings(root=root, license="open"), pl.Series("image_id", ["a"]))
    assert tested.read(ws, mine).to_list() == ["a", "b"]
    assert tested.read(ws, other).to_list() == ["c"]
    assert tested.read(ws, SplitSettings(root=root, test=0.2)).to_list() == []
    assert tested.read(ws, SplitSettings(root=root, group_by=("place",))).to_list() == []
    assert ws.storage.read_table(workspace.TESTED).schema.equals(schemas.TESTED)
