import numpy as np
import pytest
from PIL import Image, ImageEnhance

from aitax_ray.training.light import change_light
from tests.small import photo

IMAGE = photo("A12", 1, (64, 48))


def difference(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, int) - np.asarray(second, int)).max())


def test_factors_of_one_change_nothing() -> None:
    assert difference(change_light(IMAGE), IMAGE) == 0


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.7])
def test_each_change_is_that_of_pillow(factor: float) -> None:
    assert difference(change_light(IMAGE, brightness=factor), ImageEnhance.Brightness(IMAGE).enhance(factor)) <= 1
    assert difference(change_light(IMAGE, contrast=factor), ImageEnhance.Contrast(IMAGE).enhance(factor)) <= 2
    assert difference(change_light(IMAGE, saturation=factor), ImageEnhance.Color(IMAGE).enhance(factor)) <= 2


def test_the_changes_are_made_one_after_the_other() -> None:
    image = Image.fromarray((np.asarray(IMAGE) // 3 + 60).astype(np.uint8))  # nothing is cut off at 0 or 255
    step_by_step = change_light(change_light(change_light(image, saturation=0.8), contrast=1.2), brightness=0.9)
    assert difference(change_light(image, 0.9, 1.2, 0.8), step_by_step) <= 3
