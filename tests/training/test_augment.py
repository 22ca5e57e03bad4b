import numpy as np
import pytest
from PIL import Image

from aitax_ray.training import augment
from aitax_ray.training.augment import ASPECT, Augmentation, random_box
from aitax_ray.training.trivial import FILL
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


def test_a_box_has_at_most_the_largest_area() -> None:
    rng = np.random.default_rng(0)
    left, top, right, bottom = np.array([random_box(rng, 100, 100, 0.1, 0.2) for _ in range(200)]).T
    assert ((right - left) * (bottom - top)).max() <= 0.2 * 100**2 + 1e-6


def ramp(axis: int) -> np.ndarray:
    """Brighter from left to right (1), or from top to bottom (0)."""
    columns = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    return columns if axis else columns.transpose(1, 0, 2)


@pytest.mark.parametrize(("axis", "vertical_flip", "expected"), [(1, False, 0.5), (0, False, 0.0), (0, True, 0.5)])
def test_half_of_the_views_are_mirrored_and_if_asked_turned_upside_down(
    axis: int, vertical_flip: bool, expected: float
) -> None:
    augmentation = Augmentation(32, "none", vertical_flip=vertical_flip)
    views = [augmentation(ramp(axis), str(n), 0) for n in range(200)]
    turned = np.mean([int(view[0, 0, 0]) > int(view[-1, -1, 0]) for view in views])
    assert turned == pytest.approx(expected, abs=0.15 if expected else 0)


def test_a_crop_is_resized_as_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "random_box", lambda *_: (10.2, 4.9, 249.8, 220.1))
    photograph = photo("A12", 1, (90, 60)).resize((360, 240))
    view = Augmentation(60, "none")(np.asarray(photograph), "a", 0).astype(int)
    expected = np.asarray(photograph.crop((10, 5, 250, 220)).resize((60, 60), Image.Resampling.BILINEAR), int)
    assert min(np.abs(expected[:, ::way] - view).max() for way in (1, -1)) <= 2


def test_without_changes_colours_stay_as_they_are() -> None:
    plain = np.full((40, 40, 3), (200, 45, 35), np.uint8)
    assert np.abs(Augmentation(16, "none")(plain, "a", 0).astype(int) - (200, 45, 35)).max() <= 1
    changed = [Augmentation(16)(plain, str(n), 0).mean(axis=(0, 1)) for n in range(20)]
    assert np.ptp(changed, axis=0).max() > 20
    assert all(red > 2 * green for red, green, _ in changed)  # hue is diagnostic


def test_a_box_is_erased_in_a_share_of_the_photographs() -> None:
    plain = np.full((40, 40, 3), 255, np.uint8)
    views = [Augmentation(32, "none", random_erasing=0.3)(plain, str(n), 0) for n in range(300)]
    erased = np.array([(view == FILL).all(axis=2).mean() for view in views])
    assert np.mean(erased > 0) == pytest.approx(0.3, abs=0.08)
    assert erased.max() <= 0.4
    assert all(((view == FILL).all(axis=2) | (view == 255).all(axis=2)).all() for view in views)


def test_trivial_augmentation_is_another_one_than_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "trivial_augment", lambda image, rng: Image.new("RGB", image.size, (1, 2, 3)))
    assert (Augmentation(16, "trivial")(PIXELS, "a", 0) == (1, 2, 3)).all()
    assert not (Augmentation(16, "light")(PIXELS, "a", 0) == (1, 2, 3)).all()


def test_weak_augmentation_crops_less_and_mirrors_only() -> None:
    strong = Augmentation(32, "trivial", 0.3, vertical_flip=True, random_erasing=0.2, seed=4)
    assert strong.weak() == Augmentation(32, "none", 0.8, vertical_flip=True, random_erasing=0, seed=4)
    assert Augmentation(32, min_scale=0.9).weak().min_scale == 0.9


@pytest.mark.parametrize("size", [(1, 1), (300, 7)])
def test_photographs_of_any_size_fill_the_crop(size: tuple[int, int]) -> None:
    for number in range(30):
        view = Augmentation(16, "trivial", 0.05)(np.zeros((*size, 3), np.uint8), str(number), 0)
        assert view.shape == (16, 16, 3)
