"""The evaluation as a page for people, report.html, and as a model card, model_card.md."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from aitax_ray.evaluation.hardest import sort_hardest
from aitax_ray.evaluation.page_plots import draw_plots
from aitax_ray.evaluation.summary import count, is_number, limits, part, percent, summarize, with_interval
from aitax_ray.licenses import deed
from aitax_ray.web import web_address

# Lists are bounded: browsers are slow with long tables, and nobody reads them. The page says how much it leaves out.
MAX_ROWS = 200  # species in the table, and names of species in a list
MAX_SHOWN = 9  # pairs, suspects and species that are shown with photographs
MIN_MISTAKES = 2  # of a pair of species that is shown with photographs
MAX_GROUPS = 15  # values of a column, groups of look-alikes, licences
MARKDOWN = re.compile(r"([\\`*_\[\]<>|#$&~])")

Rows = Sequence[Mapping[str, Any]]


def list_shown(metrics: Mapping[str, Any], suspects: Rows) -> set[str]:
    """List the photographs that the page shows (image_id): those that need a thumbnail and a credit."""
    worst, pairs = _list_cards(metrics)
    shown = {row["image_id"] for row in suspects[:MAX_SHOWN]}
    shown |= {row.get(side) or "" for row in worst for side in ("image", "image_taken_for")}
    shown |= {row.get(side) or "" for row in pairs for side in ("image_a", "image_b")}
    return shown - {""}


def render_page(
    metrics: Mapping[str, Any],
    species: Rows,
    suspects: Rows,
    about: Mapping[str, Any],
    thumbnails: Mapping[str, str],
    credits: Mapping[str, Mapping[str, str]],
) -> str:
    """Render report.html: one file, with its pictures inside.

    `metrics` is the content of metrics.json, `species` are the rows of per_species.parquet, `suspects` those of
    suspects.csv. `thumbnails` are data URLs by image_id. `credits` by image_id have creator, license (as
    `licenses.normalise` names it) and references (a web page). `about` describes the engine and its data: arch, recipe,
    head, embedding_size, version, created, test_set (where the photographs come from if not from the test side), doi,
    citation, num_train, licenses (number of photographs by licence), caveats, curves (a data URL), min_group. All of
    `about` and all parts of `metrics` may be missing: the page says so or leaves the part out.
    """
    hardest = sort_hardest(species)
    worst, pairs = _list_cards(metrics)
    page: str = _environment(autoescape=True).get_template("page.html").render(
        metrics=metrics,
        about=about,
        summary=summarize(metrics),
        plots=draw_plots(metrics, species),
        species=hardest[:MAX_ROWS],
        num_tested=len(hardest),
        suspects=suspects[:MAX_SHOWN],
        worst=worst,
        pairs=pairs,
        licenses=sorted((about.get("licenses") or {}).items(), key=lambda item: -item[1]),
        thumbnails=thumbnails,
        credits=credits,
        MAX_ROWS=MAX_ROWS,
        MAX_GROUPS=MAX_GROUPS,
    )  # fmt: skip
    return page


def render_model_card(metrics: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Render model_card.md, with the sections of Mitchell et al. 2019, "Model Cards", arXiv 1810.03993."""
    template = _environment(autoescape=False).get_template("model_card.md.j2")
    card: str = template.render(metrics=metrics, about=about, summary=summarize(metrics), MAX_GROUPS=MAX_GROUPS)
    return card


def _list_cards(metrics: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """The worst species, and the pairs of look-alikes that are not shown with these."""
    worst = list(part(metrics, "worst") or [])[:MAX_SHOWN]
    is_shown = {frozenset((row["name"], row["taken_for"])) for row in worst}
    pairs = [
        row
        for row in part(metrics, "lookalikes", "pairs") or []
        if row["a_as_b"] + row["b_as_a"] >= MIN_MISTAKES and {row["a"], row["b"]} not in is_shown
    ]
    return worst, pairs[:MAX_SHOWN]


@cache
def _environment(*, autoescape: bool) -> Any:
    import jinja2

    def read(name: str) -> str:
        return resources.files("aitax_ray.evaluation").joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=autoescape,
        undefined=jinja2.ChainableUndefined,  # any part may be missing
        finalize=_keep_units if autoescape else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "interval": with_interval,
        "limits": limits,
        "number": lambda value: f"{value:,}" if is_number(value) else "–",
        "decimal": lambda value, digits=3: f"{value:.{digits}f}" if is_number(value) else "–",
        "points": lambda value: f"{100 * value:+.1f}" if is_number(value) else "–",
        "plain": lambda text: str(text or "–").replace("_", " "),
        "md": lambda text: MARKDOWN.sub(r"\\\1", " ".join(str(text or "–").split())),
        "deed": deed,
        "address": lambda text: web_address(str(text or "")),
        "floor": _floor,
        "at": lambda value, floor: round(100 * min(max((value - floor) / (1 - floor), 0), 1), 2),
    }
    environment.tests["figure"] = lambda figure: is_number(part(figure, "value"))
    environment.tests["finite"] = is_number
    return environment


def _keep_units(value: Any) -> Any:
    """Keep a number and its percent sign on one line."""
    return value.replace(" %", "\xa0%") if isinstance(value, str) else value


def _floor(figures: Sequence[Any]) -> float:
    """Where the bars of a table begin: at 50 %, if all its figures and intervals are above it, else at 0 %."""
    ends = [part(figure, name) for figure in figures for name in ("value", "low")]
    numbers = [end for end in ends if is_number(end)]
    return 0.5 if numbers and min(numbers) > 0.5 else 0.0
