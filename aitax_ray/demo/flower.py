"""Draws a flower from above: stem and leaves, one or two rings of petals, the centre."""

import numpy as np

from aitax_ray.demo.canvas import Canvas, Points, mix, shade, smooth, turned
from aitax_ray.demo.species import Colour, FlowerTraits, LeafShape, PetalShape

# A petal's colour changes from tip to base. It is painted as smaller and smaller copies of the petal, of these sizes.
GRADIENT = (0.97, 0.9, 0.82, 0.73, 0.63, 0.53, 0.43, 0.33)
# Width of a petal, divided by the angle in radians between two petals. Above 0.8 petals overlap.
FULLNESS: dict[PetalShape, float] = {"round": 0.8, "long": 0.74, "pointed": 0.62}
# Distance between the ends of the middle vein and an outer vein, as a share of the flower's radius.
VEIN_SPREAD: dict[PetalShape, float] = {"round": 0.2, "long": 0.08, "pointed": 0.05}
MAX_HALF_WIDTH = 0.43  # of a petal, as a share of the flower's radius
LEAF_GREEN = (74, 120, 52)
NUM_FLORETS = 44  # in the centre
GOLDEN_ANGLE = 2.39996  # radians between a floret and the next one that grew, as in a sunflower

# Half outlines from base to tip: (share of the length, share of the half width).
_PETALS: dict[PetalShape, list[tuple[float, float]]] = {
    "round": [(0.08, 0.14), (0.3, 0.5), (0.55, 0.9), (0.78, 1.0), (0.94, 0.66)],
    "long": [(0.08, 0.3), (0.3, 0.72), (0.6, 1.0), (0.84, 0.84), (0.96, 0.42)],
    "pointed": [(0.08, 0.22), (0.25, 0.7), (0.45, 1.0), (0.68, 0.7), (0.86, 0.28)],
}
_LEAVES: dict[LeafShape, list[tuple[float, float]]] = {
    "oval": [(0.1, 0.4), (0.35, 1.0), (0.65, 0.9), (0.88, 0.42)],
    "lance": [(0.1, 0.26), (0.35, 0.5), (0.6, 0.44), (0.85, 0.2)],
    "lobed": [(0.15, 0.2), (0.25, 0.85), (0.38, 0.45), (0.52, 1.0), (0.64, 0.45), (0.78, 0.66), (0.9, 0.22)],
}


def draw_flower(
    canvas: Canvas, traits: FlowerTraits, individual: np.random.Generator, sun: float, stem_towards: float
) -> None:
    """Draw a flower of radius 1.

    `individual` gives the random numbers of this individual. `sun` is the direction of the light and `stem_towards`
    that of the stem, both in radians on the photograph.
    """
    green = shade(mix(LEAF_GREEN, (140, 150, 60), individual.uniform(0, 0.5)), individual.uniform(0.75, 1.1))
    _stem_and_leaves(canvas, traits, individual, green, stem_towards - canvas.pose.rotation)
    sun -= canvas.pose.rotation
    _ring(canvas, traits, individual, traits.petal_colour, 1.0, 0.0, sun)
    if traits.second_ring is not None:
        _ring(canvas, traits, individual, traits.second_ring, 0.68, 0.5, sun)
    _centre(canvas, traits, individual, sun)


