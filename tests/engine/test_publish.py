"""engine.publish: what an engine holds, and what it must not hold."""

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load

from aitax_ray import schemas, workspace
from aitax_ray.engine.bundle import ONNX, open_engine
from aitax_ray.engine.engines import VERSION, Engines
from aitax_ray.engine.publish import publish
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.errors import DataError, EngineError, MissingArtifactError, StorageError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.index import added, embed
from aitax_ray.index import index as index_stage
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import write_shard
from aitax_ray.index.thumbnails import open_thumbnails, write_thumbnails
from aitax_ray.serving.c4c import to_answer
from aitax_ray.serving.client import identify_files
from aitax_ray.serving.identifier import Identifier
from aitax_ray.settings import StageSettings
from aitax_ray.training.model import load_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.predict import apply_classifier, read_classifier, read_info
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row
from tests.kills import Killed, killed_after
from tests.small import (
    CROP,
    KEYS,
    SIDES,
    PredictedHere,
    complete,
    jpeg,
    one_thread,
    photo,
    trained,
    trained_on_two,
    write_index,
    write_model,
    write_root,
)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a model that has learned nothing."""
    ws = write_root(tmp_path_factory.mktemp("untrained") / "root", SIDES)
    write_model(ws, onnx=True)
    return Path(ws.root)


@pytest.fixture
def ws(untrained: Path, tmp_path: Path) -> Workspace:
    """A root as the stages before publish leave it."""
    return evaluated_and_indexed(Workspace(str(shutil.copytree(untrained, tmp_path / "root"))), tmp_path)


@pytest.fixture(scope="module")
def trained_and_exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = shutil.copytree(trained(tmp_path_factory), tmp_path_factory.mktemp("learned") / "root")
    ws = Workspace(str(root))
    info, classifier = read_classifier(ws)
    ws.storage.write_bytes(workspace.ONNX, export_onnx(classifier, info.transform))
    return Path(root)


@pytest.fixture
def learned(trained_and_exported: Path, tmp_path: Path) -> Workspace:
    """A root as the stages before publish leave it, with a model that has learned its species."""
    return evaluated_and_indexed(Workspace(str(shutil.copytree(trained_and_exported, tmp_path / "learned"))), tmp_path)


def evaluated_and_indexed(ws: Workspace, tmp_path: Path) -> Workspace:
    """Complete evaluate and index, without their work; each embedding points in a direction of its own."""
    in_order = [("class_index", "ascending"), ("image_id", "ascending")]
    split = ws.storage.read_table(workspace.SPLIT).sort_by(in_order).to_pylist()
    info = read_info(ws)

    def index() -> Outcome:
        names = set(schemas.INDEX_ROWS.names) & set(schemas.SPLIT.names)
        rows = [blank_row(schemas.INDEX_ROWS, **{name: row[name] for name in names}) for row in split]
        table = pa.Table.from_pylist(rows, schemas.INDEX_ROWS)
        write_shard(tmp_path / "shard", table, np.eye(len(split), info.embedding_size))
        ws.storage.upload(tmp_path / "shard", f"{workspace.SHARDS}/00000")
        return Outcome(counts={"images": len(rows)})

    complete(ws, "evaluate", lambda: write_evaluation(ws))
    ws.run("index", StageSettings(root=ws.root), (), index)
    return ws


def write_evaluation(ws: Workspace, share: float = 1.0) -> None:
    """Write what publish reads of evaluation/; a share of the answers is right."""
    figures = dict.fromkeys(("top1", "top5", "macro_top1", "ece"), share)
    ws.storage.write_json(workspace.EVALUATION, figures)
    decisions = Decisions(fusion=Fusion(temperatures=(1.25, 1.0, 2.5)))
    ws.storage.write_json(workspace.DECISIONS, decisions.model_dump(mode="json"))
    write_answers(ws, share)


def write_answers(ws: Workspace, share: float, num: int = 60) -> None:
    """Write answers to so many test photographs, of which a share is right."""
    rows = [
        {
            "image_id": f"i{n}",
            "gbif_id": f"g{n}",
            "species_key": KEYS[0],
            "answer": KEYS[n >= share * num],
            "score": 0.9,
        }
        for n in range(num)
    ]
    ws.storage.write_table(workspace.ANSWERS, pa.Table.from_pylist(rows, schemas.ANSWERS))


def rewrite(ws: Workspace, path: str, column: str, change: Callable[[list[str]], list[str]]) -> None:
    """Change a column of a stored table."""
    table = ws.storage.read_table(path)
    values = pa.array(change(table[column].to_pylist()), pa.string())
    ws.storage.write_table(path, table.set_column(table.schema.get_field_index(column), column, values))


def versions(ws: Workspace) -> list[str]:
    return sorted({f.path.split("/")[1] for f in ws.storage.files(workspace.ENGINES) if f.path.endswith("engine.json")})


def test_published_engine_is_current_and_predicts_as_the_model_does(ws: Workspace) -> None:
    publish(PublishSettings(root=ws.root))
    engine = open_engine(ws.root)
    assert [engine.info.version] == versions(ws)
    assert engine.info.classes == [taxon.species_key for taxon in engine.taxa] == KEYS
    assert (engine.info.decisions.fusion.temperatures, engine.info.doi) == ((1.25, 1.0, 2.5), "10.15468/dl.sma11")
    pixels = np.stack([engine.info.transform.pixels(photo(key, 0)) for key in KEYS])
    assert pixels.shape == (3, CROP, CROP, 3)
    embeddings, logits = engine.classifier().predict(pixels)
    _, classifier = read_classifier(ws)
    with one_thread(), torch.inference_mode():
        expected = classifier(torch.from_numpy(engine.info.transform.normalize(pixels)))[1]
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_engines_published_within_one_second_are_two(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("aitax_ray.engine.publish.datetime", Clock)
    publish(PublishSettings(root=ws.root))
    publish(PublishSettings(root=ws.root, min_score=0.5))
    assert [version[:15] for version in versions(ws)] == ["20260102-030405", "20260102-030406"]
    assert open_engine(ws.root).info.thresholds.min_score == 0.5


def test_an_engine_that_is_worse_than_the_current_one_is_not_published(ws: Workspace) -> None:
    publish(PublishSettings(root=ws.root))
    before = versions(ws)
    complete(ws, "evaluate", lambda: write_evaluation(ws, 0.95))
    publish(PublishSettings(root=ws.root))  # what chance explains is no reason
    assert len(versions(ws)) == len(before) + 1
    complete(ws, "evaluate", lambda: write_evaluation(ws, 0.5))
    with pytest.raises(
        EngineError, match=r"top-1 is 0\.500, that of the current engine \S+ 0\.950, on 60 photographs.*--allow"
    ):
        publish(PublishSettings(root=ws.root))
    assert len(versions(ws)) == len(before) + 1
    publish(PublishSettings(root=ws.root, allow_worse=True))
    assert len(versions(ws)) == len(before) + 2


def test_publish_compares_the_export_with_the_model_on_photographs(ws: Workspace) -> None:
    report = publish(PublishSettings(root=ws.root))
    assert report.metrics["parity_images"] == 3 * len(SIDES)  # fewer than 64, so all
    assert report.metrics["parity_same_top1"] == 1
    assert 0 <= report.metrics["parity_logit_difference"] < 1e-3
    assert open_engine(ws.root).info.export.items() <= report.metrics.items()


def test_an_export_that_is_not_the_model_is_not_published(ws: Workspace) -> None:
    info, classifier = read_classifier(ws)
    classifier.head.bias.data[0] += 0.01
    ws.storage.write_bytes(workspace.ONNX, export_onnx(classifier, info.transform))
    with pytest.raises(EngineError, match=r"its logits differ by up to 0\.01 \(0\.001 is allowed\)"):
        publish(PublishSettings(root=ws.root))
    assert versions(ws) == []
    assert not ws.storage.exists(workspace.CURRENT)


def test_an_int8_engine_says_what_it_costs_and_has_a_temperature_of_its_own(
    learned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aitax_ray.engine import quantize

    fitted = iter((1.5, 3.0))  # of the unquantized classifier, of the quantized one
    monkeypatch.setattr(quantize, "fit_temperature", lambda classifier, photographs: next(fitted))
    publish(PublishSettings(root=learned.root))
    float32 = open_engine(learned.root)
    report = publish(PublishSettings(root=learned.root, quantize="int8", max_quantization_loss=0.1))
    int8 = open_engine(learned.root)
    assert (float32.info.quantization, int8.info.quantization) == ("none", "static")
    assert int8.info.export.items() <= report.metrics.items()
    assert report.metrics["quantization_images"] == 3 * SIDES.count("test")
    assert -0.1 <= report.metrics["quantization_loss"] <= 0.1
    assert report.metrics["parity_same_top1"] == 1  # of the file before it was quantized
    assert float32.info.decisions.fusion.temperatures == (1.25, 1.0, 2.5)
    assert int8.info.decisions.fusion.temperatures == pytest.approx((2.5, 2.0, 5.0))  # all by the same factor
    size, smaller = ((engine.folder / ONNX).stat().st_size for engine in (float32, int8))
    assert smaller < 0.4 * size
    assert float32.info.files["classifier.safetensors"] == int8.info.files["classifier.safetensors"]


def test_the_service_names_the_same_species_from_torch_onnx_and_int8(learned: Workspace) -> None:
    info, classifier = read_classifier(learned)
    photos = [photo(key, 100 + number) for key in KEYS for number in range(6)]
    pixels = np.stack([info.transform.pixels(one) for one in photos])
    with one_thread():
        _, logits = apply_classifier(classifier, info.transform, pixels)
    expected = [KEYS[best] for best in logits.argmax(axis=1)]

    def named_by_the_service(settings: dict[str, object]) -> list[str]:
        publish(PublishSettings.model_validate({"root": learned.root, **settings}))
        identifier = Identifier(open_engine(learned.root))
        return [identifier.identify([one]).candidates[0].taxon.species_key for one in photos]

    assert named_by_the_service({}) == expected
    int8 = named_by_the_service({"quantize": "int8", "max_quantization_loss": 0.1})
    second, best = np.sort(logits, axis=1)[:, -2:].T
    is_clear = (best - second > 0.05).tolist()  # so short a training leaves some photographs on the border
    assert sum(is_clear) > len(photos) / 2
    assert [key for key, clear in zip(int8, is_clear, strict=True) if clear] == [
        key for key, clear in zip(expected, is_clear, strict=True) if clear
    ]


def test_int8_that_loses_too_much_is_not_published(learned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from aitax_ray.engine import quantize

    make = quantize.quantize
    black = [(np.zeros((4, CROP, CROP, 3), np.uint8), np.zeros(4, np.int32))]
    monkeypatch.setattr(quantize, "quantize", lambda model, how, _: make(model, how, black))  # calibrated on nothing
    with pytest.raises(EngineError, match=r"lowers top-1 by 0\.\d+ on 12 test photographs, and 0\.01 is allowed"):
        publish(PublishSettings(root=learned.root, quantize="int8"))
    assert versions(learned) == []


def test_int8_needs_test_photographs(learned: Workspace) -> None:
    split = learned.storage.read_table(workspace.SPLIT)
    learned.storage.write_table(workspace.SPLIT, split.filter(pc.not_equal(split["split"], "test")))
    with pytest.raises(EngineError, match=r"measured on test photographs, and the split has none: .*--quantize none"):
        publish(PublishSettings(root=learned.root, quantize="int8"))
    assert versions(learned) == []


@pytest.mark.parametrize("path", [workspace.DECISIONS, workspace.ANSWERS])
def test_an_evaluation_of_an_earlier_version_names_the_command_that_makes_it_anew(ws: Workspace, path: str) -> None:
    ws.storage.delete(path)
    with pytest.raises(EngineError, match=r"an earlier version evaluated the model: run `aitax evaluate --root"):
        publish(PublishSettings(root=ws.root))


def test_a_model_without_its_export_names_the_command_that_makes_it(ws: Workspace) -> None:
    ws.storage.delete(workspace.ONNX)
    with pytest.raises(EngineError, match=r"classifier\.onnx does not exist: run `aitax train --force`"):
        publish(PublishSettings(root=ws.root))


def test_an_engine_of_another_format_is_published_again(ws: Workspace) -> None:
    publish(PublishSettings(root=ws.root))
    engine = open_engine(ws.root)
    path = f"{workspace.ENGINES}/{engine.info.version}/engine.json"
    ws.storage.write_json(path, ws.storage.read_json(path) | {"format_version": 1})
    with pytest.raises(EngineError, match="has format 1"):
        open_engine(ws.root)
    publish(PublishSettings(root=ws.root))
    assert open_engine(ws.root).info.created > engine.info.created


def test_engine_holds_what_production_needs_and_nothing_more(ws: Workspace) -> None:
    publish(PublishSettings(root=ws.root))
    engine = open_engine(ws.root)
    there = {str(path.relative_to(engine.folder)) for path in engine.folder.rglob("*") if path.is_file()}
    assert there == {
        "engine.json",
        ONNX,
        "classifier.safetensors",
        "taxa.parquet",
        "shards/00000/rows.arrow",
        "shards/00000/vectors.npy",
        "shards/00000/search.json",
        "answers.parquet",
    }


def test_engine_holds_no_path_of_the_machine_that_made_it(ws: Workspace, tmp_path: Path) -> None:
    publish(PublishSettings(root=ws.root))
    engine = open_engine(ws.root)
    for path in engine.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":  # it is compressed
            content = str(pq.read_table(path).to_pylist()).encode()
        for secret in (str(tmp_path), str(Path(__file__).parents[2]), sys.prefix, "file:/"):
            assert secret.encode() not in content, f"{path.name} holds {secret}"


def test_a_species_that_is_listed_twice_is_an_error(ws: Workspace) -> None:
    rewrite(ws, workspace.TAXA, "species_key", lambda old: [KEYS[0]] * len(old))
    with pytest.raises(DataError, match=rf"taxa\.parquet has 3 rows with the species_key '{KEYS[0]}'"):
        publish(PublishSettings(root=ws.root))


def test_publishing_again_adds_a_version_and_swaps_current(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(PublishSettings(root=ws.root))
    first = open_engine(ws.root).info
    publish(PublishSettings(root=ws.root))
    assert versions(ws) == [first.version]  # publishing the same again adds nothing
    later: Any = type("Later", (), {"now": staticmethod(lambda zone: first.created.replace(year=2031))})
    monkeypatch.setattr("aitax_ray.engine.publish.datetime", later)
    publish(PublishSettings(root=ws.root, min_score=0.1))
    second = open_engine(ws.root).info
    assert second.thresholds.min_score == 0.1
    assert versions(ws) == sorted([first.version, second.version])
    assert open_engine(f"{ws.root}/engines/{first.version}").info == first  # one can go back


def test_half_an_engine_of_a_run_that_was_killed_is_cleared_away(ws: Workspace) -> None:
    ws.storage.write_bytes(f"{workspace.ENGINES}/20200101-000000-deadbeef/{ONNX}", b"half")
    ws.storage.write_bytes(f"{workspace.ENGINES}/steam/drawing.svg", b"a user's own")
    publish(PublishSettings(root=ws.root))
    assert not ws.storage.exists(f"{workspace.ENGINES}/20200101-000000-deadbeef")
    assert ws.storage.exists(f"{workspace.ENGINES}/steam/drawing.svg")
    assert VERSION.fullmatch(open_engine(ws.root).info.version)


@pytest.fixture
def quick(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The same root, without what takes most of the time of publish and writes nothing."""
    from aitax_ray.engine import parity
    from aitax_ray.training import predict, sample

    classifier = read_info(ws), None
    monkeypatch.setattr(predict, "read_classifier", lambda ws: classifier)
    monkeypatch.setattr(parity, "check_parity", lambda *_: {})
    monkeypatch.setattr(sample, "draw_sample", lambda *_: [])
    return ws


