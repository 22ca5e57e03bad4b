"""The `publish` stage: writes an engine, a folder with all that the service loads, and makes it the current one."""

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.engine import bundle
from aitax_ray.engine.copies import copy_engine
from aitax_ray.engine.documents import collect_documents, read_caveats
from aitax_ray.engine.engines import VERSION, delete_incomplete
from aitax_ray.engine.info import FORMAT_VERSION, find_faults, read_current, read_info, refuse, write_current
from aitax_ray.engine.purge import purge
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.engine.written import Written, check_written
from aitax_ray.errors import EngineError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.index.added import read_added_classes, read_classifier, read_joined
from aitax_ray.joins import look_up
from aitax_ray.storage import Storage
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.web import publish_address
from aitax_ray.workspace import Outcome, StageReport, Workspace, versions

if TYPE_CHECKING:
    import pyarrow as pa

    from aitax_ray.training.model import Classifier, ClassifierInfo


TIME = "%Y%m%d-%H%M%S"  # of the name of a version
METRICS = ("top1", "top5", "macro_top1", "ece")

log = logging.getLogger(__name__)


def publish(settings: PublishSettings) -> StageReport:
    """Write engines/<version>/, and the version into the file engines/current. Earlier versions stay.

    The engine is read back and checked before it becomes the current one. Raises DataError unless each class has
    exactly one taxon. Raises EngineError when the exported classifier does not predict as the trained one, when
    quantization costs more top-1 than the settings allow, or when a check fails.
    """
    ws = Workspace(settings.root)
    if settings.to is not None:
        Storage(settings.to)  # raises StorageError when it is no place, before the work and not after it
    purge(ws)
    reads = ("manifest", "train", "evaluate", "index")
    again = _why_current_cannot_be_used(ws)
    report = ws.run("publish", settings, reads, lambda: _publish(ws, settings), incremental=True, rerun_reason=again)
    if settings.to is not None:
        copy_engine(ws.storage, f"{workspace.ENGINES}/{read_current(ws.storage, workspace.ENGINES)}", settings.to)
    return report


def _why_current_cannot_be_used(ws: Workspace) -> str:
    """Say why the current engine cannot be used, as far as its description and the sizes of its files show; else ""."""
    version = read_current(ws.storage, workspace.ENGINES)
    if version is None:
        return "no engine is the current one"
    place = f"{workspace.ENGINES}/{version}"
    try:
        refuse(ws.storage, place, find_faults(ws.storage, place, read_info(ws.storage, place)))
    except EngineError as error:
        return str(error)
    return ""


def _publish(ws: Workspace, settings: PublishSettings) -> Outcome:
    from aitax_ray.engine import parity
    from aitax_ray.training.model import serialize
    from aitax_ray.training.sample import draw_sample

    evaluation, decisions = _read_evaluation(ws)
    if not settings.allow_worse:
        _refuse_worse(ws)
    classifier_info, classifier = read_classifier(ws)
    added = read_added_classes(ws)
    photographs = draw_sample(ws, classifier_info.transform, parity.NUM_IMAGES, "val", "test", "train")
    model = _read_export(ws) if not added else _export(classifier, classifier_info)
    figures = parity.check_parity(classifier, classifier_info.transform, OnnxClassifier(model), photographs)
    quantization = "none"
    if settings.quantize == "int8":
        quantization, model, cost, factor = _quantize(ws, settings, classifier_info.transform, model)
        figures |= cost
        decisions = decisions.model_copy(update={"fusion": decisions.fusion.scaled(factor)})
    taxa = _taxa(ws, classifier_info.classes)
    files: dict[str, bytes | str] = {  # file of the engine -> its content, or the path to copy
        bundle.ONNX: model,
        bundle.WEIGHTS: serialize(classifier_info, classifier) if added else workspace.WEIGHTS,
        bundle.TAXA: _parquet(taxa),
        bundle.ANSWERS: workspace.ANSWERS,
        **collect_documents(ws),
    }
    for file in ws.storage.files(workspace.SHARDS):
        files[f"{bundle.SHARDS}{file.path.removeprefix(workspace.SHARDS)}"] = file.path
    delete_incomplete(ws.storage, workspace.ENGINES)
    query = ws.storage.read_json(workspace.QUERY)
    created, version = _new_version(ws)
    checked: list[Written] = []
    info = bundle.write_bundle(
        ws.storage,
        f"{workspace.ENGINES}/{version}",
        files,
        {
            "format_version": FORMAT_VERSION,
            "version": version,
            "created": created,
            "arch": classifier_info.arch,
            "transform": classifier_info.transform,
            "classes": classifier_info.classes,
            "names": taxa["name"].to_pylist(),
            "added": added,
            "embedding_size": classifier_info.embedding_size,
            "quantization": quantization,
            "decisions": decisions,
            "thresholds": {"min_score": settings.min_score, "max_total_score": settings.max_total_score},
            "num_indexed": ws.require("index").counts["images"],
            "doi": query.get("doi"),
            "citation": query.get("citation"),
            "checklist_key": query.get("checklist_key"),
            "caveats": read_caveats(ws),
            "export": figures,
            "metrics": {name: evaluation[name] for name in METRICS if evaluation[name] is not None},
            "settings": _settings(ws, settings),
            "versions": versions(),
        },
        lambda engine: checked.append(check_written(engine, model, photographs)),
    )
    write_current(ws.storage, workspace.ENGINES, version)
    log.info("%s is the current engine", ws.storage.address(f"{workspace.ENGINES}/{version}"))
    (written,) = checked
    return Outcome(
        counts={
            "species": len(info.classes),
            "species_without_illustration": len(written.without_illustration),
            "indexed_images": info.num_indexed,
            "files": len(files),
        },
        metrics={**figures, "search_recall_at_10": written.recall},
        lists={"species_without_illustration": written.without_illustration},
    )


