from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.evaluation.changes import compare_answers, describe_changes, read_answers
from aitax_ray.evaluation.summary import summarize
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace
from tests.evaluation.rows import make_taxonomy


def answers(right: str, first: int = 0) -> pa.Table:
    """A row per letter: y for a right answer, n for a wrong one, - for an answer that is no species."""
    given = {"y": "k0", "n": "k1", "-": ""}
    rows = [
        {"image_id": f"i{n}", "gbif_id": f"g{n}", "species_key": "k0", "answer": given[letter], "score": 0.5}
        for n, letter in enumerate(right, first)
    ]
    return pa.Table.from_pylist(rows, schemas.ANSWERS)


def test_only_photographs_of_both_tests_with_one_label_are_compared() -> None:
    found = compare_answers(answers("yyyyyn"), answers("nny-", first=2))
    assert (found.num_photographs, found.num_occurrences) == (4, 4)
    assert (found.top1.before, found.top1.after) == (0.75, 0.25)
    other = answers("y").set_column(2, "species_key", pa.array(["k9"]))
    assert compare_answers(other, answers("y")).num_photographs == 0


def test_one_number_in_the_folders_of_two_species_means_two_occurrences() -> None:
    rows = answers("yyyy").set_column(1, "gbif_id", pa.array(["1", "1", "2", "2"]))
    rows = rows.set_column(2, "species_key", pa.array(["k0", "k1", "k0", "k0"]))
    assert compare_answers(rows, rows).num_occurrences == 3


def test_what_changed_is_described_with_names(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))
    assert read_answers(ws, None) is None
    assert describe_changes(None, answers("y"), make_taxonomy([0, 0])) is None
    ws.storage.write_table("engines/20260101-000000-abcdef01/answers.parquet", answers("y" * 40))
    ws.storage.write_bytes(workspace.CURRENT, b"20260101-000000-abcdef01\n")
    found = describe_changes(read_answers(ws, None), answers("n" * 30 + "y" * 10), make_taxonomy([0, 0]))
    assert found is not None
    assert (found["against"], found["num_photographs"]) == ("20260101-000000-abcdef01", 40)
    assert found["is_significantly_worse"]
    assert found["top1"]["value"] == -0.75
    assert found["species"] == [{"species_key": "k0", "before": 1.0, "after": 0.25, "num": 40, "name": "s0"}]


def test_species_that_the_other_engine_knew_without_training_are_compared_apart(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))
    before = answers("y" * 10 + "n" * 10)
    is_added = pa.array([n >= 8 for n in range(20)])
    place = before.schema.get_field_index("is_added")
    ws.storage.write_table("engines/v1/answers.parquet", before.set_column(place, "is_added", is_added))
    ws.storage.write_bytes(workspace.CURRENT, b"v1")
    found = describe_changes(read_answers(ws, None), answers("y" * 17 + "n" * 3), make_taxonomy([0, 0]))
    assert found is not None
    added = found["added"]
    assert (added["before"], added["after"], added["num_photographs"]) == (2 / 12, 9 / 12, 12)
    said = " ".join(sentence for _, sentences in summarize({"changes": found}) for sentence in sentences)
    assert (
        "knew without training, the first name was right for 16.7 % and is right for 75.0 %, of 12 photographs" in said
    )
    ws.storage.write_table("engines/v1/answers.parquet", before.drop_columns(["is_added"]))  # of an earlier version
    unmarked = describe_changes(read_answers(ws, None), answers("y" * 20), make_taxonomy([0, 0]))
    assert unmarked is not None
    assert unmarked["added"] is None


def test_the_other_engine_is_found_by_any_of_its_addresses(tmp_path: Path) -> None:
    ws, root = Workspace(str(tmp_path / "mine")), tmp_path / "other"
    storage = Storage(str(root))
    storage.write_table("engines/v1/answers.parquet", answers("y"))
    storage.write_bytes("engines/current", b"v1")
    for address in (root, root / "engines", root / "engines" / "current", root / "engines" / "v1"):
        other = read_answers(ws, str(address))
        assert other is not None, address
        assert other.rows.num_rows == 1
    storage.delete("engines")
    storage.write_table(workspace.ANSWERS, answers("yy"))
    other = read_answers(ws, str(root))
    assert other is not None
    assert other.rows.num_rows == 2
    with pytest.raises(DataError, match=r"--compare: .*nowhere holds no answers .*aitax evaluate"):
        read_answers(ws, str(tmp_path / "nowhere"))
