import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.evaluation import suspect_list as module
from aitax_ray.evaluation.suspect_list import as_csv, list_suspects
from aitax_ray.index.shards import open_index, read_rows, write_shard
from aitax_ray.settings import StageSettings
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row


def make_indexed(root: Path, num: int = 60) -> Workspace:
    """An index of two species whose embeddings are far apart; the label of photograph 7 is wrong."""
    ws = Workspace(str(root))
    chance = np.random.default_rng(0)
    species = np.arange(num) % 2
    unit = 5 * np.eye(8)[species] + chance.normal(0, 0.5, (num, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    species[7] = 1 - species[7]
    rows = [
        {
            "image_id": f"{n:040x}",
            "gbif_id": str(100 + n),
            "is_at_gbif": n != 8,
            "species_key": "ab"[species[n]],
            "class_index": int(species[n]),
            "url": "" if n == 7 else "https://x.org/1.jpg",
            "creator": "=1+1",
            "group": f"g{n}",
            "split": "train",
        }
        for n in range(num)
    ]

    def index() -> Outcome:
        kept = [{name: row[name] for name in schemas.INDEX_ROWS.names if name in row} for row in rows]
        table = pa.Table.from_pylist([blank_row(schemas.INDEX_ROWS, **row) for row in kept], schemas.INDEX_ROWS)
        write_shard(root / "shard", table, unit)
        ws.storage.upload(root / "shard", f"{workspace.SHARDS}/00000")
        return Outcome(counts={"images": num})

    ws.run("index", StageSettings(root=ws.root), (), index)
    split = [{name: row[name] for name in schemas.SPLIT.names if name in row} for row in rows]
    ws.storage.write_table(
        workspace.SPLIT, pa.Table.from_pylist([blank_row(schemas.SPLIT, **row) for row in split], schemas.SPLIT)
    )
    taxa = [blank_row(schemas.TAXA, species_key="a", name="Rana alba"), blank_row(schemas.TAXA, species_key="b")]
    ws.storage.write_table(workspace.TAXA, pa.Table.from_pylist(taxa, schemas.TAXA))
    return ws


def test_the_wrong_label_is_listed_with_what_a_curator_needs(tmp_path: Path) -> None:
    (row,) = list_suspects(make_indexed(tmp_path), 2).to_dicts()
    assert row["image_id"] == f"{7:040x}"
    assert (row["labelled"], row["looks_like"]) == ("Rana alba", "")
    assert row["occurrence"] == "https://www.gbif.org/occurrence/107"
    assert row["url"] == ""  # only this machine can open it
    assert row["confidence"] > 0.9 > 0.05 > row["label_score"]


def test_the_list_is_a_table_without_formulas(tmp_path: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(as_csv(list_suspects(make_indexed(tmp_path), 2)).decode()))
    assert row["creator"] == "'=1+1"
    assert tuple(row) == module.COLUMNS


def test_of_very_many_photographs_only_some_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_JUDGED", 5)
    assert len(list_suspects(make_indexed(tmp_path), 2)) == 0
    assert "the labels of 5 training photographs are judged" in caplog.text


def test_photographs_of_several_shards_get_their_own_embeddings(tmp_path: Path) -> None:
    ws = make_indexed(tmp_path)
    rows = read_rows(ws.storage)
    (before,) = list_suspects(ws, 2).to_dicts()
    with open_index(ws.storage) as index:
        vectors = np.array(index.shards[0].vectors)
    ws.storage.delete(workspace.SHARDS)
    for number, part in enumerate((slice(20, 60), slice(0, 20))):
        folder = tmp_path / f"shard{number}"
        write_shard(folder, rows.take(list(range(60))[part]), vectors[part])
        ws.storage.upload(folder, f"{workspace.SHARDS}/0000{number}")
    assert list_suspects(ws, 2).to_dicts() == [before]


def test_only_training_photographs_are_judged(tmp_path: Path) -> None:
    ws = make_indexed(tmp_path)
    rows = read_rows(ws.storage)
    split = pa.array(["test" if n == 7 else "train" for n in range(60)])
    rows = rows.set_column(rows.schema.get_field_index("split"), "split", split)
    with open_index(ws.storage) as index:
        vectors = np.array(index.shards[0].vectors)
    ws.storage.delete(workspace.SHARDS)
    write_shard(tmp_path / "again", rows, vectors)
    ws.storage.upload(tmp_path / "again", f"{workspace.SHARDS}/00000")
    assert len(list_suspects(ws, 2)) == 0
