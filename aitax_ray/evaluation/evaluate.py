"""The `evaluate` stage: reads model/, images/, split/ and index/, writes evaluation/.

Ray Data brings the embeddings of the val and test photographs (photographs.py). All figures are computed from rows, one
per question, by pure code. Validation makes all decisions (decide.py); test only measures them (measure.py).
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray import schemas, workspace
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.evaluation.summary import say_added, with_interval
from aitax_ray.workspace import Outcome, StageReport, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from aitax_ray.evaluation.answers import Answers
    from aitax_ray.evaluation.decide import Decided
    from aitax_ray.evaluation.measure import Measured

FIGURES = (
    "top1", "top5", "macro_top1", "macro_top5", "nll", "nll_uncalibrated", "ece", "ece_uncalibrated", "temperature",
)  # fmt: skip
FOLDER, EXTERNAL = "evaluation", "evaluation/photos"

log = logging.getLogger(__name__)


def evaluate(settings: EvaluateSettings) -> StageReport:
    """Measure the engine on the test split, with decisions that the val split makes.

    Writes evaluation/: metrics.json, decisions.json (for the engine), per_species.parquet (schemas.PER_SPECIES),
    answers.parquet (schemas.ANSWERS), suspects.csv, report.html and model_card.md. With --photos evaluation/photos/ has
    metrics and pages of these. A figure that is not defined is null. Raises DataError when no photograph is in the test
    split, or none of --photos can be used.
    """
    ws = Workspace(settings.root)
    reads = ("manifest", "download", "split", "train", "index")
    return ws.run("evaluate", settings, reads, lambda: _evaluate(ws, settings))


def _evaluate(ws: Workspace, settings: EvaluateSettings) -> Outcome:
    import pyarrow as pa

    from aitax_ray.evaluation.changes import describe_changes, read_answers
    from aitax_ray.evaluation.decide import decide
    from aitax_ray.evaluation.external import check_folder
    from aitax_ray.evaluation.measure import measure
    from aitax_ray.evaluation.pages import write_pages
    from aitax_ray.evaluation.sides import COLUMNS, name_classes, read_sides
    from aitax_ray.evaluation.suspect_list import as_csv, list_suspects
    from aitax_ray.index.shards import shard_folders

    # First: an index of an earlier version, a wrong --compare or --photos is an error before the work, not after it.
    shard_folders(ws.storage, workspace.SHARDS)
    other = read_answers(ws, settings.compare)
    if settings.photos is not None:
        check_folder(settings.photos, name_classes(ws))
    sides = read_sides(ws, settings)
    first, second = sides.unknown or (None, None)
    decided = decide(sides.val, first, sides.unknown_species, sides.taxonomy, settings, sides.num_added)
    log.info("measuring %s test photographs, with intervals", f"{len(sides.test.photographs):,}")
    columns = {name: sides.rows[name].to_pylist() for name in COLUMNS}
    measured = measure(sides.test, second, decided, columns, settings.min_group)
    answers = _answers(measured.test, sides.taxonomy.keys, sides.rows, sides.num_added)
    suspects = list_suspects(ws, len(sides.taxonomy.keys))
    metrics = _assemble(measured, decided, sides.held_out, sides.num_measured)
    metrics["changes"] = describe_changes(other, answers, sides.taxonomy)
    metrics["num_suspects"] = len(suspects)
    ws.storage.write_table(workspace.PER_SPECIES, pa.Table.from_pylist(measured.species, schemas.PER_SPECIES))
    ws.storage.write_table(workspace.ANSWERS, answers)
    ws.storage.write_bytes(workspace.SUSPECTS, as_csv(suspects))
    ws.storage.write_json(workspace.DECISIONS, decided.decisions.model_dump(mode="json"))
    ws.storage.write_json(workspace.EVALUATION, metrics)
    write_pages(ws, FOLDER, metrics, measured.species, suspects.to_dicts(), settings.min_group)
    outcome = Outcome(counts=metrics["counts"], metrics={name: metrics[name] for name in FIGURES})
    for sentence in say_added(metrics):
        log.info(sentence)
    if metrics["added"]:
        outcome.metrics["added_top1"] = metrics["added"]["top1"]["value"]
    if settings.photos is not None:
        _evaluate_external(ws, settings, settings.photos, decided, outcome)
    return outcome


def _evaluate_external(
    ws: Workspace, settings: EvaluateSettings, folder: Path, decided: "Decided", outcome: Outcome
) -> None:
    """Measure the same decisions on a folder of photographs, write evaluation/photos/, and add to the outcome."""
    from aitax_ray.evaluation.answering import Side
    from aitax_ray.evaluation.external import read_folder
    from aitax_ray.evaluation.measure import measure
    from aitax_ray.evaluation.pages import write_pages
    from aitax_ray.evaluation.sides import name_classes, search

    external = read_folder(ws, folder, name_classes(ws))
    photographs, neighbors = external.photographs, search(ws, external.photographs)
    is_known = photographs.target >= 0
    known, unknown = (
        Side(photographs.select(which), neighbors.select(which), decided.num_train) for which in (is_known, ~is_known)
    )
    measured = measure(known, unknown if len(unknown.photographs) else None, decided, {}, settings.min_group)
    metrics = _assemble(measured, decided, external.unknown, len(external.unknown))
    ws.storage.write_json(f"{EXTERNAL}/metrics.json", metrics)
    write_pages(ws, EXTERNAL, metrics, measured.species, [], settings.min_group, f"the folder {folder.name}")
    for reason, number in sorted(external.refused.items()):
        log.warning("%s files of %s were left out: %s", f"{number:,}", folder, reason.replace("_", " "))
    log.info("on %s the first name is right for %s", folder, with_interval(metrics["photographs"]["top1"]))
    outcome.counts.update(external=len(known.photographs), external_of_unknown_species=len(unknown.photographs))
    outcome.reasons.update(external.refused)
    outcome.metrics.update(external_top1=metrics["top1"], external_macro_top1=metrics["macro_top1"])


def _assemble(
    measured: "Measured", decided: "Decided", unknown_species: list[str], num_measured: int
) -> dict[str, Any]:
    """Put the content of metrics.json together: the main figures and counts first.

    The rejection is measured on photographs of `num_measured` of the unknown species.
    """
    counts = {
        "val": len(decided.val),
        "test": len(measured.test),
        "val_occurrences": len(np.unique(decided.val.occurrence)),
        "test_occurrences": len(np.unique(measured.test.occurrence)),
        "species": len(decided.taxonomy.keys),
        "species_without_test": sum(not row["num_images"] for row in measured.species),
        "species_held_out": len(unknown_species),
        "species_added": decided.num_added,
    }
    metrics = {
        **{name: measured.metrics[name] for name in FIGURES},
        "counts": counts,
        **measured.metrics,
        "untested": [row["name"] for row in measured.species if not row["num_images"]],
        "changes": None,
        "num_suspects": 0,
    }
    metrics["rejection"] |= {"unknown_species": unknown_species, "num_unknown_species": num_measured}
    return metrics


def _answers(test: "Answers", keys: list[str], rows: "pa.Table", num_added: int) -> "pa.Table":
    """The answers to the test photographs as schemas.ANSWERS. The last `num_added` classes were added."""
    import pyarrow as pa

    named = [keys[best] if best >= 0 else "" for best in test.top[:, 0].tolist()]
    columns = [rows[name] for name in ("image_id", "gbif_id", "species_key")]
    scores = pa.array(test.scores[:, 0], pa.float32())
    is_added = pa.array(test.target >= len(keys) - num_added)
    columns += [pa.array(named, pa.string()), scores, is_added]
    return pa.table(columns, schemas.ANSWERS.names).cast(schemas.ANSWERS)
