from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.evaluation import photographs
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.evaluation.sides import COLUMNS, name_classes, read_sides, read_taxonomy
from aitax_ray.index.shards import read_rows
from tests.blank import blank_row
from tests.small import KEYS, SPECIES, PredictedHere, write_index, write_model, write_root


def test_the_taxonomy_says_what_the_manifest_knows() -> None:
    rows = [("c", "", "Apidae"), ("a", "Rana", "Ranidae"), ("b", "Rana", "")]
    taxa = [blank_row(schemas.TAXA, species_key=key, genus=genus, family=family) for key, genus, family in rows]
    taxonomy = read_taxonomy(["a", "b", "c"], pa.Table.from_pylist(taxa, schemas.TAXA))
    assert (taxonomy.genus.tolist(), taxonomy.genera) == ([0, 0, -1], ["Rana"])
    assert (taxonomy.family.tolist(), taxonomy.families) == ([1, -1, 0], ["Apidae", "Ranidae"])
    assert taxonomy.names == ["a", "b", "c"]  # a species without a name has its key


def test_sides_come_with_neighbours_and_with_what_they_are_broken_down_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "predictions", PredictedHere)
    ws = write_root(tmp_path, ["train", "train", "val", "val", "test", "test", "test"])
    occurrences = ws.storage.read_table(workspace.OCCURRENCES).to_pylist()
    for row in occurrences:
        row |= {"country_code": "FR", "event_date": "2021-05-06T10:00", "basis_of_record": "HUMAN_OBSERVATION"}
    ws.storage.write_table(workspace.OCCURRENCES, pa.Table.from_pylist(occurrences, schemas.OCCURRENCES))
    write_model(ws)
    write_index(ws, monkeypatch)
    sides = read_sides(ws, EvaluateSettings(root=ws.root))
    assert (len(sides.val.photographs), len(sides.test.photographs), sides.unknown) == (6, 9, None)
    assert sides.rows["image_id"].to_pylist() == sides.test.photographs.image_id.tolist()
    assert [set(sides.rows[name].to_pylist()) for name in COLUMNS[:4]] == [
        {"FR"},
        {""},
        {"2021"},
        {"HUMAN_OBSERVATION"},
    ]
    assert sides.test.num_train.tolist() == [2, 2, 2]

    neighbors = sides.test.neighbors
    assert neighbors is not None
    rows = {row["image_id"]: row["class_index"] for row in read_rows(ws.storage).to_pylist()}
    indexed = ws.storage.read_table(workspace.EMBEDDINGS)
    vectors = np.stack(indexed["embedding"].to_numpy()).astype(np.float32)
    cosines = sides.test.photographs.unit.astype(np.float32) @ vectors.T
    np.testing.assert_allclose(neighbors.similarity, -np.sort(-cosines, axis=1), atol=2e-3)
    nearest = [rows[indexed["image_id"][int(best)].as_py()] for best in cosines.argmax(axis=1)]
    assert neighbors.class_index[:, 0].tolist() == nearest

    # In an index of all sides each photograph finds itself: such neighbours do not vote.
    write_index(ws, monkeypatch, sides="all")
    assert len(read_rows(ws.storage)) == 21
    again = read_sides(ws, EvaluateSettings(root=ws.root)).test.neighbors
    assert again is not None
    width = neighbors.similarity.shape[1]
    np.testing.assert_allclose(again.similarity[:, :width], neighbors.similarity, atol=1e-6)
    assert again.class_index[:, :width].tolist() == neighbors.class_index.tolist()
    assert (again.class_index[:, width:] == -1).all()
    assert np.isnan(again.similarity[:, width:]).all()

    names = name_classes(ws)
    assert {names[SPECIES[key][0].casefold()] for key in KEYS} == {0, 1, 2} == {names[key.casefold()] for key in KEYS}


@pytest.mark.parametrize(("species", "first"), [(["n1", "n1", "n2", "n3"], {"n1", "n3"}), (["n1"] * 4, {"n1"})])
def test_species_held_out_are_halved_whole_where_there_are_several(
    species: list[str], first: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "predictions", PredictedHere)
    ws = write_root(tmp_path, ["train", "val", "test", "x", "x"])
    held_out = [row for row in ws.storage.read_table(workspace.SPLIT).to_pylist() if row["split"] == "x"][
        : len(species)
    ]
    excluded = [
        blank_row(
            schemas.EXCLUDED, image_id=row["image_id"], gbif_id=f"g{n}", species_key=key, reason="held_out_species"
        )
        for n, (row, key) in enumerate(zip(held_out, species, strict=True))
    ]
    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(excluded, schemas.EXCLUDED))
    taxa = ws.storage.read_table(workspace.TAXA).to_pylist()
    taxa += [blank_row(schemas.TAXA, species_key=key, name=f"Nova {key}") for key in set(species)]
    ws.storage.write_table(workspace.TAXA, pa.Table.from_pylist(taxa, schemas.TAXA))
    write_model(ws)
    write_index(ws, monkeypatch)
    sides = read_sides(ws, EvaluateSettings(root=ws.root))
    assert sides.held_out == [f"Nova {key}" for key in sorted(set(species))]
    assert sides.unknown is not None
    species_of = {row["image_id"]: row["species_key"] for row in excluded}
    choosing, measuring = ([species_of[key] for key in side.photographs.image_id] for side in sides.unknown)
    assert set(choosing) == first
    assert len(choosing) + len(measuring) == 4
    assert sides.num_measured == len(set(measuring))
    assert len(sides.unknown_species) == len(choosing)
    if len(set(species)) > 1:
        assert not set(choosing) & set(measuring)
    else:
        assert len(choosing) == len(measuring) == 2