def draw_perch(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw two leaves on which a butterfly sits, larger than the butterfly."""
    below_and_above: tuple[tuple[LeafShape, float], ...] = (("lance", 0.75), ("oval", 0.95))
    for shape, light in below_and_above:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(2.6, 3.6)
        root = (-0.45 * length * np.cos(angle), -0.45 * length * np.sin(angle))
        green = shade(mix(LEAF_GREEN, (140, 150, 60), rng.uniform(0, 0.5)), light * rng.uniform(0.8, 1.1))
        _leaf(canvas, shape, root, length, angle, green)


def _ring(
    canvas: Canvas,
    traits: FlowerTraits,
    individual: np.random.Generator,
    colour: Colour,
    length: float,
    offset: float,
    sun: float,
) -> None:
    step = 2 * np.pi / traits.num_petals
    half_width = min(step / 2 * FULLNESS[traits.petal_shape], MAX_HALF_WIDTH) * individual.uniform(0.94, 1.06)
    for number in range(traits.num_petals):
        angle = (number + offset) * step + individual.normal(0, 0.04)
        reach = length * individual.uniform(0.93, 1.0)
        outline = _outline(_PETALS[traits.petal_shape], reach, half_width * individual.uniform(0.93, 1.05))
        if traits.notched:
            outline[len(outline) // 2, 0] -= 0.16
        petal = turned(smooth(outline, 5), angle)
        light = 1 + 0.13 * np.cos(angle - sun) + individual.normal(0, 0.025)
        _petal(canvas, traits, petal, shade(colour, light), shade(traits.throat_colour, light), angle, reach)


def _petal(
    canvas: Canvas, traits: FlowerTraits, petal: Points, colour: Colour, throat: Colour, angle: float, reach: float
) -> None:
    canvas.fill(petal, shade(colour, 0.66))  # its margin stays visible as a dark outline
    steps = GRADIENT if traits.num_petals <= 8 else GRADIENT[::2]  # small petals need fewer
    for share in steps:
        canvas.fill(petal * share, mix(throat, colour, min(1.0, 1.5 * (share - 0.3))))
    across = np.array([-np.sin(angle), np.cos(angle)])
    along = np.array([np.cos(angle), np.sin(angle)])
    spread = VEIN_SPREAD[traits.petal_shape]
    for side in (-1.0, 0.0, 1.0):
        vein = np.stack([along * 0.2, along * 0.55 + across * side * spread * 0.6, along * 0.86 * reach])
        vein[2] += across * side * spread
        if traits.stripe_colour is not None:
            canvas.line(vein[:2] * 1.2, traits.stripe_colour, 0.05)
            canvas.line(vein, traits.stripe_colour, 0.035)
        else:
            canvas.line(vein, shade(colour, 0.9), 0.012)


def _centre(canvas: Canvas, traits: FlowerTraits, individual: np.random.Generator, sun: float) -> None:
    size, colour = traits.centre_size * individual.uniform(0.92, 1.08), traits.centre_colour
    canvas.disc((0, 0), size * 1.14, shade(mix(traits.throat_colour, colour, 0.5), 0.62))
    canvas.disc((0, 0), size, shade(colour, 0.8))
    for number in range(NUM_FLORETS):
        radius, angle = size * np.sqrt((number + 0.5) / NUM_FLORETS), number * GOLDEN_ANGLE
        light = 1.0 + 0.22 * np.cos(angle - sun) * radius / size + individual.normal(0, 0.1)
        canvas.disc((radius * np.cos(angle), radius * np.sin(angle)), size * 0.105, shade(colour, light))


def _stem_and_leaves(
    canvas: Canvas, traits: FlowerTraits, individual: np.random.Generator, green: Colour, towards: float
) -> None:
    towards += individual.normal(0, 0.3)
    bend = turned(np.array([[0.0, 0.0], [1.2, individual.normal(0, 0.25)], [6.0, individual.normal(0, 0.8)]]), towards)
    canvas.line(bend, shade(green, 0.7), 0.13)
    canvas.line(bend + 0.02, green, 0.07)
    for number in range(individual.integers(2, 5)):
        angle = towards + (number - 1.5) * 1.1 + individual.normal(0, 0.3)
        light = individual.uniform(0.75, 1.05)
        _leaf(canvas, traits.leaf_shape, (0.0, 0.0), individual.uniform(1.1, 1.7), angle, shade(green, light))


def _leaf(
    canvas: Canvas, shape: LeafShape, root: tuple[float, float], length: float, angle: float, green: Colour
) -> None:
    outline = _outline(_LEAVES[shape], length, length * 0.3)
    leaf = turned(smooth(outline, 4), angle)
    canvas.fill(leaf + root, shade(green, 0.65))
    canvas.fill(leaf * 0.97 + root, green)
    inner = turned(smooth(outline * [1.0, 0.5], 4), angle)
    canvas.fill(inner * 0.95 + root, shade(green, 1.08))
    pale = mix(green, (190, 200, 130), 0.4)
    reach = 0.06 if shape == "lance" else 0.13
    for place in np.linspace(0.15, 0.65, 4):
        for side in (-1.0, 1.0):
            vein = np.array([[place, 0.0], [place + 0.1, side * reach]]) * length
            canvas.line(turned(vein, angle) + root, mix(green, pale, 0.5), 0.014)
    canvas.line(turned(np.array([[0.0, 0.0], [length * 0.92, 0.0]]), angle) + root, pale, 0.025)


def _outline(half: list[tuple[float, float]], length: float, half_width: float) -> Points:
    """Make a closed outline along the x axis; the tip is at the middle index."""
    upper = np.array(half) * [length, half_width]
    tip = np.array([[length, 0.0]])
    base = np.array([[0.0, 0.0]])
    return np.concatenate([base, upper, tip, (upper * [1, -1])[::-1]])
