"""engine.diff: what differs between two engines."""

from pathlib import Path
from typing import Any

import pytest

from aitax_ray.engine.bundle import Engine, open_engine
from aitax_ray.engine.diff import find_difference
from tests.engines import describe_again, rewrite_rows, write_small_engine


def engine(folder: Path, **changes: Any) -> Engine:
    return open_engine(str(write_small_engine(folder, version=folder.name, **changes)))


def test_equal_engines_differ_in_nothing(tmp_path: Path) -> None:
    found = find_difference(engine(tmp_path / "a"), engine(tmp_path / "b"))
    assert (found.before, found.after) == ("a", "b")
    assert found.species_added == found.species_removed == found.metrics == found.settings == found.sizes == {}
    assert (found.num_photographs, found.num_photographs_added, found.num_photographs_removed) == ((12, 12), 0, 0)
    assert found.num_bytes[0] == found.num_bytes[1] > 0
    assert found.versions == {}


def test_each_kind_of_difference_is_found(tmp_path: Path) -> None:
    before = engine(tmp_path / "a", metrics={"top1": 0.5, "ece": 0.1}, versions={"scann": "1", "ray": "2"})
    folder = tmp_path / "b"
    after = engine(
        folder,
        metrics={"top1": 0.75, "ece": 0.1},
        export={"parity_images": 3.0},
        versions={"scann": "2", "torch": "2"},
        thresholds={"min_score": 0.01, "max_total_score": 0.99},
        settings={"train": {"arch": "new"}},
    )
    ids = after.image_ids().to_pylist()
    rewrite_rows(folder, image_id=["new-1", "new-2", *ids[2:-1], ids[0]])
    describe_again(folder, classes=["11", "22", "44"], names=["Ruber primus", "Viridis secundus", "Niger quartus"])
    found = find_difference(before, open_engine(str(folder)))
    assert found.species_added == {"44": "Niger quartus"}
    assert found.species_removed == {"33": "Caeruleus tertius"}
    assert (found.num_photographs_added, found.num_photographs_removed) == (2, 2)
    assert found.metrics == {"top1": (0.5, 0.75), "parity_images": (None, 3.0)}
    assert found.versions == {"scann": ("1", "2"), "ray": ("2", None), "torch": (None, "2")}
    assert found.settings == {"thresholds.min_score": (0.005, 0.01), "settings.train.arch": (None, "new")}
    assert found.sizes.keys() == {"shards/00000/rows.arrow"}
    assert (
        found.num_bytes[1] - found.num_bytes[0]
        == found.sizes["shards/00000/rows.arrow"][1] - (found.sizes["shards/00000/rows.arrow"][0])
    )


@pytest.mark.parametrize("is_added", [True, False])
def test_a_file_that_only_one_engine_has_is_found(tmp_path: Path, is_added: bool) -> None:
    one, two = engine(tmp_path / "a"), engine(tmp_path / "b")
    path = tmp_path / "b" / "more.bin"
    path.write_bytes(b"more")
    describe_again(tmp_path / "b", files={**two.info.model_dump()["files"], "more.bin": {}})
    two = open_engine(str(tmp_path / "b"))
    pair = (one, two) if is_added else (two, one)
    assert find_difference(*pair).sizes == {"more.bin": (None, 4) if is_added else (4, None)}
