"""The evaluation as a page: one HTML file with its plots inside."""

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray.evaluation.metrics import Evaluation, confusion_among, most_confused
from aitax_ray.plots import to_data_url, to_label, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IN_PLOTS = 60  # species; with more, bars and a confusion matrix cannot be read
MAX_ROWS = 1000  # species in the table; with more, browsers are slow


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
    environment.filters |= {"figure": _format_figure, "percent": _format_percent}
    measured = [row for row in rows if row["top1"] is not None]
    hardest = sorted(measured, key=lambda row: (row["top1"], -row["num_images"]))
    return environment.from_string(template).render(
        result=result, rows=hardest[:MAX_ROWS], counts=counts, info=info, query=query,
        plots=_draw_plots(result, rows, curves), untested=len(rows) - len(measured), unlisted=len(hardest[MAX_ROWS:]),
    )  # fmt: skip


def _format_figure(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3f}"


def _format_percent(share: float | None) -> str:
    return "not a number" if share is None else f"{100 * share:.1f} %"


def _draw_plots(result: Evaluation, rows: list[dict[str, Any]], curves: bytes) -> dict[str, str]:
    """Draw the plots: data URLs by title."""
    plots = {"Learning curves": to_data_url(curves)}
    if result.reliability:
        plots["Reliability"] = to_data_url(to_png(_plot_reliability(result)))
    if len(rows) <= MAX_IN_PLOTS:
        plots["Top-1 per species"] = to_data_url(to_png(_plot_species(rows)))
        shown, which = np.arange(len(rows)), ""
    else:
        shown = most_confused(result.pairs, len(rows), MAX_IN_PLOTS)
        which = f", {len(shown)} most confused species"
    if len(shown):
        plots[f"Confusion matrix{which}"] = to_data_url(to_png(_plot_confusion(result, rows, shown)))
    return plots


def _plot_reliability(result: Evaluation) -> "Figure":
    figure, axes = _figure(5, 4.4)
    max_probability, share, number = (np.array(column) for column in zip(*result.reliability, strict=True))
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="perfect")
    axes.plot(max_probability, share, marker="o", label=f"ECE {_format_figure(result.metrics['ece'])}")
    for x, y, num in zip(max_probability, share, number, strict=True):
        axes.annotate(str(num), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7, color="0.4")
    axes.set(xlabel="score", ylabel="share of right answers", xlim=(0, 1.02), ylim=(0, 1.05))
    axes.legend()
    return figure


def _plot_species(rows: list[dict[str, Any]]) -> "Figure":
    shown = sorted((row for row in rows if row["top1"] is not None), key=lambda row: row["num_train_images"])
    figure, axes = _figure(8, 1 + 0.25 * len(shown))
    places = range(len(shown))
    axes.barh(places, [row["top1"] for row in shown])
    labels = [f"{to_label(row['name'])} ({row['num_train_images']})" for row in shown]
    axes.set_yticks(places, labels, parse_math=False)
    axes.set(xlabel="top-1 on the test split (in brackets: training photographs)", xlim=(0, 1))
    axes.margins(y=0.01)
    return figure


def _plot_confusion(result: Evaluation, rows: list[dict[str, Any]], classes: np.ndarray) -> "Figure":
    side = 2.5 + 0.27 * len(classes)
    figure, axes = _figure(side + 1, side)
    shares = confusion_among(classes, result.pairs) / np.maximum(result.num_test[classes], 1)[:, None]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [to_label(rows[index]["name"]) for index in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set(xlabel="predicted", ylabel="right")
    return figure


def _figure(width: float, height: float) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
