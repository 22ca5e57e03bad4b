from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.evaluation import photographs as module
from aitax_ray.evaluation.photographs import HELD_OUT, read_photographs, read_rows
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.index.added import TABLES, read_head
from tests.blank import blank_row
from tests.small import KEYS, PredictedHere, one_thread, write_model, write_root


def test_embeddings_are_taken_from_training_or_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "predictions", PredictedHere)
    ws = write_root(tmp_path, ["train", "val", "test", "test"])
    settings = EvaluateSettings(root=ws.root)
    with one_thread():
        write_model(ws)
        rows = read_rows(ws)
        computed = read_photographs(ws, settings, rows)
    assert computed.image_id.tolist() == rows["image_id"].to_pylist() == sorted(computed.image_id)
    assert set(rows["split"].to_pylist()) == {"val", "test"}
    assert (computed.target == rows["class_index"].to_numpy()).all()
    np.testing.assert_allclose(np.linalg.norm(computed.unit.astype(np.float32), axis=1), 1, atol=2e-3)
    same = computed.occurrence[:, None] == computed.occurrence
    gbif_id = np.array(rows["gbif_id"].to_pylist())
    assert (same == (gbif_id[:, None] == gbif_id)).all()
    pixels = computed.logits(np.arange(len(computed)))
    assert np.allclose(pixels, read_head(ws)(computed.unit.astype(np.float32) * computed.length[:, None]))

    known = {"image_id": computed.image_id[::2].tolist(), "unit": [[0.0] * 511 + [1.0]] * 5, "length": [[3.0]] * 5}
    table = pa.table({name: pa.array(values, schemas.VIEWS.field(name).type) for name, values in known.items()})
    ws.storage.write_table(f"{workspace.VIEWS}/digest/part-1.parquet", table)
    with one_thread():
        both = read_photographs(ws, settings, rows)
    assert both.unit[::2, -1].tolist() == [1.0] * 5
    assert both.length[::2].tolist() == [3.0] * 5
    assert (both.unit[1::2] == computed.unit[1::2]).all()


def test_photographs_of_species_that_were_held_out_have_no_class(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train", "val", "test"])
    held_out = [
        blank_row(schemas.EXCLUDED, image_id=f"{n}" * 40, gbif_id="x", species_key="new", reason="held_out_species")
        for n in (0, 9)
    ]
    others = [blank_row(schemas.EXCLUDED, image_id="8" * 40, gbif_id="y", species_key=KEYS[0], reason="conflict")]
    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(held_out + others, schemas.EXCLUDED))
    rows = read_rows(ws).to_pylist()
    assert len(rows) == 2 * 3 + 2
    unknown = [row for row in rows if row["split"] == HELD_OUT]
    assert [(row["image_id"][0], row["class_index"], row["species_key"]) for row in unknown] == [
        ("0", -1, "new"),
        ("9", -1, "new"),
    ]


def test_one_number_in_the_folders_of_two_species_means_two_occurrences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "predictions", PredictedHere)
    ws = write_root(tmp_path, ["train", "test", "test"])
    write_model(ws)
    split = ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT)
    place = split.schema.get_field_index("gbif_id")
    split = split.set_column(place, "gbif_id", pa.array(["1"] * len(split)))
    ws.storage.write_table(workspace.SPLIT, split)
    rows = read_rows(ws)
    found = read_photographs(ws, EvaluateSettings(root=ws.root), rows)
    assert len(set(found.occurrence.tolist())) == len(KEYS)
    for number in set(found.occurrence.tolist()):
        assert len(set(found.target[found.occurrence == number].tolist())) == 1


def test_a_species_that_was_added_is_not_held_out_any_more(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train", "val", "test"])
    held_out = [
        blank_row(schemas.EXCLUDED, image_id=str(n) * 40, gbif_id="g", species_key=key, reason="held_out_species")
        for n, key in enumerate(("N1", "N2"))
    ]
    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(held_out, schemas.EXCLUDED))
    assert read_rows(ws)["split"].to_pylist().count(HELD_OUT) == 2
    taxon = blank_row(schemas.TAXA, species_key="N1")
    ws.storage.write_table(TABLES[workspace.TAXA], pa.Table.from_pylist([taxon], schemas.TAXA))
    (row,) = (row for row in read_rows(ws).to_pylist() if row["split"] == HELD_OUT)
    assert row["species_key"] == "N2"
