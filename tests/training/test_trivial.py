import colorsys
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from aitax_ray.training import trivial
from aitax_ray.training.trivial import FILL, OPERATIONS, Operation, trivial_augment
from tests.small import photo

IMAGE = photo("A12", 1, (70, 70))
STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_keeps_size_and_mode_and_changes_something(operation: Operation) -> None:
    made = [operation(IMAGE, strength) for strength in STRENGTHS]
    assert {(image.size, image.mode) for image in made} == {((70, 70), "RGB")}
    assert any(image.tobytes() != IMAGE.tobytes() for image in made) is (operation is not trivial.identity)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o not in (trivial.autocontrast, trivial.equalize)])
def test_without_strength_nothing_changes(operation: Operation) -> None:
    assert operation(IMAGE, 0.0).tobytes() == IMAGE.tobytes()


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o is not trivial.equalize])
def test_no_operation_changes_the_hue(operation: Operation) -> None:
    red = np.full((70, 70, 3), (150, 60, 50), np.uint8)
    red[::2] = (170, 70, 55)
    hue = colorsys.rgb_to_hsv(150, 60, 50)[0]
    for strength in STRENGTHS:
        for pixel in np.unique(np.asarray(operation(Image.fromarray(red), strength)).reshape(-1, 3), axis=0):
            found, saturation, value = colorsys.rgb_to_hsv(*map(int, pixel))
            is_gray = (
                saturation < 0.2 or value < 60 or max(abs(int(p) - f) for p, f in zip(pixel, FILL, strict=True)) < 9
            )
            assert is_gray or abs((found - hue + 0.5) % 1 - 0.5) < 0.05, (strength, pixel)


def test_photographs_are_moved_turned_and_sheared_around_the_middle() -> None:
    spot = np.zeros((70, 70, 3), np.uint8)
    spot[35, 45] = 255

    def place(operation: Operation, strength: float) -> list[list[int]]:
        found: list[list[int]] = np.argwhere(
            np.asarray(operation(Image.fromarray(spot), strength)).min(axis=2) == 255
        ).tolist()
        return found

    assert place(trivial.translate_x, 0.5) == [[35, 40]]
    assert place(trivial.translate_y, -1.0) == [[45, 45]]
    ((row, column),) = place(trivial.rotate, 90 / 135)
    assert abs(abs(row - 35) - 10) + abs(column - 35) <= 2
    ((row, column),) = place(trivial.shear_y, 0.5)
    assert column == 45
    assert abs(row - 30) <= 1
    assert Image.fromarray(spot).getpixel((69, 0)) == (0, 0, 0)
    assert trivial.translate_x(Image.fromarray(spot), 1.0).getpixel((69, 0)) == FILL


def test_gray_values_are_spread() -> None:
    dull = Image.fromarray((np.asarray(IMAGE) // 4 + 90).astype(np.uint8))
    for operation in (trivial.autocontrast, trivial.equalize):
        assert np.ptp(np.asarray(operation(dull, 0.3).convert("L"))) > 3 * np.ptp(np.asarray(dull.convert("L")))
    gray = ImageOps.grayscale(dull).convert("RGB")
    assert abs(np.asarray(trivial.equalize(gray, 0)).mean() - 127) < 8


def test_operations_and_strengths_are_drawn_from_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, float]] = []

    def note(number: int) -> Operation:
        def operation(image: Image.Image, strength: float) -> Image.Image:
            drawn.append((number, strength))
            return image

        return operation

    monkeypatch.setattr(trivial, "OPERATIONS", [note(number) for number in range(len(OPERATIONS))])
    rng = np.random.default_rng(0)
    for _ in range(1300):
        trivial_augment(IMAGE, rng)
    counts = Counter(number for number, _ in drawn)
    assert len(counts) == len(OPERATIONS)
    assert min(counts.values()) > 60
    strengths = [strength for _, strength in drawn]
    assert -1 <= min(strengths) < -0.9
    assert 0.9 < max(strengths) <= 1
