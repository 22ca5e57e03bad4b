import numpy as np
import pytest

from aitax_ray.demo.background import HABITATS, Habitat, draw_background

SIZE = (120, 90)


def background(habitat: Habitat, *, hue: float = 0.0, focus: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.asarray(draw_background(habitat, hue, np.random.default_rng(seed), SIZE, focus), np.float32)


@pytest.mark.parametrize("habitat", HABITATS)
def test_a_background_fills_the_photograph_and_differs_from_one_to_the_next(habitat: Habitat):
    first, other = background(habitat), background(habitat, seed=1)
    assert first.shape == (90, 120, 3)
    assert first.std() > 5
    assert np.abs(first - other).mean() > 5


@pytest.mark.parametrize("habitat", HABITATS)
def test_a_background_in_focus_has_sharper_edges(habitat: Habitat):
    sharp, soft = (np.abs(np.diff(background(habitat, focus=focus), axis=1)).mean() for focus in (1.0, 0.0))
    assert sharp > soft


def test_grass_is_green_soil_is_brown_and_a_warm_hue_is_redder():
    red, green, blue = background("grass").mean(axis=(0, 1))
    assert green > red > blue
    red, green, blue = background("soil").mean(axis=(0, 1))
    assert red > green > blue
    assert background("rock", hue=1.0)[..., 0].mean() > background("rock", hue=-1.0)[..., 0].mean()
