"""The `publish` stage: writes an engine, a folder with all that the service loads, and makes it the current one."""

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.engine import bundle
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.errors import EngineError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.joins import look_up
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.workspace import Outcome, StageReport, Workspace, versions

if TYPE_CHECKING:
    import pyarrow as pa

    from aitax_ray.training.model import Classifier, ClassifierInfo

METRICS = ("top1", "top5", "macro_top1", "ece")

log = logging.getLogger(__name__)

VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")  # time of publication, and the first digits of the weights' sha256


def publish(settings: PublishSettings) -> StageReport:
    """Write engines/<version>/, and the version into the file engines/current. Earlier versions stay.

    Raises DataError unless each class has exactly one taxon. Raises EngineError when the exported classifier does not
    predict as the trained one, or when quantization costs more top-1 than the settings allow.
    """
    ws = Workspace(settings.root)
    reads = ("manifest", "train", "evaluate", "index")
    again = _why_current_is_outdated(ws)
    return ws.run("publish", settings, reads, lambda: _publish(ws, settings), incremental=True, rerun_reason=again)


def _why_current_is_outdated(ws: Workspace) -> str:
    """Say why this version of the program cannot read the current engine; "" when it can, or when there is none."""
    if not ws.storage.exists(workspace.CURRENT):
        return ""
    path = f"{workspace.ENGINES}/{ws.storage.read_bytes(workspace.CURRENT).decode().strip()}/{bundle.INFO}"
    version = ws.storage.read_json(path).get("format_version") if ws.storage.exists(path) else None
    return "" if version in (None, bundle.FORMAT_VERSION) else f"the current engine has format {version}"


def _publish(ws: Workspace, settings: PublishSettings) -> Outcome:
    from aitax_ray.training.predict import read_classifier

    evaluation, decisions = _read_evaluation(ws)
    if not settings.allow_worse:
        _refuse_worse(ws)
    classifier_info, classifier = read_classifier(ws)
    model, figures = _export(ws, classifier_info, classifier)
    quantization = "none"
    if settings.quantize == "int8":
        quantization, model, cost, factor = _quantize(ws, settings, classifier_info.transform, model)
        figures |= cost
        decisions = decisions.model_copy(update={"fusion": decisions.fusion.scaled(factor)})
    files: dict[str, bytes | str] = {  # file of the engine -> its content, or the path to copy
        bundle.ONNX: model,
        bundle.WEIGHTS: workspace.WEIGHTS,
        bundle.TAXA: _taxa(ws, classifier_info.classes),
        bundle.ANSWERS: workspace.ANSWERS,
    }
    for file in ws.storage.files(workspace.SHARDS):
        files[f"{bundle.SHARDS}{file.path.removeprefix(workspace.SHARDS)}"] = file.path
    _delete_incomplete_versions(ws)
    query = ws.storage.read_json(workspace.QUERY)
    created, version = _new_version(ws)
    info = bundle.write_bundle(
        ws.storage,
        f"{workspace.ENGINES}/{version}",
        files,
        {
            "format_version": bundle.FORMAT_VERSION,
            "version": version,
            "created": created,
            "arch": classifier_info.arch,
            "transform": classifier_info.transform,
            "classes": classifier_info.classes,
            "embedding_size": classifier_info.embedding_size,
            "quantization": quantization,
            "decisions": decisions,
            "thresholds": {"min_score": settings.min_score, "max_total_score": settings.max_total_score},
            "num_indexed": ws.require("index").counts["images"],
            "doi": query.get("doi"),
            "citation": query.get("citation"),
            "checklist_key": query.get("checklist_key"),
            "export": figures,
            "metrics": {name: evaluation[name] for name in METRICS if evaluation[name] is not None},
            "versions": versions(),
        },
    )
    ws.storage.write_bytes(workspace.CURRENT, f"{version}\n".encode())
    log.info("%s is the current engine", ws.storage.address(f"{workspace.ENGINES}/{version}"))
    return Outcome(
        counts={"species": len(info.classes), "indexed_images": info.num_indexed, "files": len(files)}, metrics=figures
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


def _export(ws: Workspace, info: "ClassifierInfo", classifier: "Classifier") -> tuple[bytes, dict[str, float]]:
    """Read the exported classifier, and check on photographs of the root that it predicts as the trained one."""
    from aitax_ray.engine import parity
    from aitax_ray.training.sample import draw_sample

    if not ws.storage.exists(workspace.ONNX):
        raise EngineError(f"{ws.storage.address(workspace.ONNX)} does not exist: run `aitax train --force`")
    model = ws.storage.read_bytes(workspace.ONNX)
    photographs = draw_sample(ws, info.transform, parity.NUM_IMAGES, "val", "test", "train")
    return model, parity.check_parity(classifier, info.transform, OnnxClassifier(model), photographs)


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


def _new_version(ws: Workspace) -> tuple[datetime, str]:
    """Choose the time and the name of a version that does not exist yet. Two may be published within one second."""
    created, weights = datetime.now(UTC), ws.storage.sha256(workspace.WEIGHTS)
    while ws.storage.exists(f"{workspace.ENGINES}/{created:%Y%m%d-%H%M%S}-{weights[:8]}/{bundle.INFO}"):
        created += timedelta(seconds=1)
    return created, f"{created:%Y%m%d-%H%M%S}-{weights[:8]}"


def _delete_incomplete_versions(ws: Workspace) -> None:
    """Delete the incomplete versions of killed runs: those without engine.json, which is written last."""
    names = {file.path.split("/")[1] for file in ws.storage.files(workspace.ENGINES) if file.path.count("/") > 1}
    for name in filter(VERSION.fullmatch, names):  # other folders belong to the user
        if not ws.storage.exists(f"{workspace.ENGINES}/{name}/{bundle.INFO}"):
            ws.storage.delete(f"{workspace.ENGINES}/{name}")


def _taxa(ws: Workspace, classes: list[str]) -> bytes:
    """Write the taxa of the classes as Parquet, in the order of the classes."""
    taxa = ws.storage.read_table(workspace.TAXA, schema=schemas.TAXA)
    rows = look_up(classes, taxa, "species_key", workspace.TAXA).select(schemas.TAXA.names)
    return _parquet(rows.to_arrow().cast(schemas.TAXA))


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
