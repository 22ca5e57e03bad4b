from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.index import added
from aitax_ray.training.predict import read_classifier
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.small import KEYS, write_model, write_root


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return write_root(tmp_path, ["train", "val"])


def add_species(ws: Workspace, *keys: str) -> None:
    taxa = [blank_row(schemas.TAXA, species_key=key, name=f"Nova {key}") for key in keys]
    table = pa.Table.from_pylist(taxa, schemas.TAXA)
    ws.storage.write_table(added.TABLES[workspace.TAXA], table)


def test_without_anything_added_all_is_as_in_the_root(ws: Workspace) -> None:
    classifier = write_model(ws)
    assert added.read_joined(ws, workspace.SPLIT).equals(ws.storage.read_table(workspace.SPLIT))
    assert added.read_added_classes(ws) == list(added.read_views(ws)) == []
    assert added.read_info(ws).classes == KEYS
    embedding = np.ones((2, classifier.embedding_size), np.float32)
    assert added.read_head(ws)(embedding).shape == (2, 3)
    assert added.read_classifier(ws)[1].head.weight.shape[0] == 3


def test_a_species_that_the_root_lists_too_has_one_row(ws: Workspace) -> None:
    add_species(ws, KEYS[0], "new")
    rows = added.read_joined(ws, workspace.TAXA, ["species_key", "name"], schemas.TAXA).to_pylist()
    assert sorted(row["species_key"] for row in rows) == sorted([*KEYS, "new"])
    assert {row["species_key"]: row["name"] for row in rows}[KEYS[0]] == f"Nova {KEYS[0]}"


@pytest.mark.parametrize("kind", ["linear", "prototype"])
def test_the_head_has_rows_for_new_species_behind_those_of_the_trained_ones(ws: Workspace, kind: str) -> None:
    classifier = write_model(ws, head=kind)
    add_species(ws, "new1", "new2")
    rows = np.eye(2, classifier.embedding_size)
    added.write_head(ws, rows, np.array([1.0, -2.0]))
    embedding = np.random.default_rng(0).normal(size=(4, classifier.embedding_size)).astype(np.float32)
    info, extended = added.read_classifier(ws)
    assert info.classes == [*KEYS, "new1", "new2"]
    logits = added.read_head(ws)(embedding)
    assert logits.shape == (4, 5)
    np.testing.assert_array_equal(extended.head.weight[3:].detach().numpy(), rows.astype(np.float32))
    np.testing.assert_array_equal(
        extended.head.weight[:3].detach().numpy(), read_classifier(ws)[1].head.weight.detach().numpy()
    )
    if kind == "linear":
        np.testing.assert_allclose(logits[:, 3:], embedding[:, :2] + [1.0, -2.0], atol=1e-5)
    else:
        unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
        np.testing.assert_allclose(logits[:, 3:], 20 * unit[:, :2] + [1.0, -2.0], atol=1e-4)
