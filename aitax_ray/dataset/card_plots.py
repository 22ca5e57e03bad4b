"""The plots of the data card: facts in, PNG data URLs out. A plot without data says so."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aitax_ray.dataset.caveats import plain
from aitax_ray.plots import to_data_url, to_label, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREEN, LIGHT, BLUE, ORANGE, GREY = "#2f6f4f", "#a9cdb8", "#3a6ea5", "#d0803a", "#b8b8b8"
SIDE_COLOURS = {"train": GREEN, "val": ORANGE, "test": BLUE}
REASONS = 6  # bars for each step of the funnel, the rest in one
YEARS = 40  # bars; beyond, they are of decades
DECADES = 20
ZOOM = 90  # degrees; what spans less is also shown closer
MARGIN = 3  # degrees around it
FEW_CELLS = 1000  # are drawn larger on the world, where a degree is a point and a half
WIDTH = 6  # inches; few, so that texts can still be read on a phone
DPI = 150


def long_tail(species: Sequence[dict[str, Any]]) -> str:
    """Plot the photographs per species: in all, to train and to test with, each sorted by number."""
    figure, axes = _figure(3.6)
    if not species:
        return _draw_empty(figure, axes)
    edges = [number + 0.5 for number in range(len(species) + 1)]
    axes.stairs([row["num_images"] for row in species], edges, fill=True, color=LIGHT, label="all", baseline=0.5)
    for side in ("train", "test"):
        # Each line sorted on its own: along the order of all it would be a band of noise.
        counts = sorted((row[side] for row in species), reverse=True)
        axes.stairs(counts, edges, color=SIDE_COLOURS[side], label=side, baseline=None, linewidth=1.6)
    axes.set_yscale("log")
    axes.set(xlabel="species, the commonest first", ylabel="photographs", xlim=(edges[0], edges[-1]))
    axes.set_ylim(0.7, max(10, *(row["num_images"] for row in species)) * 1.5)
    _format_whole_numbers(axes.xaxis)
    _format_whole_numbers(axes.yaxis)
    axes.legend(frameon=False, ncols=3)
    return _to_url(figure)


def funnel(steps: Sequence[dict[str, Any]]) -> str:
    """Plot the number of photographs at each step, and below it what is left out before the next step."""
    bars: list[tuple[str, int, int, str]] = []  # label, where it begins, how long it is, colour
    for step in steps:
        bars.append((step["title"], 0, step["num"], GREEN))
        left, after = step["left_out"], step["num"] + sum(entry["num"] for entry in step["added"])
        bars += [(f"+ {plain(entry['reason'])}", step["num"], entry["num"], BLUE) for entry in step["added"]]
        others = sum(entry["num"] for entry in left[REASONS:])
        shown = [(plain(entry["reason"]), entry["num"]) for entry in left[:REASONS]]
        for label, number in shown + ([("other reasons", others)] if len(left) > REASONS else []):
            after -= number
            bars.append((f"− {label}", after, number, ORANGE))
    figure, axes = _figure(0.7 + 0.27 * max(len(bars), 4))
    most = max((begin + length for _, begin, length, _ in bars), default=0)
    if not most:
        return _draw_empty(figure, axes)
    for place, (_, begin, length, colour) in enumerate(bars):
        axes.barh(place, length, left=begin, color=colour, height=0.75)
        axes.annotate(f"{length:,}", (begin + length, place), (4, 0), textcoords="offset points", va="center", size=8)
    _name_bars(axes, [label for label, *_ in bars])
    for text, (*_, colour) in zip(axes.get_yticklabels(), bars, strict=True):
        text.set_fontweight("bold" if colour == GREEN else "normal")
    axes.set(xlim=(0, most * 1.15), xlabel="photographs (rows of the archive at the first step)")
    _format_whole_numbers(axes.xaxis)
    return _to_url(figure)


def shares(counts: dict[str, Any]) -> str:
    """Plot bars for the commonest values; all others share one bar, and so do photographs without a value."""
    bars = [(entry["name"], entry["num_images"], GREEN) for entry in counts["top"]]
    more = counts["num_distinct"] - len(counts["top"])
    if counts["num_others"]:
        bars.append((f"{more:,} others", counts["num_others"], LIGHT))
    if counts["num_unknown"]:
        bars.append(("not known", counts["num_unknown"], GREY))
    figure, axes = _figure(0.7 + 0.27 * max(len(bars), 2))
    if not bars:
        return _draw_empty(figure, axes)
    total = sum(number for _, number, _ in bars)
    axes.barh(range(len(bars)), [number for _, number, _ in bars], color=[colour for *_, colour in bars], height=0.75)
    for place, (_, number, _) in enumerate(bars):
        text = f"{number:,} ({100 * number / total:.1f} %)"
        axes.annotate(text, (number, place), (4, 0), textcoords="offset points", va="center", size=8)
    _name_bars(axes, [label for label, *_ in bars])
    axes.set(xlim=(0, max(number for _, number, _ in bars) * 1.3), xlabel="photographs")
    _format_whole_numbers(axes.xaxis)
    return _to_url(figure)


def years(counts: Sequence[Sequence[int]]) -> str:
    """Plot photographs per year, or per decade when they span many years."""
    figure, axes = _figure(2.8)
    if not counts:
        return _draw_empty(figure, axes)
    first, last = counts[0][0], counts[-1][0]
    width, label = (1, "year") if last - first < YEARS else (10, "decade")
    least = (last // width - (DECADES if width == 10 else YEARS) + 1) * width
    bars: dict[int, int] = {}
    for year, number in counts:
        begin = max(year // width * width, least)
        bars[begin] = bars.get(begin, 0) + number
    axes.bar([begin + width / 2 for begin in bars], list(bars.values()), width=width * 0.9, color=GREEN)
    axes.set(xlabel=f"{label}{f', the first with all before {least + width}' if first < least else ''}")
    axes.set(ylabel="photographs", xlim=(min(bars) - width / 2, max(bars) + 1.5 * width))
    if width == 1:
        ticks = range(min(bars), max(bars) + 1, max(1, (max(bars) - min(bars)) // 12))
        axes.set_xticks([year + 0.5 for year in ticks], [str(year) for year in ticks])
    _format_whole_numbers(axes.yaxis)
    return _to_url(figure)


def world(cells: Sequence[Sequence[int]]) -> str:
    """Plot occurrences per cell of one degree on a world map, and again enlarged when they lie close together."""
    from matplotlib.colors import LogNorm

    if not cells:
        return _draw_empty(*_figure(2))
    south, west, number = (list(column) for column in zip(*cells, strict=True))
    box = *_middle(west, number, (-180, 180)), *_middle(south, number, (-90, 90))
    closer = box[1] - box[0] < ZOOM and box[3] - box[2] < ZOOM
    ratio = (box[3] - box[2]) / (box[1] - box[0])
    heights = [2.9, min(4.6 * ratio + 0.5, 4.5)] if closer else [2.9]
    figure, axes = _figure(sum(heights), heights=heights)
    norm = LogNorm(1, max(10, *number))
    frames = [(-180, 180, -90, 90), box] if closer else [(-180, 180, -90, 90)]
    for place, (left, right, low, high) in zip(axes if closer else [axes], frames, strict=True):
        place.set(xlim=(left, right), ylim=(low, high), aspect="equal")
        step = next(step for step in (2, 5, 10, 15, 30, 60) if step == 60 or (right - left) / step <= 8)
        place.set_xticks(*_degrees(left, right, step, "W", "E"))
        place.set_yticks(*_degrees(low, high, step, "S", "N"))
        place.grid(color="0.88", linewidth=0.6)
        for latitude in (-66.56, -23.44, 0, 23.44, 66.56):  # polar circles, tropics, equator
            place.axhline(latitude, color="0.7", linewidth=0.7, linestyle="--" if latitude else "-")
        place.axvline(0, color="0.7", linewidth=0.7)
        points = 0.8 * min(WIDTH / (right - left), heights[-1] / (high - low)) * 72  # a degree is wide
        at = [x + 0.5 for x in west], [y + 0.5 for y in south]
        dots = place.scatter(
            *at,
            c=number,
            s=max(points, 3.5 if len(cells) < FEW_CELLS else 2) ** 2,
            marker="s",
            linewidths=0,
            cmap="viridis_r",
            norm=norm,
            zorder=3,
        )
        place.set_axisbelow(True)
    figure.colorbar(dots, ax=axes, label="occurrences", shrink=0.7, pad=0.01, aspect=30)
    return _to_url(figure)


def sizes(found: dict[str, Any]) -> str:
    """Plot histograms of the shorter side and of the megapixels of the stored photographs."""
    figure, axes = _figure(2.9, columns=2)
    names = {"shorter_side_px": "shorter side, px", "megapixels": "megapixels"}
    if not any(sum(found[name]["counts"]) for name in names):
        for place in axes[1:]:
            place.remove()
        return _draw_empty(figure, axes[0])
    for place, (name, title) in zip(axes, names.items(), strict=True):
        edges, counts = found[name]["edges"], found[name]["counts"]
        labels = [f"< {edges[0]}", *(f"{a}–{b}" for a, b in pairwise(edges)), f"≥ {edges[-1]}"]
        filled = [position for position, number in enumerate(counts) if number]
        shown = range(filled[0], filled[-1] + 1)  # without the empty bins at both ends
        place.bar([labels[n] for n in shown], [counts[n] for n in shown], color=GREEN, width=0.9)
        place.tick_params(axis="x", labelrotation=60 if len(shown) > 3 else 0, labelsize=8)
        place.set(xlabel=title, ylabel="photographs", xlim=(-0.8, max(len(shown), 3) - 0.2))
        _format_whole_numbers(place.yaxis)
    return _to_url(figure)


def split(sides: dict[str, dict[str, Any]]) -> str:
    """Plot the share of each side in photographs, occurrences and groups."""
    figure, axes = _figure(2.0)
    rows = {"photographs": "num_images", "occurrences": "num_occurrences", "groups": "num_groups"}
    begin = dict.fromkeys(rows, 0.0)
    if not any(side["num_images"] for side in sides.values()):
        return _draw_empty(figure, axes)
    for side, found in sides.items():
        for row, name in rows.items():
            share = found[name] / max(sum(other[name] for other in sides.values()), 1)
            axes.barh(row, share, left=begin[row], color=SIDE_COLOURS[side], label=side if name == "num_images" else "")
            if share > 0.07:
                text = f"{found[name]:,}"
                axes.text(begin[row] + share / 2, row, text, ha="center", va="center", color="white", size=8)
            begin[row] += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share")
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return _to_url(figure)


def _to_url(figure: "Figure") -> str:
    return to_data_url(to_png(figure, DPI))


def _middle(places: Sequence[int], number: Sequence[int], ends: tuple[int, int]) -> tuple[int, int]:
    """Find the degrees between which the middle 90 percent lie, with a margin. So outliers do not set the scale."""
    import numpy as np

    order = np.argsort(places)
    running = np.cumsum(np.array(number)[order])
    first, last = (np.searchsorted(running, running[-1] * share) for share in (0.05, 0.95))
    return max(places[order[first]] - MARGIN, ends[0]), min(places[order[last]] + 1 + MARGIN, ends[1])


def _figure(height: float, columns: int = 1, heights: Sequence[float] = (1,)) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(heights), columns, height_ratios=heights)
    for place in [axes] if len(heights) * columns == 1 else axes:
        place.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_empty(figure: "Figure", axes: "Axes") -> str:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="0.4", transform=axes.transAxes)
    figure.set_size_inches(WIDTH, 0.8)
    return _to_url(figure)


def _name_bars(axes: "Axes", names: Sequence[str]) -> None:
    """Name the bars, the first on top."""
    axes.set_yticks(range(len(names)), [to_label(name) for name in names], size=9, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _degrees(first: float, last: float, step: int, below: str, above: str) -> tuple[list[int], list[str]]:
    ticks = [tick for tick in range(-180, 181, step) if first <= tick <= last]
    return ticks, [f"{abs(tick)}°{'' if tick in (0, -180, 180) else below if tick < 0 else above}" for tick in ticks]


def _format_whole_numbers(axis: Any, num_ticks: int = 5) -> None:
    """Write ticks as whole numbers with a comma between thousands."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    if axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(num_ticks, integer=True, min_n_ticks=1))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 or value == 0 else ""))
