"""The plots of the evaluation's page, as data URLs. A plot without figures is left out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray.evaluation.figures import FEW, MANY
from aitax_ray.evaluation.summary import part
from aitax_ray.plots import to_data_url, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN, LIGHT, ORANGE, GREY = "#2f6f4f", "#a9cdb8", "#b8622a", "#8a8f8b"
DPI = 150
MIN_SPECIES = 3  # of which a plot is drawn
NUM_BINS = 15  # of the scores, as in reliability.py


def draw_plots(metrics: Mapping[str, Any], species: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Draw the plots for which there are figures: data URLs by "reliability", "risk" and "tail"."""
    drawn = {
        "reliability": _plot_reliability(part(metrics, "calibration")),
        "risk": _plot_risk(part(metrics, "rejection", "risk_coverage") or []),
        "tail": _plot_tail(species, part(metrics, "frequency") or []),
    }
    return {name: to_data_url(to_png(figure, DPI)) for name, figure in drawn.items() if figure is not None}


def _plot_reliability(calibration: Any) -> "Figure | None":
    """Scores against shares of right answers, and below it how many photographs have such scores."""
    after, before = (part(calibration, name) or [] for name in ("bins", "bins_before"))
    if not after:
        return None
    figure, (axes, below) = _figure(4.4, 4.4, heights=[4, 1])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    for bins, colour, label in ((before, ORANGE, "before calibration"), (after, GREEN, "after calibration")):
        if bins:
            score, share, number = (np.array(column) for column in zip(*bins, strict=True))
            axes.plot(score, share, color=colour, linewidth=1.2, alpha=0.35)
            axes.scatter(score, share, s=10 + 150 * number / number.sum(), color=colour, alpha=0.85, label=label)
    axes.set(xlim=(0, 1.02), ylim=(-0.03, 1.05), ylabel="share of right answers")
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, loc="upper left", fontsize=9, markerscale=0.8)
    below.bar([score for score, *_ in after], [number for *_, number in after], width=0.8 / NUM_BINS, color=LIGHT)
    below.set(xlim=(0, 1.02), xlabel="score", ylabel="photographs")
    below.grid(visible=False)
    _format_whole_numbers(below, 2)
    return figure


def _plot_risk(curve: Sequence[Sequence[float]]) -> "Figure | None":
    if len(curve) < 2:
        return None
    figure, axes = _figure(4.4, 4.4)
    coverage, risk = (100 * np.array(column) for column in zip(*curve, strict=True))
    axes.fill_between(coverage, risk, color=LIGHT, alpha=0.5, linewidth=0)
    axes.plot(coverage, risk, color=GREEN, linewidth=1.8)
    axes.set(xlabel="photographs answered, %", ylabel="wrong among these, %", xlim=(0, 101))
    axes.set_ylim(0, max(2.0, 1.1 * risk.max()))
    return figure


def _plot_tail(species: Sequence[Mapping[str, Any]], frequency: Sequence[Mapping[str, Any]]) -> "Figure | None":
    """Each species by its training photographs and its share of right answers, with the mean of each class."""
    shown = [row for row in species if row["top1"] is not None]
    if len(shown) < MIN_SPECIES:
        return None
    figure, axes = _figure(5, 3.4)
    num_train = np.maximum([row["num_train_images"] for row in shown], 1)
    tested = np.array([row["num_images"] for row in shown])
    spread = np.random.default_rng(0).uniform(-0.8, 0.8, len(shown))  # so that equal points can be seen
    axes.scatter(
        num_train, 100 * np.array([row["top1"] for row in shown]) + spread,
        s=14 + 90 * tested / max(tested.max(), 1), color=GREEN, alpha=0.45 if len(shown) < 500 else 0.15, linewidth=0,
    )  # fmt: skip
    axes.set_xscale("log")
    first, last = num_train.min() / 1.3, num_train.max() * 1.3
    ends = {"few": (first, FEW), "medium": (FEW, MANY), "many": (MANY, last)}
    for row in frequency:
        mean, (left, right) = part(row, "macro_top1", "value"), ends.get(row["name"], (0, 0))
        if mean is not None and left < right:
            axes.plot([left, right], [100 * mean, 100 * mean], color=ORANGE, linewidth=1.8)
    axes.set(
        xlabel="training photographs of the species", ylabel="right answers, %", ylim=(-5, 105), xlim=(first, last)
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    return figure


def _figure(width: float, height: float, heights: Sequence[float] = (1,)) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(heights), height_ratios=heights)
    for place in [axes] if len(heights) == 1 else axes:
        place.spines[["top", "right"]].set_visible(False)
        place.grid(color="#e8ece8", linewidth=0.8)
        place.set_axisbelow(True)
    return figure, axes


def _format_whole_numbers(axes: "Axes", num_ticks: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(num_ticks, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
