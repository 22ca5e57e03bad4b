from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aitax_ray.demo.canvas import Canvas, Pose
from aitax_ray.demo.flower import draw_flower, draw_perch
from aitax_ray.demo.species import SPECIES, FlowerTraits

FLOWERS = [s.traits for s in SPECIES if isinstance(s.traits, FlowerTraits)]
ROSE = FLOWERS[0]
RADIUS = 100  # px on the finished sheet


def sheet(traits: FlowerTraits) -> np.ndarray:
    canvas = Canvas((300, 300), Pose((300.0, 300.0), 2.0 * RADIUS, 0.0, 0.0, 0.0))
    draw_flower(canvas, traits, np.random.default_rng(0), sun=1.0, stem_towards=-1.5)
    return np.asarray(canvas.finish()).astype(int)


def petals_crossed(traits: FlowerTraits, at: float) -> int:
    """How many petals a circle of radius `at` around the centre crosses: runs of pixels that are not green or bare."""
    pixels = sheet(replace(traits, petal_colour=(250, 0, 250), throat_colour=(250, 0, 250)))
    turns = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    x, y = (150 + at * RADIUS * np.cos(turns)).astype(int), (150 - at * RADIUS * np.sin(turns)).astype(int)
    red, green, _, opacity = pixels[y, x].T
    petal = (opacity > 200) & (red > green + 60)
    return int((petal & ~np.roll(petal, 1)).sum())


@pytest.mark.parametrize(
    ("traits", "at"), [(FLOWERS[0], 0.88), (FLOWERS[1], 0.91), (FLOWERS[6], 0.5), (FLOWERS[7], 0.8)]
)
def test_a_flower_has_the_petals_of_its_species(traits: FlowerTraits, at: float):
    assert petals_crossed(traits, at) == traits.num_petals


def test_the_centre_has_its_colour_and_size():
    pixels = sheet(replace(ROSE, centre_colour=(0, 0, 250)))
    blue = (pixels[..., 2] > 120) & (pixels[..., 0] < 60)
    measured = np.sqrt(blue.sum() / np.pi) / RADIUS
    assert measured == pytest.approx(ROSE.centre_size, rel=0.2)


@pytest.mark.parametrize("change", [{"second_ring": (0, 0, 250)}, {"stripe_colour": (0, 0, 250)}, {"notched": True}])
def test_each_trait_shows(change: dict[str, object]):
    assert np.abs(sheet(replace(ROSE, **change)) - sheet(ROSE)).mean() > 0.3


def test_the_leaves_of_each_shape_differ():
    shapes = [sheet(replace(ROSE, leaf_shape=shape)).tobytes() for shape in ("oval", "lance", "lobed")]
    assert len(set(shapes)) == 3


def test_a_perch_lies_under_the_middle_and_is_green():
    canvas = Canvas((300, 300), Pose((300.0, 300.0), 120.0, 0.0, 0.0, 0.0))
    draw_perch(canvas, np.random.default_rng(0))
    leaf: Image.Image = canvas.finish()
    red, green, blue, opacity = leaf.getpixel((150, 150))
    assert opacity == 255
    assert green > red > blue