def test_publish_killed_at_any_moment_leaves_a_complete_engine_in_use(quick: Workspace, tmp_path: Path) -> None:
    publish(PublishSettings(root=quick.root))
    first = open_engine(quick.root).info.version
    folder = Path(quick.root, "engines")
    shutil.copytree(folder, tmp_path / "before")
    in_use = []
    for num_steps in itertools.count():
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
        try:
            with killed_after(num_steps):
                publish(PublishSettings(root=quick.root, min_score=0.1))
            break
        except Killed:
            engine = open_engine(quick.root)
            assert engine.find_problems() == []
            in_use.append(engine.info.version)
        if num_steps % 6 == 0:
            publish(PublishSettings(root=quick.root, min_score=0.1))
            assert open_engine(quick.root).info.thresholds.min_score == 0.1
            assert [one.problem for one in Engines(quick.root).verify() if one.problems] == []
            assert [path.name for path in folder.rglob(".*") if ".report.json." not in path.name] == []
    assert num_steps > 2 * len(open_engine(quick.root).info.files)  # each file is written in two steps
    swapped = in_use.index(next(version for version in in_use if version != first))
    assert swapped < len(in_use) - 1  # it was also killed between the swap and the end
    assert first not in in_use[swapped:]


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object], *, is_before: bool) -> None:
    """Do something while publish checks what it wrote, before or after the check itself."""
    from aitax_ray.engine import publish as module

    check = module.check_written

    def check_and_do(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "check_written", check)
        if is_before:
            do()
        found = check(*arguments)
        if not is_before:
            do()
        return found

    monkeypatch.setattr(module, "check_written", check_and_do)


