"""The frozen recipes on the tiny root, from photographs to a model that predicts."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aitax_ray import workspace
from aitax_ray.engine.parity import check_parity
from aitax_ray.errors import DataError
from aitax_ray.training import embeddings, head
from aitax_ray.training import train as train_module
from aitax_ray.training.curves import draw_curves
from aitax_ray.training.feed import read_labels
from aitax_ray.training.history import read_history
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.predict import read_classifier
from aitax_ray.training.sample import draw_sample
from aitax_ray.training.train import train
from aitax_ray.training.validation import validate
from aitax_ray.workspace import Workspace
from tests.small import train_settings, write_root

PROBE: dict[str, Any] = {"recipe": "linear-probe", "arch": "timm/tf_efficientnet_lite0", "crop_size": 32, "lr": None}


@pytest.fixture(scope="module")
def root(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probe") / "root"
    write_root(root)
    train(train_settings(root, **PROBE))
    return root


def top1_of_torch(ws: Workspace) -> float:
    """Top-1 of the stored model on the test photographs, computed by torch."""
    info, classifier = read_classifier(ws)
    rows = read_labels(ws, "test")(ws.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"]))
    pixels = np.stack([info.transform.pixels(Image.open(io.BytesIO(jpeg))) for jpeg in rows["jpeg"].to_pylist()])
    with torch.no_grad():
        _, logits = classifier(torch.from_numpy(info.transform.normalize(pixels)))
    return float((logits.argmax(1).numpy() == rows["class_index"].to_numpy()).mean())


def test_the_head_learns_and_the_backbone_stays(root: Path) -> None:
    ws = Workspace(str(root))
    report = ws.require("train")
    assert report.settings["train_backbone"] is False
    assert report.metrics["top1"] >= 0.9
    assert top1_of_torch(ws) >= 0.9
    info, classifier = read_classifier(ws)
    assert info.epoch == 0
    stored = embeddings.open_embeddings(ws)
    assert stored is not None
    assert stored.image_ids() == set(read_labels(ws, "train", "val").image_ids.astype(str))
    exported = OnnxClassifier(ws.storage.read_bytes(workspace.ONNX))
    photographs = list(draw_sample(ws, info.transform, 20, "test"))
    assert check_parity(classifier, info.transform, exported, photographs)["parity_same_top1"] == 1
    assert (root / "model/curves.png").exists()
    assert not (root / "model/runs").exists()
    history = read_history(ws.storage)
    assert report.metrics["loss"] == min(row["loss"] for row in history)


@pytest.mark.parametrize("changes", [{"head": "prototype"}, {"long_tail": "loss", "head_first": False}])
def test_another_head_starts_from_the_same_embeddings(
    root: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, tmp_path / "root")
    monkeypatch.setattr(embeddings, "Embedder", lambda *_: pytest.fail("the backbone is not needed again"))
    monkeypatch.setattr(train_module, "_write_onnx", lambda *_: None)  # it takes seconds
    train(train_settings(tmp_path / "root", **PROBE, **changes))
    ws = Workspace(str(tmp_path / "root"))
    info, _ = read_classifier(ws)
    assert info.head == changes.get("head", "linear")
    assert top1_of_torch(ws) >= 0.9


def test_the_head_is_trained_again_on_the_trained_backbone(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = write_root(tmp_path, {"7K3": ["train"] * 8 + ["val"] * 2, "A12": ["train"] * 2 + ["val"], "Z9": ["train"] * 4})
    weights: list[list[float]] = []
    fit_linear = head.fit_linear

    def fit_and_note(*args: Any, **more: Any) -> Any:
        weights.append(args[4].tolist())
        return fit_linear(*args, **more)

    monkeypatch.setattr(head, "fit_linear", fit_and_note)
    monkeypatch.setattr(train_module, "_write_onnx", lambda *_: None)  # it takes seconds
    report = train(train_settings(tmp_path, epochs=1, num_workers=1, long_tail="crt", head_first=True))
    # First all photographs have the same weight. In the last training the 14 photographs of 3 species count 14 / 3 per
    # species.
    assert weights == [[1, 1, 1], pytest.approx([14 / 3 / 8, 14 / 3 / 2, 14 / 3 / 4])]
    history = read_history(ws.storage)
    assert [row["epoch"] for row in history] == [1, 2]
    assert (report.counts["epochs"], report.counts["best_epoch"]) == (2, 2)
    assert report.metrics["loss"] == history[1]["loss"]
    info, classifier = read_classifier(ws)
    assert info.epoch in (0, 1)  # one epoch may be no better than the frozen backbone
    stored = embeddings.open_embeddings(ws)
    assert stored is not None
    val = read_labels(ws, "val")
    features = head.read_features(stored, val, 1, tmp_path)
    figures = validate(head._HeadOnly(classifier.head), head._as_batches(features), 3)
    assert figures["loss"] == pytest.approx(report.metrics["loss"], rel=1e-3)


def test_fine_tuning_starts_from_the_head_and_is_never_worse(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    shutil.copytree(root, tmp_path / "root")
    monkeypatch.setattr(train_module, "_write_onnx", lambda *_: None)  # it takes seconds
    tuned = {**PROBE, "recipe": "fine-tune", "epochs": 2, "final_epochs": 1, "lr": 1e-4, "num_workers": 1}
    tuned |= {"precision": "float32", "compile": "no"}
    report = train(train_settings(tmp_path / "root", **tuned))
    ws = Workspace(str(tmp_path / "root"))
    history = read_history(ws.storage)
    assert [row["epoch"] for row in history] == [1, 2]
    assert all("train_loss" in row and "penalty" not in row for row in history)
    assert ws.storage.read_bytes("model/curves.png") == draw_curves(history)
    shown = [message.split() for message in caplog.messages]
    assert [words[0] for words in shown[[words[-1:] for words in shown].index(["left"]) + 1 :]][:2] == ["1", "2"]
    assert report.metrics["top1"] >= max(row["top1"] for row in history)
    assert report.counts["best_epoch"] in (0, 1, 2)
    assert top1_of_torch(ws) >= 0.9
    # The embeddings are those of the published backbone, or they were deleted.
    assert (embeddings.open_embeddings(ws) is None) == (report.counts["best_epoch"] > 0)


def test_lost_embeddings_are_an_error(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(root, tmp_path / "root")
    ws = Workspace(str(tmp_path / "root"))
    stored = embeddings.open_embeddings(ws)
    assert stored is not None
    for file in ws.storage.files(stored.folder):
        ws.storage.write_table(file.path, ws.storage.read_table(file.path).slice(1))
    monkeypatch.setattr("aitax_ray.training.embeddings.embed", lambda *_: stored)
    with pytest.raises(DataError, match="model/embeddings lacks photographs"):
        train(train_settings(tmp_path / "root", **PROBE, force=False, head="prototype"))


@pytest.mark.parametrize(
    ("gpus", "earlier", "recipe"),
    [(0, None, "linear-probe"), (2, None, "fine-tune"), (2, "from-scratch", "from-scratch")],
)
def test_the_recipe_follows_from_the_machine_or_from_the_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, earlier: str | None, recipe: str
) -> None:
    monkeypatch.setattr(train_module, "connect", lambda: None)
    monkeypatch.setattr(train_module, "use_gpus", lambda _: gpus > 0)
    monkeypatch.setattr(Workspace, "last_settings", lambda *_: {"recipe": earlier} if earlier else {})
    assert train_module._default_recipe(Workspace(str(tmp_path)), None) == recipe
