from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aitax_ray import workspace
from aitax_ray.errors import DataError, MissingArtifactError, StaleArtifactError
from aitax_ray.index.other_roots import check_roots
from aitax_ray.workspace import Workspace
from tests.small import KEYS, SIDES, write_root

FIRST, SECOND, NEW = KEYS
MORE = ("train",) * 2


@pytest.fixture
def root(tmp_path: Path) -> Workspace:
    return write_root(tmp_path / "root", dict.fromkeys(KEYS[:2], SIDES))


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    return write_root(tmp_path / "other", {SECOND: MORE, NEW: SIDES}, first=100)


def edit(ws: Workspace, path: str, change: Any) -> None:
    """Change the rows of a table; None deletes a row."""
    table = ws.storage.read_table(path)
    rows = [row for row in map(change, table.to_pylist()) if row]
    ws.storage.write_table(path, pa.Table.from_pylist(rows, table.schema))


def test_a_root_that_is_complete_can_be_added(root: Workspace, other: Workspace) -> None:
    check_roots(root, [other.root])
    check_roots(root, [])


def test_a_root_that_is_not_there_is_refused(root: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match=r"nothing complete from `manifest` under .*nowhere"):
        check_roots(root, [str(tmp_path / "nowhere")])


def test_a_root_is_added_once_and_not_to_itself(root: Workspace, other: Workspace) -> None:
    for roots in ((root,), (other, other)):
        with pytest.raises(DataError, match="a root is added once, and not to itself"):
            check_roots(root, [each.root for each in roots])


def test_a_root_whose_split_is_outdated_is_refused(root: Workspace, other: Workspace) -> None:
    # Nothing says what the split of the tiny root was made from; the real stage writes this.
    report = other.storage.read_json("split/report.json")
    other.storage.write_json("split/report.json", report | {"inputs": {"download": "an earlier one"}})
    with pytest.raises(StaleArtifactError, match=rf"`split` of --add {other.root}.*aitax split --root"):
        check_roots(root, [other.root])


def test_roots_with_other_checklists_are_refused(root: Workspace, other: Workspace) -> None:
    query = other.storage.read_json(workspace.QUERY)
    other.storage.write_json(workspace.QUERY, query | {"checklist_key": "another"})
    with pytest.raises(DataError, match=r"checklist another, this root by .none., .*cannot be compared"):
        check_roots(root, [other.root])


def test_a_known_species_under_another_key_is_refused(root: Workspace, tmp_path: Path) -> None:
    other = write_root(tmp_path / "other", {NEW: MORE}, first=100)
    edit(other, workspace.TAXA, lambda row: row | {"name": "Rana alba"} if row["species_key"] == NEW else row)
    with pytest.raises(DataError, match=f"has Rana alba under the species key {NEW}, this root under {FIRST}"):
        check_roots(root, [other.root])


def test_equal_keys_that_mean_other_species_are_refused(root: Workspace, other: Workspace) -> None:
    edit(other, workspace.TAXA, lambda row: row | {"name": f"Other {row['species_key']}"})
    with pytest.raises(DataError, match=f"other species by the same keys, such as {SECOND}: Other {SECOND} and"):
        check_roots(root, [other.root])


def test_a_few_names_may_differ(root: Workspace, other: Workspace) -> None:
    for ws in (root, other):
        taxa = {row["species_key"] for row in ws.storage.read_table(workspace.TAXA).to_pylist()}
        assert set(KEYS) <= taxa
    both = write_root(Path(root.root).parent / "both", {FIRST: MORE, SECOND: MORE}, first=200)
    edit(both, workspace.TAXA, lambda row: row | {"name": "Rana nova"} if row["species_key"] == FIRST else row)
    check_roots(root, [both.root])
