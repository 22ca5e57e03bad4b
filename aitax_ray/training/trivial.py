"""TrivialAugment: one random operation with a random strength on each photograph.

Müller and Hutter 2021, "TrivialAugment", arXiv 2103.10158. The strengths are those of its wide set. Changes of colour
are weaker, because species differ in colour: the saturation changes by at most half, only equalize changes the hue
(a little), and solarize, which inverts colours, is left out.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from aitax_ray.training.light import change_light

FILL = (124, 116, 104)  # the mean of ImageNet's pixels: 0 after normalization

Operation = Callable[[Image.Image, float], Image.Image]


def trivial_augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply an operation to an RGB image."""
    operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
    return operation(image, float(rng.uniform(-1, 1)))


def identity(image: Image.Image, strength: float) -> Image.Image:
    """Change nothing."""
    return image


def shear_x(image: Image.Image, strength: float) -> Image.Image:
    """Shift each row by up to 0.99 of its distance from the middle."""
    return _affine(image, (1, 0.99 * strength, 0, 1))


def shear_y(image: Image.Image, strength: float) -> Image.Image:
    """Shift each column by up to 0.99 of its distance from the middle."""
    return _affine(image, (1, 0, 0.99 * strength, 1))


def translate_x(image: Image.Image, strength: float) -> Image.Image:
    """Shift by up to a seventh of the width: 32 of 224 px."""
    return _affine(image, (1, 0, 0, 1), (strength * image.width / 7, 0))


def translate_y(image: Image.Image, strength: float) -> Image.Image:
    """Shift by up to a seventh of the height."""
    return _affine(image, (1, 0, 0, 1), (0, strength * image.height / 7))


def rotate(image: Image.Image, strength: float) -> Image.Image:
    """Turn by up to 135 degrees."""
    angle = math.radians(135 * strength)
    return _affine(image, (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)))


def brightness(image: Image.Image, strength: float) -> Image.Image:
    """Multiply the brightness by 0.01 to 1.99."""
    return change_light(image, brightness=1 + 0.99 * strength)


def contrast(image: Image.Image, strength: float) -> Image.Image:
    """Multiply the contrast by 0.01 to 1.99."""
    return change_light(image, contrast=1 + 0.99 * strength)


def saturation(image: Image.Image, strength: float) -> Image.Image:
    """Multiply the saturation by 0.5 to 1.5."""
    return change_light(image, saturation=1 + 0.5 * strength)


def sharpness(image: Image.Image, strength: float) -> Image.Image:
    """Blur or sharpen."""
    return ImageEnhance.Sharpness(image).enhance(1 + 0.99 * strength)


def posterize(image: Image.Image, strength: float) -> Image.Image:
    """Keep 8 to 4 bits of each colour."""
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def autocontrast(image: Image.Image, strength: float) -> Image.Image:
    """Stretch the gray values to the full range; the colours follow."""
    return ImageOps.autocontrast(image, preserve_tone=True)


def equalize(image: Image.Image, strength: float) -> Image.Image:
    """Spread the gray values evenly; the colours follow."""
    counts = np.asarray(image.convert("L").histogram())
    below = np.cumsum(counts) - counts / 2
    return image.point((255 * below / max(1, counts.sum())).round().astype(int).tolist() * 3)


OPERATIONS: tuple[Operation, ...] = (
    identity, shear_x, shear_y, translate_x, translate_y, rotate, brightness, contrast, saturation, sharpness,
    posterize, autocontrast, equalize,
)  # fmt: skip


def _affine(
    image: Image.Image, matrix: tuple[float, float, float, float], shift: tuple[float, float] = (0, 0)
) -> Image.Image:
    """Move pixels. The source of a pixel is `matrix` times its position, plus `shift` (px), relative to the centre.

    Pixels are not interpolated, because that takes ten times as long.
    """
    (a, b, c, d), x, y = matrix, image.width / 2, image.height / 2
    place = (a, b, x - a * x - b * y + shift[0], c, d, y - c * x - d * y + shift[1])
    return image.transform(image.size, Image.Transform.AFFINE, place, Image.Resampling.NEAREST, fillcolor=FILL)
