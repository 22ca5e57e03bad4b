"""The evaluation as a page that people look at: one HTML file, its plots inside."""

import base64
import io
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray.evaluation.metrics import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IN_PLOTS = 60  # species; beyond, bars and a confusion matrix cannot be read


def render_report(
    result: Evaluation,
    rows: list[dict[str, Any]],
    counts: dict[str, int],
    info: Any,
    curves: bytes,
    query: dict[str, Any],
) -> str:
    """Render the page from the figures, the rows of per_species.parquet and the learning curves (PNG)."""
    import jinja2

    template = resources.files("aitax_ray.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    plots = {"Learning curves": _data_url(curves), "Reliability": _data_url(_png(_plot_reliability(result)))}
    if len(rows) <= MAX_IN_PLOTS:
        plots["Top-1 by species"] = _data_url(_png(_plot_species(rows)))
        plots["What was taken for what"] = _data_url(_png(_plot_confusion(result, rows)))
    worst = sorted((row for row in rows if row["top1"] is not None), key=lambda row: (row["top1"], -row["num_images"]))
    return environment.from_string(template).render(
        result=result, rows=worst, counts=counts, info=info, plots=plots, query=query,
        untested=len(rows) - len(worst),
    )  # fmt: skip


def _plot_reliability(result: Evaluation) -> "Figure":
    figure, axes = _figure(5, 4.4)
    max_probability, share, number = (np.array(column) for column in zip(*result.reliability, strict=True))
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="perfect")
    axes.plot(max_probability, share, marker="o", label=f"ECE {result.metrics['ece']:.3f}")
    for x, y, num in zip(max_probability, share, number, strict=True):
        axes.annotate(str(num), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7, color="0.4")
    axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.05))
    axes.legend()
    return figure


def _plot_species(rows: list[dict[str, Any]]) -> "Figure":
    shown = sorted((row for row in rows if row["top1"] is not None), key=lambda row: row["num_train_images"])
    figure, axes = _figure(8, 1 + 0.25 * len(shown))
    axes.barh([f"{row['name']} ({row['num_train_images']})" for row in shown], [row["top1"] for row in shown])
    axes.set(xlabel="top-1 on the test split (in brackets: photographs trained on)", xlim=(0, 1))
    axes.margins(y=0.01)
    return figure


def _plot_confusion(result: Evaluation, rows: list[dict[str, Any]]) -> "Figure":
    side = 2.5 + 0.27 * len(rows)
    figure, axes = _figure(side + 1, side)
    shares = result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [row["name"] for row in rows]
    axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set(xlabel="taken for", ylabel="is")
    return figure


def _figure(width: float, height: float) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
