"""Rows for a new species on a root whose embeddings are made by hand, for both kinds of heads."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from aitax_ray import schemas, workspace
from aitax_ray.index import added
from aitax_ray.index.extend import _draw, extend_head
from aitax_ray.training import train
from aitax_ray.training.feed import Labels
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.small import ARCH, CROP, KEYS, complete, describe, write_root

SIDES = ("train",) * 20 + ("val",) * 10
NUM_KNOWN = 2


def write_species(tmp_path: Path, head: Any) -> tuple[Workspace, np.ndarray, np.ndarray]:
    """A root that knows two species and to which a third one was added; returns its embeddings and classes."""
    from aitax_ray.training.model import build_classifier

    ws = write_root(tmp_path, dict.fromkeys(KEYS[:NUM_KNOWN], SIDES))
    classifier = build_classifier(ARCH, NUM_KNOWN, CROP, head)
    centres = np.random.default_rng(3).normal(size=(3, classifier.embedding_size)).astype(np.float32)
    with torch.no_grad():
        rows = torch.from_numpy(centres[:NUM_KNOWN])
        classifier.head.weight.copy_(rows / 20 if head == "linear" else torch.nn.functional.normalize(rows))
        classifier.head.bias.zero_()
    info = describe(classifier, ARCH, CROP, classes=KEYS[:NUM_KNOWN])
    complete(ws, "train", lambda: train._write_model(ws, info, classifier))
    more = write_root(tmp_path / "more", {KEYS[2]: SIDES}, first=100)
    for path, schema in ((workspace.SPLIT, schemas.SPLIT), (workspace.TAXA, schemas.TAXA)):
        table = more.storage.read_table(path, schema=schema)
        kept = [row for row in table.to_pylist() if row["species_key"] == KEYS[2]]
        ws.storage.write_table(added.TABLES[path], pa.Table.from_pylist(kept, schema))
    split = added.read_joined(ws, workspace.SPLIT).to_pylist()
    target = np.array([row["class_index"] for row in split])
    noise = np.random.default_rng(4).normal(size=(len(split), classifier.embedding_size))
    embedding = (centres[target] + noise).astype(np.float32)
    length = np.linalg.norm(embedding, axis=1)
    views = [
        blank_row(schemas.STORED_VIEWS, image_id=row["image_id"], unit=(vector / size).tolist(), length=[size])
        for row, vector, size in zip(split, embedding, length, strict=True)
    ]
    table = pa.Table.from_pylist(views, schemas.STORED_VIEWS)
    ws.storage.write_table(f"{workspace.ADDED_VIEWS}/digest/a.parquet", table)
    return ws, embedding, target


@pytest.mark.parametrize(("head", "figures"), [("linear", {"scale", "shift"}), ("prototype", {"shift"})])
def test_a_new_species_gets_a_row_with_which_it_is_recognised(head: str, figures: set[str], tmp_path: Path) -> None:
    ws, embedding, target = write_species(tmp_path, head)
    # The embeddings of all photographs are among the views; the index has none of its own here.
    assert extend_head(ws, []).keys() == figures
    logits = added.read_head(ws)(embedding)
    assert logits.shape == (len(target), 3)
    hit = logits.argmax(axis=1) == target
    assert [hit[target == species].mean() >= 0.95 for species in range(3)] == [True] * 3
    weight = added.read_classifier(ws)[1].head.weight.detach().numpy()
    if head == "prototype":
        assert np.linalg.norm(weight[2]) == pytest.approx(1, abs=1e-5)


def test_the_same_photographs_give_the_same_rows(tmp_path: Path) -> None:
    ws, *_ = write_species(tmp_path, "linear")
    extend_head(ws, [])
    first = ws.storage.read_bytes(added.HEAD)
    extend_head(ws, [])
    assert ws.storage.read_bytes(added.HEAD) == first


def test_of_many_photographs_some_of_each_new_species_are_drawn() -> None:
    species = np.repeat([0, 1, 2, 3], [500, 300, 40, 3])
    rows = [
        blank_row(schemas.SPLIT, image_id=f"{n:040x}", class_index=int(k), split="train", weight=1.0)
        for n, k in enumerate(species)
    ]
    labels = Labels(pa.Table.from_pylist(rows, schemas.SPLIT), ("train",))
    drawn = _draw(labels, 2, most_trained=100, most_per_species=10)
    counts = np.bincount(drawn.class_index)
    assert counts[:2].sum() == 100
    assert 45 <= counts[0] <= 80
    assert counts[2:].tolist() == [10, 3]
    assert len(_draw(labels, 2, most_trained=10_000, most_per_species=100)) == len(labels)
