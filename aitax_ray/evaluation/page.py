"""The evaluation as a page for people, report.html, and as a model card, model_card.md."""

from importlib import resources
from typing import Any

from aitax_ray.evaluation.page_plots import draw_plots
from aitax_ray.evaluation.summary import advise, percent, summarize, with_interval

MAX_ROWS = 500  # species in the table; with more, browsers are slow
MAX_SHOWN = 12  # pairs, suspects and species that are shown with photographs
LICENSES = 12


def render_page(
    metrics: dict[str, Any],
    species: list[dict[str, Any]],
    suspects: list[dict[str, Any]],
    about: dict[str, Any],
    thumbnails: dict[str, str],
    credits: dict[str, str],
) -> str:
    """Render report.html: one file, with its pictures inside.

    `metrics` is the content of metrics.json, `species` are the rows of per_species.parquet, `suspects` those of
    suspects.csv. `about` tells of the engine and its data, see evaluate.describe_engine. `thumbnails` holds data URLs
    and `credits` author and licence, both by image_id.
    """
    tested = [row for row in species if row["top1"] is not None]
    hardest = sorted(tested, key=lambda row: (row["top1"], -row["num_images"]))
    page: str = _environment(autoescape=True).get_template("page.html").render(
        metrics=metrics,
        about=about,
        summary=summarize(metrics),
        advice=advise(metrics),
        plots=draw_plots(metrics, species),
        species=hardest[:MAX_ROWS],
        num_unlisted=len(hardest[MAX_ROWS:]),
        suspects=suspects[:MAX_SHOWN],
        pairs=metrics["lookalikes"]["pairs"][:MAX_SHOWN],
        licenses=sorted(about["licenses"].items(), key=lambda item: -item[1])[:LICENSES],
        thumbnails=thumbnails,
        credits=credits,
    )  # fmt: skip
    return page


def render_model_card(metrics: dict[str, Any], about: dict[str, Any]) -> str:
    """Render model_card.md, with the sections of Mitchell et al. 2019, "Model Cards", arXiv 1810.03993."""
    template = _environment(autoescape=False).get_template("model_card.md.j2")
    card: str = template.render(metrics=metrics, about=about, summary=summarize(metrics), advice=advise(metrics))
    return card


def _environment(*, autoescape: bool) -> Any:
    import jinja2

    def read(name: str) -> str:
        return resources.files("aitax_ray.evaluation").joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": with_interval,
        "number": lambda value: "–" if value is None else f"{value:,}",
        "decimal": lambda value: "–" if value is None else f"{value:.3f}",
        "one_line": lambda text: " ".join(str(text).split()),
    }
    return environment
