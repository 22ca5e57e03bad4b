import base64
import io

from PIL import Image

from aitax_ray.evaluation.page_plots import draw_plots
from tests.evaluation.worlds import make_metrics, make_world


def test_all_plots_are_drawn_where_there_are_figures() -> None:
    world = make_world()
    plots = draw_plots(make_metrics(world), world[1].species)
    assert set(plots) == {"ranks", "frequency", "occurrences", "reliability", "risk", "tail", "group country"}
    for source in plots.values():
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))
        assert picture.width > 300
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10


def test_without_figures_there_is_no_plot() -> None:
    world = make_world(num_val=0, num_test=1)
    assert set(draw_plots(make_metrics(world), world[1].species)) == {
        "ranks",
        "frequency",
        "occurrences",
        "reliability",
    }
