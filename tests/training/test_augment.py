import numpy as np
import pytest

from aitax_ray.training.augment import ASPECT, Augmentation, random_box
from tests.small import photo

PIXELS = np.asarray(photo("A12", 1, (90, 60)))


def test_a_photograph_looks_the_same_in_the_same_epoch_whatever_came_before() -> None:
    first = Augmentation(32, seed=3)(PIXELS, "a", 5)
    other = Augmentation(32, seed=3)
    other(PIXELS, "b", 5)
    np.testing.assert_array_equal(other(PIXELS, "a", 5), first)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8


@pytest.mark.parametrize(("seed", "image_id", "epoch"), [(4, "a", 5), (3, "b", 5), (3, "a", 6)])
def test_another_seed_photograph_or_epoch_gives_another_view(seed: int, image_id: str, epoch: int) -> None:
    first = Augmentation(32, seed=3)(PIXELS, "a", 5)
    assert not np.array_equal(Augmentation(32, seed=seed)(PIXELS, image_id, epoch), first)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (1, 1), (300, 7)])
def test_boxes_stay_inside(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(rng, *size, 0.35) for _ in range(500)])
    left, top, right, bottom = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= size[0] + 1e-9).all()
    assert (bottom <= size[1] + 1e-9).all()
    assert (right > left).all()
    assert (bottom > top).all()


def test_boxes_have_the_area_and_aspect_that_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    left, top, right, bottom = np.array([random_box(rng, 100, 100, 0.2) for _ in range(500)]).T
    area, aspect = (right - left) * (bottom - top) / 100**2, (right - left) / (bottom - top)
    fits = (right - left < 100) & (bottom - top < 100)
    assert area[fits].min() >= 0.2
    assert area.max() > 0.9
    assert aspect[fits].min() >= ASPECT[0] - 1e-9
    assert aspect[fits].max() <= ASPECT[1] + 1e-9


def test_about_half_of_the_views_are_mirrored() -> None:
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    views = [Augmentation(32, jitter=0)(ramp, str(n), 0) for n in range(200)]
    mirrored = sum(int(view[0, 0, 0]) > int(view[0, -1, 0]) for view in views)
    assert 70 < mirrored < 130


def test_without_jitter_colours_stay_as_they_are() -> None:
    plain = np.full((40, 40, 3), (200, 45, 35), np.uint8)
    assert np.abs(Augmentation(16, jitter=0)(plain, "a", 0).astype(int) - (200, 45, 35)).max() <= 1
    changed = [Augmentation(16)(plain, str(n), 0).mean(axis=(0, 1)) for n in range(20)]
    assert np.ptp(changed, axis=0).max() > 20
    assert all(red > 2 * green for red, green, _ in changed)  # hue is diagnostic
