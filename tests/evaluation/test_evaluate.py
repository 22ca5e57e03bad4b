"""The stage as a whole, on the tiny root."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError, EngineError, MissingArtifactError
from aitax_ray.evaluation import photographs
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.workspace import Workspace
from tests.small import (
    KEYS,
    SIDES,
    SPECIES,
    PredictedHere,
    photo,
    trained,
    trained_on_two,
    write_index,
    write_model,
    write_root,
)


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained(tmp_path_factory), tmp_path / "root"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Predict in this process."""
    monkeypatch.setattr(photographs, "predictions", PredictedHere)
    return monkeypatch


@pytest.mark.usefixtures("ray_session")
def test_the_figures_are_those_of_the_test_split(root: Path) -> None:
    ws = Workspace(str(root))
    index(IndexSettings(root=str(root)))
    report = evaluate(EvaluateSettings(root=str(root), inference_batch_size=5))
    num_val, num_test = 3 * SIDES.count("val"), 3 * SIDES.count("test")
    assert report.counts == {
        "val": num_val,
        "test": num_test,
        "val_occurrences": num_val // 2,
        "test_occurrences": num_test // 2,
        "species": 3,
        "species_without_test": 0,
        "species_held_out": 0,
        "species_added": 0,
    }
    metrics = ws.storage.read_json(workspace.EVALUATION)
    assert metrics["counts"] == report.counts
    assert {name: metrics[name] for name in report.metrics} == report.metrics
    assert 0.8 <= metrics["top1"] <= metrics["top5"] == 1.0
    assert 0.2 <= metrics["temperature"] <= 5.0

    table = ws.storage.read_table(workspace.PER_SPECIES)
    assert table.schema.equals(schemas.PER_SPECIES)
    rows = table.to_pylist()
    assert [(r["class_index"], r["species_key"], r["name"]) for r in rows] == [
        (place, key, SPECIES[key][0]) for place, key in enumerate(KEYS)
    ]
    assert {(r["num_train_images"], r["num_images"]) for r in rows} == {(SIDES.count("train"), num_test // 3)}
    assert sum(r["top1"] for r in rows) / 3 == pytest.approx(metrics["macro_top1"])

    answers = ws.storage.read_table(workspace.ANSWERS)
    assert answers.schema.equals(schemas.ANSWERS)
    split = {r["image_id"]: r for r in ws.storage.read_table(workspace.SPLIT).to_pylist()}
    for row in answers.to_pylist():
        assert {name: row[name] for name in ("gbif_id", "species_key")}.items() <= split[row["image_id"]].items()
    right = [row["answer"] == row["species_key"] for row in answers.to_pylist()]
    assert np.mean(right) == pytest.approx(metrics["top1"])
    decisions = Decisions.model_validate(ws.storage.read_json(workspace.DECISIONS))
    assert decisions.fusion.temperatures[0] == metrics["temperature"]

    page = (root / "evaluation/report.html").read_text(encoding="utf-8")
    assert all(name in page for name, _ in SPECIES.values())
    assert (root / "evaluation/model_card.md").read_text(encoding="utf-8").startswith("# Model card")
    assert (root / "evaluation/suspects.csv").read_text(encoding="utf-8").startswith("image_id,labelled,looks_like")
    assert evaluate(EvaluateSettings(root=str(root), num_classifiers=2)) == report


def test_species_that_were_held_out_and_an_outside_folder_are_measured(
    root: Path, here: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ws = Workspace(str(root))
    split = ws.storage.read_table(workspace.SPLIT).to_pylist()
    held_out = [row for row in split if row["species_key"] == KEYS[0] and row["split"] == "test"]
    excluded = [
        {name: row.get(name, "") for name in schemas.EXCLUDED.names} | {"reason": "held_out_species", "detail": ""}
        for row in held_out
    ]
    import pyarrow as pa

    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(excluded, schemas.EXCLUDED))
    kept = [row for row in split if row not in held_out]
    ws.storage.write_table(workspace.SPLIT, pa.Table.from_pylist(kept, schemas.SPLIT))
    write_index(ws, here)
    for folder, key, number in (("Rana_rubra", "A12", 900), (KEYS[1], KEYS[1], 901), ("Nova", "Z9", 902)):
        path = tmp_path / "photos" / folder
        path.mkdir(parents=True)
        photo(key, number).save(path / "1.jpg")
    (tmp_path / "photos" / "Nova" / "broken.jpg").write_bytes(b"no picture")
    report = evaluate(EvaluateSettings(root=str(root), photos=tmp_path / "photos"))
    assert (report.counts["species_held_out"], report.counts["species_without_test"]) == (1, 1)
    metrics = ws.storage.read_json(workspace.EVALUATION)
    assert metrics["rejection"]["unknown_species"] == [SPECIES[KEYS[0]][0]]
    assert (metrics["rejection"]["num_unknown"], metrics["rejection"]["num_unknown_species"]) == (2, 1)
    assert metrics["untested"] == [SPECIES[KEYS[0]][0]]

    assert (report.counts["external"], report.counts["external_of_unknown_species"]) == (2, 1)
    assert sum(report.reasons.values()) == 1
    outside = ws.storage.read_json("evaluation/photos/metrics.json")
    assert report.metrics["external_top1"] == outside["top1"]
    assert outside["rejection"]["unknown_species"] == ["Nova"]
    assert (root / "evaluation/photos/report.html").exists()


def test_species_that_another_root_added_are_measured(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    here: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "aitax_ray")
    ws = Workspace(str(shutil.copytree(trained_on_two(tmp_path_factory), tmp_path / "root")))
    other = write_root(tmp_path / "other", {KEYS[1]: ("test",) * 2, KEYS[2]: SIDES}, first=100)
    here.setattr("aitax_ray.index.add.predictions", PredictedHere)
    write_index(ws, here, add=(other.root,))
    shutil.rmtree(other.root)
    report = evaluate(EvaluateSettings(root=ws.root))
    assert (report.counts["species"], report.counts["species_added"]) == (3, 1)
    assert (report.counts["test"], report.counts["val"]) == (2 * 4 + 2 + 4, 2 * 4 + 4)
    added = ws.storage.read_json(workspace.EVALUATION)["added"]
    assert report.metrics["added_top1"] == added["top1"]["value"]
    assert any(message.startswith("1 species was added without training: there") for message in caplog.messages)
    assert added["species"] == [SPECIES[KEYS[2]][0]]
    assert added["num_photographs"] == 4
    assert added["top1"]["value"] >= 0.75
    assert added["trained"]["num_photographs"] == 2 * 4 + 2
    assert added["trained"]["top1"]["after"] >= added["trained"]["top1"]["before"] - 0.1
    rows = ws.storage.read_table(workspace.PER_SPECIES).to_pylist()
    assert [(row["species_key"], row["num_train_images"], row["is_added"]) for row in rows] == [
        (key, 8, key == KEYS[2]) for key in KEYS
    ]
    answers = ws.storage.read_table(workspace.ANSWERS).to_pylist()
    assert {row["species_key"] for row in answers if row["is_added"]} == {KEYS[2]}
    assert {row["species_key"] for row in answers if not row["is_added"]} == set(KEYS[:2])
    page = (tmp_path / "root/evaluation/report.html").read_text(encoding="utf-8")
    assert "Species added without training" in page
    assert "1 species was added without training" in page


def test_without_validation_photographs_scores_stay_as_they_are(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path, {"7K3": ["train", "test"], "A12": ["train", "test", "test"], "Z9": ["train"]})
    write_model(ws)
    write_index(ws, here)
    report = evaluate(EvaluateSettings(root=str(tmp_path)))
    assert (report.counts["val"], report.counts["test"], report.counts["species_without_test"]) == (0, 3, 1)
    assert report.metrics["temperature"] == pytest.approx(1.0, abs=0.01)
    untested = ws.storage.read_table(workspace.PER_SPECIES).to_pylist()[2]
    assert (untested["num_images"], untested["top1"], untested["top5"]) == (0, None, None)
    assert ws.storage.read_json(workspace.EVALUATION)["untested"] == [SPECIES["Z9"][0]]


def test_a_network_whose_answers_are_no_numbers_is_measured_too(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path, ["train", "val", "test"])
    classifier = write_model(ws)
    weights = {name: tensor.detach().numpy().copy() for name, tensor in classifier.state_dict().items()}
    weights["head.bias"][:] = np.nan
    ws.storage.write_bytes(workspace.WEIGHTS, save(weights))
    write_index(ws, here)
    report = evaluate(EvaluateSettings(root=str(tmp_path)))
    knn = ws.storage.read_json(workspace.EVALUATION)["knn"]
    assert (knn["share"] > 0, knn["without"]["top1"]["value"]) == (True, 0.0)  # its neighbours are all that it has
    assert report.metrics["top1"] == knn["with"]["top1"]["value"]
    content = ws.storage.read_bytes(workspace.EVALUATION)
    json.loads(content, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_without_test_photographs_there_is_nothing_to_measure(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path, ["train", "train", "val"])
    write_model(ws)
    write_index(ws, here)
    with pytest.raises(DataError, match=r"no photograph is in the test split.*aitax split.*--test"):
        evaluate(EvaluateSettings(root=str(tmp_path)))
    assert ws.report("evaluate") is None


def test_an_index_of_an_earlier_version_is_noticed_before_the_work(tmp_path: Path, here: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path)
    write_model(ws)
    write_index(ws, here)
    ws.storage.delete(workspace.SHARDS)
    here.setattr(photographs, "predictions", lambda *_: pytest.fail("the work began"))
    with pytest.raises(EngineError, match=r"no index in .*: run `aitax index`"):
        evaluate(EvaluateSettings(root=str(tmp_path)))


def test_a_missing_model_names_the_command_that_makes_it(tmp_path: Path) -> None:
    write_root(tmp_path)
    with pytest.raises(MissingArtifactError, match="aitax train"):
        evaluate(EvaluateSettings(root=str(tmp_path)))
