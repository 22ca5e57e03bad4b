import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from PIL import Image

from aitax_ray.evaluation import report
from aitax_ray.evaluation.metrics import Evaluation
from aitax_ray.evaluation.report import MAX_IN_PLOTS, render_report
from aitax_ray.training.curves import draw_curves
from aitax_ray.training.model import ClassifierInfo
from aitax_ray.training.transforms import EvalTransform

NASTY = "Rana <script>alert(1)</script> & 'co'"
CURVES = draw_curves([{"epoch": 1, "train_loss": 1.0}])
FIGURES = {"top1": 0.876, "top5": 0.987, "macro_top1": 0.654, "ece": 0.0432, "ece_uncalibrated": 0.1234}


class Texts(HTMLParser):
    """The page's tags and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def render(
    names: list[str],
    doi: str = "10.15468/dl.abcdef",
    tops: list[float | None] | None = None,
    figures: Mapping[str, float | None] = FIGURES,
    mistakes: Sequence[tuple[int, int, int]] = (),
    bins: Sequence[tuple[float, float, int]] = ((0.5, 0.4, 3), (0.9, 0.95, 7)),
) -> str:
    num = len(names)
    tops = tops or [0.5 + 0.5 * n / num for n in range(num)]
    rows = [
        {
            "species_key": f"k{n}",
            "class_index": n,
            "name": name,
            "num_train_images": 1000 + n,
            "num_images": 0 if tops[n] is None else 2,
            "top1": tops[n],
            "top5": tops[n],
            "most_often_taken_for": names[0] if n else "",
        }
        for n, name in enumerate(names)
    ]
    pairs = np.array(sorted([*((n, n, 2) for n in range(num)), *mistakes]))
    result = Evaluation(dict(figures), 1.3, list(bins), pairs, np.full(num, 2), np.ones(num), np.ones(num))
    info = ClassifierInfo(
        arch="resnet18",
        classes=[f"k{n}" for n in range(num)],
        embedding_size=512,
        transform=EvalTransform(crop_size=32, resize_size=37),
        epoch=1,
        versions={},
    )
    return render_report(result, rows, {"val": 9, "test": 1234, "species": num}, info, CURVES, {"doi": doi})


def test_the_report_holds_the_figures_and_the_origin_of_the_data() -> None:
    page = render(["Rana alba", "Rana rubra"])
    text = " ".join(Texts(page).text)
    for figure in ("87.6 %", "98.7 %", "65.4 %", "0.043", "0.123", "1.30", "1,234 photographs", "resnet18, 2 species"):
        assert figure in text, figure
    assert 'href="https://doi.org/10.15468/dl.abcdef"' in page


def test_the_report_of_data_without_a_doi_names_none() -> None:
    assert "doi.org" not in render(["Rana alba", "Rana rubra"], doi="")


def test_names_are_text_and_never_markup() -> None:
    parsed = Texts(render(["Rana alba", NASTY]))
    assert "script" not in parsed.tags
    assert NASTY in "".join(parsed.text)


def test_plots_are_inside_the_page() -> None:
    page = render(["Rana alba", "Rana rubra"])
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert len(sources) == 4
    images = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert images[0] == CURVES
    assert all(Image.open(io.BytesIO(image)).format == "PNG" for image in images)
    assert "http" not in re.sub(r"https://doi\.org/\S+", "", page)


def test_text_in_names_is_text_in_every_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(RendererAgg, "draw_mathtext", lambda *_: pytest.fail("a name was taken for a formula"))
    draw_text = RendererAgg.draw_text
    monkeypatch.setattr(RendererAgg, "draw_text", lambda self, *a, **k: (seen.append(a[3]), draw_text(self, *a, **k)))
    names = ["Rana $\\alpa$", "Rana $x$", "Rana $", "Rana \\frac{", "蛙 sp.", "Rana\x07alba\n", "Rana" * 99]
    page = render(names)
    assert page.count("<img") == 4
    for name in names[:4]:
        assert any(name in text for text in seen), name
    assert all(html.escape(name) in page for name in names)


def test_many_species_are_listed_and_only_the_most_confused_are_plotted() -> None:
    names = [f"Rana nr{n}" for n in range(MAX_IN_PLOTS + 1)]
    page = render(names)
    assert page.count("<img") == 2
    assert all(f">{name}<" in page for name in names)
    page = render(names, mistakes=[(0, MAX_IN_PLOTS, 1)])
    assert page.count("<img") == 3
    assert "Confusion matrix, 2 most confused species" in page


def test_a_long_table_ends_with_the_number_of_those_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_ROWS", 2)
    page = render(["Rana alba", "Rana rubra", "Rana nova"], tops=[0.5, 0.2, 0.9])
    assert re.findall(r'<tr><td class="species">([^<]*)<', page) == ["Rana rubra", "Rana alba"]
    assert "1 easier species are not listed here" in page


def test_figures_that_are_no_numbers_are_said_to_be_none() -> None:
    page = render(["Rana alba", "Rana rubra"], figures=dict.fromkeys(FIGURES), bins=[])
    assert " ".join(Texts(page).text).count("not a number") == 5
    assert page.count("<img") == 3


def test_the_hardest_species_come_first_and_untested_ones_are_counted() -> None:
    page = render(["Rana alba", "Rana rubra", "Rana nova"], tops=[1.0, 0.5, None])
    listed = re.findall(r'<tr><td class="species">([^<]*)<', page)
    assert listed == ["Rana rubra", "Rana alba"]
    assert "1 species have too few occurrences" in page
