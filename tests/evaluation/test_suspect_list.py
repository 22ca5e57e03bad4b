import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.evaluation import suspect_list as module
from aitax_ray.evaluation.suspect_list import as_csv, list_suspects
from aitax_ray.index.shards import write_shard
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
        }
        for n in range(num)
    ]
    order = np.random.default_rng(1).permutation(num)
    embeddings = [{"image_id": rows[n]["image_id"], "embedding": unit[n].tolist()} for n in order]

    def index() -> Outcome:
        ws.storage.write_table(
            f"{workspace.EMBEDDINGS}/a.parquet", pa.Table.from_pylist(embeddings, schemas.EMBEDDINGS)
        )
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