def test_of_a_rollback_and_a_publication_at_the_same_time_the_last_one_wins(
    quick: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(PublishSettings(root=quick.root))
    publish(PublishSettings(root=quick.root, min_score=0.1))
    meanwhile(monkeypatch, Engines(quick.root).rollback, is_before=True)
    publish(PublishSettings(root=quick.root, min_score=0.2))
    assert open_engine(quick.root).info.thresholds.min_score == 0.2
    assert Engines(quick.root).rollback().before == versions(quick)[2]
    assert open_engine(quick.root).info.thresholds.min_score == 0.1


@pytest.mark.parametrize("is_before", [True, False])
def test_of_two_publications_at_the_same_time_one_fails_and_the_other_is_in_use(
    quick: Workspace, monkeypatch: pytest.MonkeyPatch, is_before: bool
) -> None:
    """The second one takes what the first one is writing for the remains of a killed run."""

    class Clock(datetime):
        seconds = itertools.count()

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(2026, 1, 2, 3, 4, next(cls.seconds), tzinfo=tz)

    monkeypatch.setattr("aitax_ray.engine.publish.datetime", Clock)
    publish(PublishSettings(root=quick.root))
    second = PublishSettings(root=quick.root, min_score=0.2)
    meanwhile(monkeypatch, lambda: publish(second), is_before=is_before)
    with pytest.raises(EngineError, match=r"is missing.*: copy or publish it again"):
        publish(PublishSettings(root=quick.root, min_score=0.1))
    assert open_engine(quick.root).info.thresholds.min_score == 0.2
    assert [one.problems for one in Engines(quick.root).verify()] == [(), ()]


KILLED_BY_THE_SYSTEM = """
import os, signal, sys
from aitax_ray.engine.publish import publish
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.storage import Storage

write = Storage.write_json
def write_or_die(self, path, value):
    if path.endswith("/engine.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, path, value)
Storage.write_json = write_or_die
publish(PublishSettings(root=sys.argv[1], min_score=0.1))
"""


def test_publish_killed_by_the_system_goes_on_with_the_same_command(ws: Workspace) -> None:
    publish(PublishSettings(root=ws.root))
    first = open_engine(ws.root).info.version
    done = subprocess.run([sys.executable, "-c", KILLED_BY_THE_SYSTEM, ws.root], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert open_engine(ws.root).info.version == first
    assert len(list(Path(ws.root, "engines").glob("2*"))) == 2
    publish(PublishSettings(root=ws.root, min_score=0.1))
    assert open_engine(ws.root).info.thresholds.min_score == 0.1
    assert open_engine(ws.root).find_problems() == []
    assert len(list(Path(ws.root, "engines").glob("2*"))) == len(versions(ws)) == 2


def test_an_engine_that_fails_a_check_is_not_published(quick: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(PublishSettings(root=quick.root))
    before = versions(quick)
    monkeypatch.setattr("aitax_ray.engine.written.measure_recall", lambda index: 0.3)
    with pytest.raises(EngineError, match="finds 30% of the 10 nearest photographs, and it found 100%"):
        publish(PublishSettings(root=quick.root, min_score=0.1))
    assert versions(quick) == before == [open_engine(quick.root).info.version]


def test_the_report_lists_species_without_a_photograph_that_can_be_shown(quick: Workspace) -> None:
    report = publish(PublishSettings(root=quick.root))
    assert report.counts["species_without_illustration"] == 3  # the photographs have no licence
    assert report.lists == {"species_without_illustration": KEYS}
    assert quick.storage.read_json("engines/report.json")["lists"] == report.lists


def test_publish_copies_the_current_engine_to_another_place(quick: Workspace, tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    publish(PublishSettings(root=quick.root, to=there))
    info = open_engine(quick.root).info
    assert open_engine(there).info == info
    assert open_engine(there).find_problems() == []
    Path(there, info.version, ONNX).unlink()
    publish(PublishSettings(root=quick.root, to=there))  # nothing new, but the copy is completed
    assert versions(quick) == [info.version]
    assert open_engine(there).find_problems() == []
    publish(PublishSettings(root=quick.root, min_score=0.1, to=there))
    assert open_engine(there).info.thresholds.min_score == 0.1
    Engines(there).rollback()
    assert open_engine(there).info == info


def test_a_destination_that_cannot_be_opened_is_an_error_before_the_work(quick: Workspace) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        publish(PublishSettings(root=quick.root, to="nosuch://place"))
    assert versions(quick) == []


def test_a_rollback_stays_when_publish_finds_nothing_new(quick: Workspace) -> None:
    publish(PublishSettings(root=quick.root))
    first = open_engine(quick.root).info
    publish(PublishSettings(root=quick.root, min_score=0.1))
    Engines(quick.root).rollback()
    publish(PublishSettings(root=quick.root, min_score=0.1))
    assert open_engine(quick.root).info == first


@pytest.mark.parametrize("damage", ["no current", "no engine", "no file"])
def test_an_engine_that_was_deleted_is_published_again(quick: Workspace, damage: str) -> None:
    publish(PublishSettings(root=quick.root))
    folder = Path(quick.root, "engines")
    version = open_engine(quick.root).info.version
    if damage == "no current":
        (folder / "current").unlink()
    elif damage == "no engine":
        shutil.rmtree(folder / version)
    else:
        (folder / version / ONNX).unlink()
    publish(PublishSettings(root=quick.root))
    assert open_engine(quick.root).find_problems() == []


def test_versions_are_in_the_order_of_publication_also_when_the_clock_goes_back(
    quick: Workspace,
) -> None:
    quick.storage.write_bytes(f"{workspace.ENGINES}/20991231-235959-deadbeef/engine.json", b"{}")
    publish(PublishSettings(root=quick.root))
    assert open_engine(quick.root).info.version[:15] == "21000101-000000"


def test_the_engine_says_which_settings_made_it(quick: Workspace) -> None:
    report = quick.storage.read_json("model/report.json")
    settings = {"arch": "timm/x", "weights": "/home/ann/w.pt", "lr": 0.1, "track": ["file:///home/ann/mlruns"]}
    quick.storage.write_json("model/report.json", report | {"settings": settings})
    publish(PublishSettings(root=quick.root, min_score=0.1))
    info = open_engine(quick.root).info
    assert info.settings["train"] == {"arch": "timm/x", "weights": "w.pt", "lr": 0.1, "track": ["mlruns"]}
    assert info.settings["publish"]["min_score"] == 0.1
    assert info.settings["publish"].keys().isdisjoint({"root", "force", "to"})


def test_a_figure_that_is_no_number_is_left_out(ws: Workspace) -> None:
    figures = ws.storage.read_json(workspace.EVALUATION)
    ws.storage.write_json(workspace.EVALUATION, figures | {"ece": None})
    publish(PublishSettings(root=ws.root))
    assert open_engine(ws.root).info.metrics == dict.fromkeys(("top1", "top5", "macro_top1"), 1.0)


def test_publish_needs_an_evaluated_model(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    write_model(ws)
    with pytest.raises(MissingArtifactError, match="aitax evaluate"):
        publish(PublishSettings(root=ws.root))


def test_no_path_of_this_machine_leaves_with_the_engine_or_in_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = write_root(tmp_path / "root")
    media = ws.storage.read_table(workspace.MEDIA)
    secret = "/home/ann/secret"
    addresses = pa.array([f"file://{secret}/{number}.jpg" for number in range(media.num_rows)])
    for name in ("url", "references"):
        media = media.set_column(media.schema.get_field_index(name), name, addresses)
    ws.storage.write_table(f"{workspace.MEDIA}/part-00000.parquet", media)
    write_model(ws, onnx=True)

    def make_here(ws: Workspace, _: Any, size: int) -> None:
        images = ws.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"])
        write_thumbnails(images, open_thumbnails(ws.storage, size), size)

    monkeypatch.setattr(index_stage, "make_thumbnails", make_here)
    monkeypatch.setattr(embed, "predictions", PredictedHere)
    index_stage.index(IndexSettings(root=ws.root))
    complete(ws, "evaluate", lambda: write_evaluation(ws))
    publish(PublishSettings(root=ws.root))

    engine = open_engine(ws.root)
    files = [path for path in engine.folder.rglob("*") if path.is_file()]
    assert {"rows.arrow", "thumbnails.bin", "engine.json"} <= {path.name for path in files}
    for path in files:
        texts = [path.read_bytes()]
        if path.suffix == ".parquet":  # it is compressed
            texts.append(repr(pq.read_table(path).to_pylist()).encode())
        for text in texts:
            assert b"file:" not in text, path
            assert secret.encode() not in text, path

    answer = Identifier(engine).identify([photo(KEYS[0], 0)], 3)
    shown = [image for candidate in answer.candidates for image in candidate.illustrations]
    assert shown
    assert {image.url for image in shown} == {image.references for image in shown} == {""}
    (tmp_path / "a.jpg").write_bytes(jpeg(photo(KEYS[0], 0)))
    for as_json in (True, False):
        files_of = {"engine": ws.root, "url": None, "together": False, "max_results": 3, "as_json": as_json}
        identify_files([tmp_path / "a.jpg"], **files_of)  # type: ignore[arg-type]
    texts_shown = [repr(answer), capsys.readouterr().out, to_answer(answer, base_url="http://x/").model_dump_json()]
    assert "http://x/images/" in texts_shown[-1]
    for shown_text in texts_shown:
        assert "file:" not in shown_text
        assert secret not in shown_text


def test_species_that_were_added_are_published_and_answers_mark_them(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for module in ("index.add", "evaluation.photographs"):
        monkeypatch.setattr(f"aitax_ray.{module}.predictions", PredictedHere)
    ws = Workspace(str(shutil.copytree(trained_on_two(tmp_path_factory), tmp_path / "root")))
    info, classifier = read_classifier(ws)
    ws.storage.write_bytes(workspace.ONNX, export_onnx(classifier, info.transform))
    other = write_root(tmp_path / "other", {KEYS[2]: SIDES}, first=100)
    with one_thread():
        write_index(ws, monkeypatch, add=(other.root,))
        shutil.rmtree(other.root)
        evaluate(EvaluateSettings(root=ws.root))
        report = publish(PublishSettings(root=ws.root))
    assert report.counts["species"] == 3
    assert report.metrics["parity_same_top1"] == 1

    engine = open_engine(ws.root)
    assert (engine.info.classes, engine.info.added) == (KEYS, [KEYS[2]])
    assert [(taxon.species_key, taxon.is_added) for taxon in engine.taxa] == [(key, key == KEYS[2]) for key in KEYS]
    pixels = np.stack([info.transform.pixels(photo(KEYS[2], number)) for number in range(4)])
    embedding, logits = engine.classifier().predict(pixels)
    extended_info, extended = added.read_classifier(ws)
    np.testing.assert_allclose(logits, apply_classifier(extended, info.transform, pixels)[1], atol=1e-3)
    # The embeddings are those of the trained classifier, so that they fit to the index.
    np.testing.assert_allclose(embedding, apply_classifier(classifier, info.transform, pixels)[0], atol=1e-3)
    loaded = load_classifier(extended_info, load(engine.folder.joinpath("classifier.safetensors").read_bytes()))
    np.testing.assert_allclose(apply_classifier(loaded, info.transform, pixels)[1], logits, atol=1e-3)

    answer = to_answer(Identifier(engine).identify([photo(KEYS[2], 300)]))
    assert {result.gbif_id: result.is_added for result in answer.results}[KEYS[2]] is True
    assert answer.results[0].gbif_id == KEYS[2]
    assert answer.results[0].images[0].url.startswith(f"https://photos.example/{KEYS[2]}/")
    known = to_answer(Identifier(engine).identify([photo(KEYS[0], 300)]))
    assert (known.results[0].gbif_id, known.results[0].is_added) == (KEYS[0], False)
    path = tmp_path / "new.png"
    photo(KEYS[2], 301).save(path)
    identify_files([path], engine=ws.root, url=None, together=False, max_results=3, as_json=False)
    assert "added without training" in capsys.readouterr().out

    # After a training that includes the species, the report compares with these answers.
    marked = ws.storage.read_table(workspace.ANSWERS, schema=schemas.ANSWERS)
    published = pq.read_table(engine.folder / "answers.parquet")
    assert published["is_added"].to_pylist() == marked["is_added"].to_pylist()
    assert set(published.filter(published["is_added"])["species_key"].to_pylist()) == {KEYS[2]}
