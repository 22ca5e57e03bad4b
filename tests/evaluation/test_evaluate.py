"""The stage as a whole, on the tiny root."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError, MissingArtifactError
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.workspace import Workspace
from tests.small import KEYS, SIDES, SPECIES, PredictedHere, trained, write_model, write_root


@pytest.fixture
def root(ray_session: None, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained(tmp_path_factory), tmp_path / "root"))


def test_the_figures_are_those_of_the_test_split(root: Path) -> None:
    ws = Workspace(str(root))
    report = evaluate(EvaluateSettings(root=str(root), inference_batch_size=5))
    num_test = SIDES.count("test")
    assert report.counts == {"val": 3 * SIDES.count("val"), "test": 3 * num_test, "species": 3}

    metrics = ws.storage.read_json(workspace.EVALUATION)
    assert metrics == {**report.counts, **report.metrics}
    assert metrics["top1"] >= 0.8
    assert metrics["top1"] <= metrics["top5"] == 1.0
    assert 0.2 <= metrics["temperature"] <= 5.0

    table = ws.storage.read_table(workspace.PER_SPECIES)
    assert table.schema.equals(schemas.PER_SPECIES)
    rows = table.to_pylist()
    assert [(r["class_index"], r["species_key"], r["name"]) for r in rows] == [
        (index, key, SPECIES[key][0]) for index, key in enumerate(KEYS)
    ]
    assert {(r["num_train_images"], r["num_images"]) for r in rows} == {(SIDES.count("train"), num_test)}
    assert sum(r["top1"] for r in rows) / 3 == pytest.approx(metrics["macro_top1"])
    for row in rows:
        assert (row["most_often_taken_for"] == "") == (row["top1"] == 1.0)

    page = (root / "evaluation/report.html").read_text(encoding="utf-8")
    assert f"{100 * metrics['top1']:.1f} %" in page
    assert all(name in page for name, _ in SPECIES.values())
    assert evaluate(EvaluateSettings(root=str(root), num_classifiers=2)) == report


def test_without_validation_photographs_scores_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.evaluation.evaluate.predictions", PredictedHere)
    ws = write_root(tmp_path, {"7K3": ["train", "test"], "A12": ["train", "test", "test"], "Z9": ["train"]})
    write_model(ws)
    report = evaluate(EvaluateSettings(root=str(tmp_path)))
    assert report.counts == {"val": 0, "test": 3, "species": 3}
    assert report.metrics["temperature"] == pytest.approx(1.0)
    untested = ws.storage.read_table(workspace.PER_SPECIES).to_pylist()[2]
    assert (untested["num_images"], untested["top1"], untested["top5"]) == (0, None, None)


def test_a_network_whose_answers_are_no_numbers_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.evaluation.evaluate.predictions", PredictedHere)
    ws = write_root(tmp_path, ["train", "val", "test"])
    classifier = write_model(ws)
    weights = {name: tensor.detach().numpy().copy() for name, tensor in classifier.state_dict().items()}
    weights["head.bias"][:] = np.nan
    ws.storage.write_bytes(workspace.WEIGHTS, save(weights))
    report = evaluate(EvaluateSettings(root=str(tmp_path)))
    assert (report.metrics["top1"], report.metrics["nll"], report.metrics["temperature"]) == (0.0, None, 1.0)
    content = ws.storage.read_bytes(workspace.EVALUATION)
    json.loads(content, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_without_test_photographs_there_is_nothing_to_measure(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train", "train", "val"])
    write_model(ws)
    with pytest.raises(DataError, match=r"no photograph is in the test split.*aitax split.*--test"):
        evaluate(EvaluateSettings(root=str(tmp_path)))
    assert ws.report("evaluate") is None


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    write_root(tmp_path)
    with pytest.raises(MissingArtifactError, match="aitax train"):
        evaluate(EvaluateSettings(root=str(tmp_path)))
