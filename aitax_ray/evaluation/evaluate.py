"""The `evaluate` stage on Ray Data: reads model/, images/ and split/, writes evaluation/."""

from typing import Any

import numpy as np

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.joins import look_up
from aitax_ray.progress import progress
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Outcome, StageReport, Workspace


def evaluate(settings: EvaluateSettings) -> StageReport:
    """Measure the classifier on the test split, with a temperature fitted on the val split.

    Writes evaluation/metrics.json, evaluation/per_species.parquet (schemas.PER_SPECIES) and evaluation/report.html.
    A figure that is no finite number is null. Raises DataError when no photograph is in the test split.
    """
    ws = Workspace(settings.root)
    return ws.run("evaluate", settings, ("manifest", "download", "split", "train"), lambda: _evaluate(ws, settings))


def _evaluate(ws: Workspace, settings: EvaluateSettings) -> Outcome:
    import pyarrow as pa

    from aitax_ray.evaluation.metrics import evaluate_predictions, most_often_taken_for
    from aitax_ray.evaluation.report import render_report
    from aitax_ray.training.feed import read_classes
    from aitax_ray.training.predict import read_info

    info = read_info(ws)
    val, test = _predict(ws, settings)
    result = evaluate_predictions(val, test, len(info.classes))
    _, num_train = read_classes(ws)
    taxa = ws.storage.read_table(workspace.TAXA, schema=schemas.TAXA)
    names = look_up(info.classes, taxa, "species_key", workspace.TAXA)["name"].to_list()
    taken_for = most_often_taken_for(result.pairs, len(names)).tolist()
    rows = [
        {
            "species_key": key,
            "class_index": index,
            "name": names[index],
            "num_train_images": num_train[index],
            "num_images": int(result.num_test[index]),
            "top1": None if np.isnan(result.top1[index]) else float(result.top1[index]),
            "top5": None if np.isnan(result.top5[index]) else float(result.top5[index]),
            "most_often_taken_for": names[taken_for[index]] if taken_for[index] >= 0 else "",
        }
        for index, key in enumerate(info.classes)
    ]
    counts = {"val": len(val.target), "test": len(test.target), "species": len(rows)}
    ws.storage.write_table(workspace.PER_SPECIES, pa.Table.from_pylist(rows, schemas.PER_SPECIES))
    curves = "model/curves.png"
    page = render_report(
        result, rows, counts, info, ws.storage.read_bytes(curves), ws.storage.read_json(workspace.QUERY)
    )
    ws.storage.write_bytes("evaluation/report.html", page.encode())
    ws.storage.write_json(workspace.EVALUATION, {**counts, **result.metrics, "temperature": result.temperature})
    return Outcome(counts=counts, metrics={**result.metrics, "temperature": result.temperature})


def _predict(ws: Workspace, settings: EvaluateSettings) -> tuple[Any, Any]:
    """Run the classifier on the val and test photographs. Workers return a few numbers per photograph."""
    import pyarrow as pa

    from aitax_ray.evaluation.metrics import Predictions
    from aitax_ray.evaluation.score import Scorer
    from aitax_ray.training.feed import read_labels
    from aitax_ray.training.predict import as_matrix

    labels = read_labels(ws, "val", "test")
    if "test" not in labels.sides.to_pylist():
        raise DataError(
            "no photograph is in the test split: run `aitax split` with --test above 0 and more photographs"
        )
    dataset = predictions(ws, labels, settings, Scorer)
    parts: list[Any] = []
    with progress("evaluating", len(labels), "photographs") as advance:
        for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
            parts.append(batch)
            advance(len(batch))
    table = pa.concat_tables(parts)

    def select(name: str) -> Predictions:
        rows = table.filter(pa.compute.equal(table["split"], name))
        target = rows["class_index"].to_numpy()
        top = as_matrix(rows["top"]).astype(np.int64)
        return Predictions(target, top, as_matrix(rows["nll"]), as_matrix(rows["max_probability"]))

    return select("val"), select("test")