def _read_evaluation(ws: Workspace) -> tuple[dict[str, Any], Decisions]:
    """Read the figures and the decisions. Raises EngineError when an earlier version made them, without decisions."""
    for path in (workspace.DECISIONS, workspace.ANSWERS):
        if not ws.storage.exists(path):
            raise EngineError(
                f"{ws.storage.address(path)} does not exist, because an earlier version evaluated the model: "
                f"run `aitax evaluate --root {ws.root} --force`"
            )
    decisions = Decisions.model_validate(ws.storage.read_json(workspace.DECISIONS))
    return ws.storage.read_json(workspace.EVALUATION), decisions


def _read_export(ws: Workspace) -> bytes:
    if not ws.storage.exists(workspace.ONNX):
        raise EngineError(f"{ws.storage.address(workspace.ONNX)} does not exist: run `aitax train --force`")
    return ws.storage.read_bytes(workspace.ONNX)


def _export(classifier: "Classifier", info: "ClassifierInfo") -> bytes:
    """Export the classifier again: its head has rows for species that were added after the training."""
    from aitax_ray.training.onnx import export_onnx

    return export_onnx(classifier, info.transform)


def _quantize(
    ws: Workspace, settings: PublishSettings, transform: EvalTransform, model: bytes
) -> tuple[str, bytes, dict[str, float], float]:
    """Quantize the ONNX file.

    Returns the kind of quantization, the new file, the figures on the test side, and the factor by which quantization
    changes the temperature that fits the val side.
    """
    from aitax_ray.engine import quantize
    from aitax_ray.training.sample import draw_sample

    test = draw_sample(ws, transform, quantize.NUM_MEASURED_IMAGES, "test")
    if not len(test):
        raise EngineError(
            "--quantize int8 is measured on test photographs, and the split has none: run `aitax split` with a higher "
            "--test, or publish with --quantize none"
        )
    chosen = settings.quantization
    quantization = quantize.choose_quantization(model) if chosen == "auto" else chosen
    calibration = draw_sample(ws, transform, quantize.NUM_CALIBRATION_IMAGES, "train")
    smaller = quantize.quantize(model, quantization, calibration)
    unquantized, quantized = OnnxClassifier(model), OnnxClassifier(smaller)
    figures = quantize.measure(unquantized, quantized, test)
    quantize.check_loss(figures, settings.max_quantization_loss)
    val = draw_sample(ws, transform, quantize.NUM_MEASURED_IMAGES, "val")
    before, after = (quantize.fit_temperature(classifier, val) for classifier in (unquantized, quantized))
    return quantization, smaller, figures, after / before


def _refuse_worse(ws: Workspace) -> None:
    """Raise EngineError when the current engine was significantly better on the test photographs of both."""
    from aitax_ray.evaluation.changes import compare_answers, read_answers

    current = read_answers(ws, None)
    if current is None:
        return
    found = compare_answers(current.rows, ws.storage.read_table(workspace.ANSWERS, schema=schemas.ANSWERS))
    for name, difference in (("top-1", found.top1), ("macro top-1", found.macro_top1)):
        if difference.is_significantly_worse:
            raise EngineError(
                f"{name} is {difference.after:.3f}, that of the current engine {current.name} {difference.before:.3f}, "
                f"on {found.num_photographs:,} photographs that both were tested with. Chance hardly explains that, so "
                "nothing was published; --allow-worse publishes all the same"
            )


def _settings(ws: Workspace, settings: PublishSettings) -> dict[str, dict[str, Any]]:
    """Collect the settings that made the engine, of each stage, without addresses that only this machine can open."""
    found = {stage: ws.last_settings(stage) for stage in ("split", "train", "evaluate", "index")}
    found["publish"] = settings.result_fields()
    return {
        stage: {name: _public(value) for name, value in fields.items() if name not in ("root", "force")}
        for stage, fields in found.items()
    }


def _public(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_public(part) for part in value]
    is_address = isinstance(value, str) and ("://" in value or value.startswith(("/", "~", ".")))
    return publish_address(value) if is_address else value


def _new_version(ws: Workspace) -> tuple[datetime, str]:
    """Choose the time and the name of a version, later than those of all versions that exist.

    Two may be published within one second.
    """
    created, weights = datetime.now(UTC), ws.storage.sha256(workspace.WEIGHTS)
    names = (path.rsplit("/", 1)[-1] for path in ws.storage.entries(workspace.ENGINES))
    last = max((name[:15] for name in names if VERSION.fullmatch(name)), default="")
    if f"{created:{TIME}}" <= last:
        created = datetime.strptime(last, TIME).replace(tzinfo=UTC) + timedelta(seconds=1)
    return created, f"{created:{TIME}}-{weights[:8]}"


def _taxa(ws: Workspace, classes: list[str]) -> "pa.Table":
    """Read the taxa of the classes (schemas.TAXA), in their order."""
    taxa = read_joined(ws, workspace.TAXA, schema=schemas.TAXA)
    rows = look_up(classes, taxa, "species_key", workspace.TAXA).select(schemas.TAXA.names)
    table: pa.Table = rows.to_arrow().cast(schemas.TAXA)
    return table


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
