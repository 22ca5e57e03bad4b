"""The same on Ray, with thumbnails."""

import shutil
from pathlib import Path

import pytest

from aitax_ray import workspace
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import read_rows
from aitax_ray.workspace import Workspace
from tests.small import KEYS, trained_on_two, write_root


@pytest.mark.usefixtures("ray_session")
def test_added_photographs_have_embeddings_and_thumbnails_of_their_own_root(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    ws = Workspace(str(shutil.copytree(trained_on_two(tmp_path_factory), tmp_path / "root")))
    other = write_root(tmp_path / "other", {KEYS[2]: ("train",) * 4 + ("test",) * 2}, first=100)
    report = index(IndexSettings(root=ws.root, add=(other.root,)))
    assert (report.counts["images"], report.counts["added_train"], report.counts["added_species"]) == (20, 4, 1)
    rows = read_rows(ws.storage).to_pylist()
    assert all(row["thumbnail_length"] > 0 for row in rows)
    assert len({(row["thumbnail_offset"]) for row in rows}) == len(rows)
    assert len(ws.storage.entries(workspace.THUMBNAILS)) == 2
    index(IndexSettings(root=ws.root))
    assert len(ws.storage.entries(workspace.THUMBNAILS)) == 1
