import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aitax_ray.evaluation import page_plots
from aitax_ray.evaluation.page_plots import draw_plots

BINS = [[0.3, 0.2, 4], [0.97, 0.99, 60]]


def make_species(num: int, top1: float | None = 0.5) -> list[dict[str, Any]]:
    return [{"num_train_images": place, "num_images": 3, "top1": top1} for place in range(num)]


def test_plots_are_pictures() -> None:
    metrics = {
        "calibration": {"bins": BINS, "bins_before": BINS},
        "rejection": {"risk_coverage": [[0.5, 0.0], [1.0, 0.1]]},
        "frequency": [{"name": "few", "macro_top1": {"value": 0.5}}, {"name": "many", "macro_top1": None}],
    }
    plots = draw_plots(metrics, make_species(5000))
    assert sorted(plots) == ["reliability", "risk", "tail"]
    for source in plots.values():
        head, code = source.split(",")
        assert head == "data:image/png;base64"
        image = np.array(Image.open(io.BytesIO(base64.b64decode(code))).convert("L"))
        assert image.min() < 100 < image.max()


@pytest.mark.parametrize("metrics", [{}, {"calibration": None, "rejection": None, "frequency": None}])
def test_what_was_not_measured_is_not_plotted(metrics: dict[str, Any]) -> None:
    assert draw_plots(metrics, []) == {}
    assert draw_plots(metrics, make_species(2)) == {}
    assert draw_plots(metrics, make_species(9, None)) == {}


def test_one_photograph_can_be_plotted() -> None:
    plots = draw_plots({"calibration": {"bins": [[1.0, 1.0, 1]]}, "rejection": {"risk_coverage": [[1.0, 0.0]]}}, [])
    assert sorted(plots) == ["reliability"]


def test_points_of_the_reliability_diagram_are_the_bins() -> None:
    figure = page_plots._plot_reliability({"bins": BINS})
    assert figure is not None
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(np.asarray(points.get_offsets()), [row[:2] for row in BINS])
    assert [bar.get_height() for bar in figure.axes[1].patches] == [4, 60]


def test_lines_of_the_tail_are_the_means_of_the_classes() -> None:
    rows = [{"name": name, "macro_top1": {"value": mean}} for name, mean in (("many", 0.9), ("medium", 0.8))]
    species = [{"num_train_images": num, "num_images": 1, "top1": 1.0} for num in (30, 50, 300)]
    figure = page_plots._plot_tail(species, rows)
    assert figure is not None
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[90, 90], [80, 80]]  # type: ignore[union-attr]
    assert [min(line.get_xdata()) for line in figure.axes[0].lines] == [100, 20]  # type: ignore[arg-type]
