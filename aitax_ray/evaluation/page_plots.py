"""The plots of the evaluation's page, as data URLs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray.plots import to_data_url, to_label, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN, PALE, GREY, RED = "#2f6f4f", "#a9cdb8", "#888888", "#b5482f"
MAX_GROUPS = 15
DPI = 130


def draw_plots(metrics: dict[str, Any], species: list[dict[str, Any]]) -> dict[str, str]:
    """Draw all plots for which there are figures: name -> data URL."""
    drawn = {
        "ranks": _plot_figures([(name, row["top1"]) for name, row in metrics["ranks"].items()], "right answers"),
        "frequency": _plot_figures(
            [(f"{row['name']} ({row['num_species']})", row["macro_top1"]) for row in metrics["frequency"]],
            "macro top-1, by training photographs per species",
        ),
        "occurrences": _plot_figures(
            [(f"{row['num_photographs']} ({row['num']:,})", row["top1"]) for row in metrics["occurrences"]],
            "right answers, by photographs of the individual",
        ),
        "reliability": _plot_reliability(metrics["calibration"]),
        "risk": _plot_risk(metrics["rejection"]["risk_coverage"]),
        "tail": _plot_tail(species),
        **{f"group {name}": _plot_groups(rows) for name, rows in metrics["groups"].items()},
    }
    return {name: to_data_url(to_png(figure, DPI)) for name, figure in drawn.items() if figure is not None}


def _plot_figures(rows: list[tuple[str, dict[str, Any]]], title: str) -> "Figure | None":
    """Shares with their intervals, as points on a line."""
    rows = [(name, figure) for name, figure in rows if figure and figure["value"] is not None]
    if not rows:
        return None
    figure, axes = _figure(5.4, 0.75 + 0.42 * len(rows))
    for place, (_, found) in enumerate(rows):
        low = found["value"] if found["low"] is None else found["low"]
        high = found["value"] if found["high"] is None else found["high"]
        axes.plot([low, high], [place, place], color=PALE, linewidth=7, solid_capstyle="round")
        axes.plot([found["value"]], [place], "o", color=GREEN)
        axes.annotate(f"{100 * found['value']:.1f}", (found["value"], place), xytext=(0, 7), textcoords="offset points",
                      ha="center", fontsize=8, color=GREEN)  # fmt: skip
    axes.set_yticks(range(len(rows)), [to_label(name) for name, _ in rows], parse_math=False)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{title}, %")
    lowest = min(found["value"] if found["low"] is None else found["low"] for _, found in rows)
    _percent_axis(axes, 0.0 if lowest < 0.5 else max(0.0, lowest - 0.05))
    return figure


def _plot_reliability(calibration: dict[str, Any]) -> "Figure | None":
    if not calibration["bins"]:
        return None
    figure, axes = _figure(4.4, 4.2)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for name, colour, label in (("bins_before", RED, "before calibration"), ("bins", GREEN, "after")):
        score, share, number = (np.array(column) for column in zip(*calibration[name], strict=True))
        axes.plot(score, share, color=colour, alpha=0.5, linewidth=1)
        axes.scatter(score, share, s=12 + 160 * number / number.sum(), color=colour, alpha=0.8, label=label)
    axes.set(xlabel="score", ylabel="share of right answers", xlim=(0, 1.03), ylim=(-0.03, 1.05))
    axes.legend(frameon=False, loc="upper left", markerscale=0.7)
    return figure


def _plot_risk(curve: list[list[float]]) -> "Figure | None":
    if len(curve) < 2:
        return None
    figure, axes = _figure(4.4, 4.2)
    coverage, risk = zip(*curve, strict=True)
    axes.fill_between(coverage, risk, color=PALE, alpha=0.6)
    axes.plot(coverage, risk, color=GREEN)
    axes.set(xlabel="share of photographs answered", ylabel="share of wrong answers among these", xlim=(0, 1.02))
    axes.set_ylim(0, max(0.05, 1.1 * max(risk)))
    return figure


def _plot_tail(species: list[dict[str, Any]]) -> "Figure | None":
    """Each species: its training photographs against its share of right answers."""
    shown = [row for row in species if row["top1"] is not None]
    if len(shown) < 3:
        return None
    figure, axes = _figure(5.4, 4.2)
    chance = np.random.default_rng(0).normal(0, 0.006, len(shown))  # so that equal points can be seen
    size = np.array([row["num_images"] for row in shown])
    axes.scatter(
        [max(row["num_train_images"], 1) for row in shown],
        np.array([row["top1"] for row in shown]) + chance,
        s=14 + 90 * size / size.max(),
        color=GREEN,
        alpha=0.45 if len(shown) < 500 else 0.2,
        linewidth=0,
    )
    axes.set_xscale("log")
    axes.set(
        xlabel="training photographs (size: test photographs)", ylabel="share of right answers", ylim=(-0.05, 1.05)
    )
    return figure


def _plot_groups(rows: list[dict[str, Any]]) -> "Figure | None":
    if len(rows) < 2:
        return None
    return _plot_figures(
        [(f"{row['name'] or 'not given'} ({row['num_photographs']:,})", row["top1"]) for row in rows[:MAX_GROUPS]],
        "right answers",
    )


def _percent_axis(axes: "Axes", low: float) -> None:
    axes.set_xlim(low - 0.01, 1.02)
    ticks = [tick for tick in axes.get_xticks() if low - 0.01 <= tick <= 1.001]
    axes.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])


def _figure(width: float, height: float) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    return figure, axes
