import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.training import embeddings
from aitax_ray.training.embeddings import Network, StoredEmbeddings, embed, first_view, open_embeddings, views_of
from aitax_ray.training.feed import Labels, read_labels
from aitax_ray.training.model import Classifier, build_classifier
from aitax_ray.workspace import Workspace
from tests.small import ARCH, CROP, KEYS, SIDES, describe, jpeg, photo, train_settings, write_root

NUM = 3 * len(SIDES)


def backbone() -> Classifier:
    torch.manual_seed(5)
    return build_classifier(ARCH, len(KEYS), CROP).eval()


def all_labels(ws: Workspace) -> Labels:
    return read_labels(ws, "train", "val", "test")


def compute(ws: Workspace, labels: Labels, classifier: Classifier, **changes: Any) -> StoredEmbeddings:
    settings = train_settings(ws.root, **{"views": 2, **changes})
    info = describe(classifier, ARCH, CROP)
    return embed(ws, settings, info, Network(info, classifier), labels)


@pytest.fixture(scope="module")
def embedded(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = write_root(tmp_path_factory.mktemp("embedded") / "root")
    compute(ws, all_labels(ws), backbone())
    return ws


def table_of(stored: StoredEmbeddings) -> pa.Table:
    return pa.concat_tables(stored.batches()).sort_by("image_id")


@pytest.mark.ray
def test_each_photograph_has_the_embedding_that_torch_computes(embedded: Workspace) -> None:
    stored = open_embeddings(embedded)
    assert stored is not None
    rows = table_of(stored)
    assert rows.num_rows == NUM
    assert set(rows["image_id"].to_pylist()) == stored.image_ids()
    images = embedded.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"]).sort_by("image_id")
    assert images["image_id"] == rows["image_id"]
    classifier = backbone()
    transform = describe(classifier, ARCH, CROP).transform
    pixels = np.stack([transform.pixels(Image.open(io.BytesIO(jpeg))) for jpeg in images["jpeg"].to_pylist()])
    with torch.no_grad():
        expected, _ = classifier(torch.from_numpy(transform.normalize(pixels)))
    length = np.stack(rows["length"].to_numpy())
    assert length.shape == (NUM, 2)
    found = views_of(rows)[:, 0] * length[:, :1]
    assert found == pytest.approx(expected.numpy(), rel=0.01, abs=0.01 * float(expected.abs().max()))
    served = np.stack(first_view(rows).to_numpy(zero_copy_only=False))
    assert np.array_equal(served, views_of(rows)[:, 0])
    assert np.linalg.norm(served, axis=1) == pytest.approx([1] * NUM, rel=1e-3)


@pytest.mark.ray
def test_a_run_that_was_stopped_computes_only_what_is_missing(
    embedded: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(embedded.root, tmp_path / "root")
    ws = Workspace(str(tmp_path / "root"))
    stored = open_embeddings(ws)
    assert stored is not None
    complete, (file,) = table_of(stored), ws.storage.files(stored.folder)
    ws.storage.write_table(file.path, complete.slice(0, 40))
    kept = (tmp_path / "root" / file.path).stat().st_mtime_ns
    monkeypatch.setattr(embeddings, "ROWS_PER_FILE", 3)
    again = compute(ws, all_labels(ws), backbone())
    assert (tmp_path / "root" / file.path).stat().st_mtime_ns == kept
    assert len(ws.storage.files(again.folder)) > 1
    rows = table_of(again)
    assert rows["image_id"] == complete["image_id"]
    assert np.array_equal(views_of(rows)[:, 1], views_of(complete)[:, 1])  # the random view is the same in every run


@pytest.mark.ray
def test_a_photograph_that_was_stored_anew_is_embedded_again(embedded: Workspace, tmp_path: Path) -> None:
    shutil.copytree(embedded.root, tmp_path / "root")
    ws = Workspace(str(tmp_path / "root"))
    stored = open_embeddings(ws)
    assert stored is not None
    complete, (file,) = table_of(stored), ws.storage.files(stored.folder)
    ws.storage.delete(file.path)
    for number, rows in enumerate((complete.slice(0, 40), complete.slice(40))):
        ws.storage.write_table(f"{stored.folder}/part-{number}.parquet", rows)
    changed = complete["image_id"][0].as_py()
    for image in ws.storage.files(workspace.IMAGES, ".parquet"):
        rows = ws.storage.read_table(image.path).to_pylist()
        for row in rows:
            row["jpeg"] = jpeg(photo("Z9", 77)) if row["image_id"] == changed else row["jpeg"]
            row["jpeg_sha256"] = hashlib.sha256(row["jpeg"]).hexdigest()
        ws.storage.write_table(image.path, pa.Table.from_pylist(rows, schemas.IMAGES))
    again = compute(ws, all_labels(ws), backbone())
    names = [file.path.rsplit("/", 1)[-1] for file in ws.storage.files(again.folder)]
    assert "part-1.parquet" in names
    assert "part-0.parquet" not in names
    rows = table_of(again)
    assert rows["image_id"] == complete["image_id"]
    is_same = (views_of(rows)[:, 0] == views_of(complete)[:, 0]).all(axis=1)
    assert is_same.tolist() == [False] + [True] * (NUM - 1)


def test_what_is_there_is_not_computed_again(embedded: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "onnx", property(lambda _: pytest.fail("a network is not needed")))
    assert compute(embedded, read_labels(embedded, "val"), backbone()).image_ids() >= set(
        read_labels(embedded, "val").image_ids.astype(str)
    )


@pytest.mark.parametrize("change", [{"views": 3}, {"seed": 1}, {"weights": 6}])
def test_embeddings_of_another_backbone_or_of_other_views_are_deleted(
    embedded: Workspace, tmp_path: Path, change: dict[str, int]
) -> None:
    shutil.copytree(embedded.root, tmp_path / "root")
    ws = Workspace(str(tmp_path / "root"))
    classifier = backbone()
    if "weights" in change:
        next(classifier.backbone.parameters()).data[0] += 1
        change = {}
    none = all_labels(ws).without(all_labels(ws).image_ids.astype(str))
    assert compute(ws, none, classifier, **change).image_ids() == set()
    assert open_embeddings(ws) is None


def test_without_a_frozen_backbone_there_are_none(tmp_path: Path) -> None:
    assert open_embeddings(write_root(tmp_path)) is None
