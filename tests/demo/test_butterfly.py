from dataclasses import replace

import numpy as np
import pytest

from aitax_ray.demo.butterfly import BAND_WIDTH, draw_butterfly
from aitax_ray.demo.canvas import Canvas, Pose
from aitax_ray.demo.species import SPECIES, ButterflyTraits, WingShape

BUTTERFLIES = [s.traits for s in SPECIES if isinstance(s.traits, ButterflyTraits)]
EMBER = BUTTERFLIES[0]
BLUE = (0, 0, 250)
RADIUS = 90  # px on the finished sheet


def sheet(traits: ButterflyTraits, opening: float = 1.0) -> np.ndarray:
    canvas = Canvas((300, 300), Pose((300.0, 300.0), 2.0 * RADIUS, 0.0, 0.0, 0.0))
    draw_butterfly(canvas, traits, np.random.default_rng(0), opening)
    return np.asarray(canvas.finish()).astype(int)


def test_the_wings_are_as_wide_left_as_right():
    opacity = sheet(EMBER)[..., 3] > 128
    left, right = opacity[:, :150].sum(), opacity[:, 150:].sum()
    assert left == pytest.approx(right, rel=0.15)


def test_raised_wings_look_narrower():
    widths = [np.flatnonzero((sheet(EMBER, opening)[..., 3] > 128).any(axis=0)).size for opening in (1.0, 0.7)]
    assert widths[1] < 0.8 * widths[0]


def test_the_band_of_one_ember_lies_further_out_than_that_of_the_other():
    reach = []
    for traits in BUTTERFLIES[:2]:
        pixels = sheet(replace(traits, band_colour=BLUE))
        y, x = np.nonzero((pixels[..., 2] > 150) & (pixels[..., 0] < 80))
        reach.append(np.hypot(x - 150, y - 150).mean() / RADIUS)
    assert reach[1] - reach[0] > BAND_WIDTH


@pytest.mark.parametrize("num_spots", [0, 1, 3])
def test_each_wing_has_the_spots_of_its_species(num_spots: int):
    # All else is black, so that the spots' rings are all the blue there is.
    traits = replace(EMBER, base_colour=(0, 0, 0), margin_colour=(0, 0, 0), band_colour=None, spot_size=0.1)
    pixels = sheet(replace(traits, num_spots=num_spots, spot_colour=BLUE))
    area = ((pixels[..., 2] > 200) & (pixels[..., 0] < 40)).sum() / RADIUS**2
    ring = np.pi * 0.1**2 * (1 - 0.66**2)
    assert area == pytest.approx(4 * num_spots * ring, rel=0.35)


def test_the_shape_with_tails_reaches_further_back():
    lowest: dict[WingShape, int] = {}
    for shape in ("rounded", "pointed", "tailed"):
        lowest[shape] = np.flatnonzero((sheet(replace(EMBER, wing_shape=shape))[..., 3] > 128).any(axis=1)).max() - 150
    assert lowest["tailed"] > 1.3 * max(lowest["rounded"], lowest["pointed"])
