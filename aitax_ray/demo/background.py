"""Draws the background, out of focus: grass, leaves, soil or rock, with spots of light."""

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from aitax_ray.demo.canvas import mix, shade
from aitax_ray.demo.species import Colour

Habitat = Literal["grass", "leaves", "soil", "rock"]
HABITATS: tuple[Habitat, ...] = get_args(Habitat)

_COLOURS: dict[Habitat, tuple[Colour, Colour, Colour]] = {  # dark, middle, light
    "grass": ((34, 58, 24), (84, 124, 44), (158, 178, 84)),
    "leaves": ((22, 40, 26), (56, 92, 50), (120, 150, 84)),
    "soil": ((52, 38, 28), (112, 84, 60), (168, 136, 100)),
    "rock": ((70, 70, 72), (128, 126, 122), (184, 180, 172)),
}


def draw_background(
    habitat: Habitat, hue: float, rng: np.random.Generator, size: tuple[int, int], focus: float
) -> Image.Image:
    """Draw a background; `hue` is -1 for cool to 1 for warm colours, `focus` is 0 for blurred to 1 for sharp."""
    dark, middle, light = (_warmed(colour, hue) for colour in _COLOURS[habitat])
    # Little detail survives the blur, so a third of the size is enough to draw on.
    width, height = size[0] // 3, size[1] // 3
    image = _ground(dark, middle, light, rng, (width, height))
    draw = ImageDraw.Draw(image)
    match habitat:
        case "grass":
            _blades(draw, dark, light, rng, width, height)
        case "leaves":
            _foliage(draw, dark, light, rng, width, height)
        case _:
            _stones(draw, dark, light, rng, width, height)
    image = image.filter(ImageFilter.GaussianBlur(0.45 + 2.4 * (1 - focus)))
    if focus < 0.6 and habitat in ("grass", "leaves"):
        image = _bokeh(image, light, rng)
    return image.resize(size, Image.Resampling.BILINEAR)


def _ground(
    dark: Colour, middle: Colour, light: Colour, rng: np.random.Generator, size: tuple[int, int]
) -> Image.Image:
    """Draw clouds of three colours: noise at several scales, the coarse ones strongest."""
    clouds = Image.new("F", (1, 1), 0.48)
    for rows, weight in ((3, 0.6), (7, 0.3), (16, 0.16), (45, 0.1)):
        columns = rows * size[0] // size[1]
        finer = np.asarray(clouds.resize((columns, rows), Image.Resampling.BICUBIC))
        clouds = Image.fromarray(finer + np.float32(weight) * (rng.random((rows, columns), np.float32) - 0.5))
    share = np.asarray(clouds.resize(size, Image.Resampling.BILINEAR))
    steps = np.linspace(0, 1, 256)
    table = [np.interp(steps, (0, 0.5, 1), levels) for levels in zip(dark, middle, light, strict=True)]
    palette = np.stack(table, axis=1).astype(np.uint8)
    return Image.fromarray(palette[(np.clip(share, 0, 1) * 255).astype(np.uint8)])


def _blades(
    draw: ImageDraw.ImageDraw, dark: Colour, light: Colour, rng: np.random.Generator, width: int, height: int
) -> None:
    lean = rng.normal(0, 0.25)
    for _ in range(46):
        x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(0.3, 1.3) * height
        length, slope = rng.uniform(0.3, 0.9) * height, lean + rng.normal(0, 0.25)
        half = rng.uniform(0.6, 2.4)
        tip = (x + slope * length, y - length)
        bend = (x + slope * length * 0.3, y - length * 0.5)
        colour = mix(dark, light, rng.uniform(0.1, 0.9))
        draw.polygon([(x - half, y), (bend[0] - half, bend[1]), tip, (bend[0] + half, bend[1]), (x + half, y)], colour)


def _foliage(
    draw: ImageDraw.ImageDraw, dark: Colour, light: Colour, rng: np.random.Generator, width: int, height: int
) -> None:
    turns = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for _ in range(30):
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        long, short = rng.uniform(0.08, 0.22) * width, rng.uniform(0.03, 0.08) * width
        a, b = long * np.cos(turns), short * np.sin(turns)
        cos, sin = np.cos(angle), np.sin(angle)
        leaf = np.stack([x + a * cos - b * sin, y + a * sin + b * cos], axis=1)
        colour = mix(dark, light, rng.uniform(0.05, 0.8))
        draw.polygon(leaf.ravel().tolist(), colour)
        draw.line([(x - long * cos, y - long * sin), (x + long * cos, y + long * sin)], shade(colour, 1.2))


def _stones(
    draw: ImageDraw.ImageDraw, dark: Colour, light: Colour, rng: np.random.Generator, width: int, height: int
) -> None:
    turns = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    circle = np.stack([np.cos(turns), 0.75 * np.sin(turns)], axis=1)
    for _ in range(36):
        middle, radius = rng.uniform(0, (width, height)), width * 0.012 * (1 + rng.exponential(1.6))
        stone = radius * rng.uniform(0.7, 1.15, (9, 1)) * circle
        colour = mix(dark, light, rng.uniform(0.2, 0.85))
        layers = (
            (1.0, 0.3, shade(dark, 0.8)),
            (1.0, 0.0, colour),
            (0.6, -0.12, shade(colour, 1.1)),
        )  # shadow, stone, light
        for size, offset, paint in layers:
            draw.polygon((stone * size + middle + offset * radius).ravel().tolist(), paint)


def _bokeh(image: Image.Image, light: Colour, rng: np.random.Generator) -> Image.Image:
    """Draw discs of light between the leaves, as a lens does with points out of focus."""
    glow = image.copy()
    draw = ImageDraw.Draw(glow)
    for _ in range(rng.integers(0, 14)):
        x, y, radius = rng.uniform(0, image.width), rng.uniform(0, image.height * 0.8), rng.uniform(2.5, 8)
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), mix(light, (255, 255, 235), rng.uniform(0.1, 0.7))
        )
    return Image.blend(image, glow.filter(ImageFilter.GaussianBlur(0.8)), 0.5)


def _warmed(colour: Colour, hue: float) -> Colour:
    red, green, blue = colour
    return (
        min(255, round(red * (1 + 0.14 * hue))),
        min(255, round(green * (1 + 0.06 * hue))),
        min(255, round(blue * (1 - 0.14 * hue))),
    )
