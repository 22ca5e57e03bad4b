"""Paints the "photographs" of the demo world.

An `Encounter` is one individual, its surroundings and the light. `photograph` takes a picture of it, each time with
another pose, distance and focus. `paint` does both, for a single photograph of a species.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from aitax_ray.demo.background import HABITATS, Habitat, draw_background
from aitax_ray.demo.butterfly import draw_butterfly
from aitax_ray.demo.canvas import OVERSAMPLING, Canvas, Pose
from aitax_ray.demo.flower import draw_flower, draw_perch
from aitax_ray.demo.species import Colour, DemoSpecies, FlowerTraits

COLOUR_SPREAD = 0.055  # standard deviation between individuals, as a share
WARMTH = 0.12  # the warmest light makes red brighter and blue darker by this share


@dataclass(frozen=True)
class Encounter:
    """An individual and its surroundings, which the photographs of one occurrence share."""

    species: DemoSpecies
    individual: int  # seed of the differences between individuals
    habitat: Habitat
    hue: float  # of the habitat, from -1 (cool) to 1 (warm)
    exposure: float
    warmth: float  # of the light, from -1 (blue) to 1 (red)
    sun: float  # direction of the light on the photograph, radians
    tint: Colour  # factors of the species' colours for this individual, times 128: 128 changes nothing


def make_encounter(species: DemoSpecies, rng: np.random.Generator) -> Encounter:
    """Draw at random an individual of the species, its surroundings and the light."""
    tint = [int(x) for x in np.clip(128 * (1 + rng.normal(0, COLOUR_SPREAD, 3)), 96, 160)]
    return Encounter(
        species,
        individual=int(rng.integers(2**32)),
        habitat=HABITATS[rng.integers(len(HABITATS))],
        hue=float(rng.uniform(-1, 1)),
        exposure=float(np.clip(rng.normal(1.08, 0.16), 0.7, 1.45)),
        warmth=float(np.clip(rng.normal(0, 0.5), -1, 1)),
        sun=float(rng.uniform(0.2, np.pi - 0.2)),
        tint=(tint[0], tint[1], tint[2]),
    )


def paint(species: DemoSpecies, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Paint a photograph of some individual of the species; RGB, the same for the same state of `rng`."""
    return photograph(make_encounter(species, rng), rng, width, height)


def photograph(encounter: Encounter, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Take a picture of an encounter; RGB, the same for the same encounter and state of `rng`."""
    focus = float(rng.beta(1.3, 2.0))
    picture = draw_background(encounter.habitat, encounter.hue, rng, (width, height), focus)
    subject = _subject(encounter, rng, width, height)
    if rng.random() < 0.15:  # a little out of focus
        subject = subject.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 1.5) * height / 270))
    _cast_shadow(picture, subject, encounter.sun, rng.uniform(0.25, 0.55))
    picture.paste(subject, (0, 0), subject)
    if rng.random() < 0.2:
        _draw_grass_blade(picture, rng)
    return _expose(picture, encounter, rng)


def _subject(encounter: Encounter, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw the flower or butterfly on a transparent image of the photograph's size."""
    traits, individual = encounter.species.traits, np.random.default_rng(encounter.individual)
    flower = isinstance(traits, FlowerTraits)
    radius = height * rng.uniform(0.31, 0.46) * (1.0 if flower else 0.95)
    room = np.maximum(0.0, [width / 2 - radius * 0.95, height / 2 - radius * 0.95])
    offset = np.clip(rng.normal(0, 0.45, 2), -1, 1) * room
    pose = Pose(
        centre=((width / 2 + offset[0]) * OVERSAMPLING, (height / 2 + offset[1]) * OVERSAMPLING),
        radius=radius * OVERSAMPLING,
        rotation=float(rng.uniform(0, 2 * np.pi)),
        tilt=float(np.clip(abs(rng.normal(0, 0.36)), 0, 0.75)),
        tilt_axis=float(rng.uniform(0, np.pi)),
    )
    canvas = Canvas((width, height), pose)
    if isinstance(traits, FlowerTraits):
        draw_flower(canvas, traits, individual, encounter.sun, stem_towards=-np.pi / 2)
    else:
        if encounter.habitat in ("grass", "leaves"):
            draw_perch(canvas, np.random.default_rng(encounter.individual + 1))
        draw_butterfly(canvas, traits, individual, opening=rng.uniform(0.72, 1.0))
    return _tinted(canvas.finish(), encounter.tint)


def _tinted(sheet: Image.Image, tint: Colour) -> Image.Image:
    """Multiply the colours by `tint` / 128. The opacity does not change."""
    table = [min(255, value * channel // 128) for channel in tint for value in range(256)]
    return sheet.point(table + list(range(256)))


def _cast_shadow(picture: Image.Image, subject: Image.Image, sun: float, strength: float) -> None:
    """Darken the ground on the side away from the sun."""
    small = subject.getchannel("A").reduce(6)
    away = round(0.06 * small.height) + 1
    moved = Image.new("L", small.size)
    moved.paste(small, (round(-away * np.cos(sun)), round(away * np.sin(sun))))
    mask = moved.filter(ImageFilter.GaussianBlur(small.height * 0.035)).point([round(v * strength) for v in range(256)])
    picture.paste((14, 16, 12), (0, 0), mask.resize(picture.size, Image.Resampling.BILINEAR))


def _draw_grass_blade(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a blade of grass between the lens and the subject."""
    width, height = picture.size
    mask = Image.new("L", (width // 2, height // 2))
    foot, tip, half = rng.uniform(0, width / 2), rng.uniform(0, width / 2), height * rng.uniform(0.006, 0.018)
    top = height / 2 * rng.uniform(-0.1, 0.5)
    bend = foot + (tip - foot) * rng.uniform(0.2, 0.45)
    corners = [(foot - half, height / 2), (bend - half, height * 0.27), (tip, top)]
    corners += [(bend + half, height * 0.27), (foot + half, height / 2)]
    ImageDraw.Draw(mask).polygon(corners, fill=235)
    soft = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0))).resize(picture.size, Image.Resampling.BILINEAR)
    green = int(rng.integers(90, 160))
    picture.paste((round(green * rng.uniform(0.6, 0.95)), green, green // 3), (0, 0), soft)


def _expose(picture: Image.Image, encounter: Encounter, rng: np.random.Generator) -> Image.Image:
    """Add the effects of light and sensor: brightness, tint, darker corners, a brighter side, noise."""
    width, height = picture.size
    x, y, rim = _grid(width, height)
    side = 0.12 * rng.random() * (x * math.cos(encounter.sun) - y * math.sin(encounter.sun))
    light = encounter.exposure * rng.uniform(0.93, 1.07) * (1 + side - rng.uniform(0, 0.4) * rim)
    noise = rng.standard_normal((height, width), np.float32) * rng.uniform(1.5, 6.0)
    bands = []
    for band, gain in zip(
        picture.split(), (1 + WARMTH * encounter.warmth, 1.0, 1 - WARMTH * encounter.warmth), strict=True
    ):
        pixels = np.asarray(band) * light
        pixels *= gain
        pixels += noise
        bands.append(Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)))
    return Image.merge("RGB", bands)


@lru_cache(maxsize=4)
def _grid(width: int, height: int) -> tuple[npt.NDArray[np.float32], ...]:
    """x and y in [-1, 1], and the squared distance from the middle, at most 1."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return x, y, (x**2 + y**2) * np.float32(0.5)
