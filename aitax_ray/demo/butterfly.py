"""Draws a butterfly from above, wings open: hind wings, fore wings, body, antennae."""

import numpy as np

from aitax_ray.demo.canvas import Canvas, Points, mix, shade, smooth, turned
from aitax_ray.demo.species import ButterflyTraits, Colour, WingShape

BAND_WIDTH = 0.17  # as a share of the wing length
BODY = (58, 46, 40)  # RGB

# Right wings, from the root at the origin around the margin: (x outwards, y towards the head).
_FORE: dict[WingShape, list[tuple[float, float]]] = {
    "rounded": [(0.02, 0.02), (0.35, 0.5), (0.8, 0.82), (1.05, 0.78), (1.06, 0.48), (0.92, 0.14), (0.5, -0.06)],
    "tailed": [(0.02, 0.02), (0.35, 0.5), (0.8, 0.84), (1.06, 0.84), (1.02, 0.5), (0.86, 0.12), (0.5, -0.06)],
    "pointed": [(0.02, 0.02), (0.4, 0.46), (0.9, 0.84), (1.24, 0.98), (1.02, 0.5), (0.82, 0.1), (0.5, -0.06)],
}
_HIND: dict[WingShape, list[tuple[float, float]]] = {
    "rounded": [(0.02, -0.02), (0.5, 0.08), (0.86, -0.08), (0.92, -0.42), (0.7, -0.76), (0.36, -0.78), (0.1, -0.4)],
    "tailed": [
        (0.02, -0.02),
        (0.5, 0.08),
        (0.84, -0.1),
        (0.86, -0.42),
        (0.72, -0.7),
        (0.6, -0.92),
        (0.64, -1.3),
        (0.54, -1.42),
        (0.48, -1.26),
        (0.48, -0.88),
        (0.32, -0.7),
        (0.1, -0.4),
    ],
    "pointed": [(0.02, -0.02), (0.5, 0.08), (0.84, -0.1), (0.86, -0.42), (0.66, -0.74), (0.34, -0.74), (0.1, -0.4)],
}


def draw_butterfly(canvas: Canvas, traits: ButterflyTraits, individual: np.random.Generator, opening: float) -> None:
    """Draw a butterfly of wing length about 1.

    `individual` gives the random numbers of this individual. `opening` is 1 for wings spread flat and less for wings
    half raised.
    """
    swing = individual.normal(0, 0.06)  # angle in radians by which the fore wings are turned towards the head
    worn = individual.uniform(0.0, 0.22)  # share of the pale colour: old butterflies are pale
    pale = (196, 180, 160)
    base, margin = mix(traits.base_colour, pale, worn), mix(traits.margin_colour, pale, worn * 0.7)
    for side in (-1.0, 1.0):
        light = 1.0 + side * 0.07
        reach = np.array([side * opening * (1 - 0.05 * side), 1.0])
        for corners, angle in ((_HIND[traits.wing_shape], -swing * 0.5), (_FORE[traits.wing_shape], swing)):
            wing = turned(smooth(np.array(corners), 6), angle)
            _wing(canvas, traits, wing, reach, shade(base, light), shade(margin, light))
    _body(canvas, individual)


def _wing(canvas: Canvas, traits: ButterflyTraits, wing: Points, reach: Points, base: Colour, margin: Colour) -> None:
    """Paint the margin first, then the inner parts. Each layer is a smaller copy of the wing with the same root.

    `reach` (2,) scales x and y.
    """
    inner = 1 - traits.margin_width
    canvas.fill(wing * reach, shade(margin, 0.75))
    canvas.fill(wing * 0.98 * reach, margin)
    canvas.fill(wing * inner * reach, base)
    band = traits.band_place
    for share in (0.85, 0.7, 0.55, 0.4, 0.28, 0.18):
        if share < inner:
            canvas.fill(wing * share * reach, mix(base, shade(base, 0.55), (0.95 - share) ** 2))
    if traits.band_colour is not None:
        colour = mix(traits.band_colour, base, 0.06)
        canvas.fill(wing * (band + BAND_WIDTH / 2) * reach, shade(colour, 0.8))
        canvas.fill(wing * (band + BAND_WIDTH / 2 - 0.012) * reach, colour)
        canvas.fill(wing * (band - BAND_WIDTH / 2) * reach, shade(base, 0.86))
        canvas.fill(wing * (band - BAND_WIDTH / 2) * 0.6 * reach, shade(base, 0.72))
    _veins(canvas, wing, reach, base)
    _spots(canvas, traits, wing, reach)


def _veins(canvas: Canvas, wing: Points, reach: Points, base: Colour) -> None:
    for place in np.linspace(0.2, 0.82, 6):
        tip = wing[int(place * len(wing))]
        canvas.line(np.stack([tip * 0.12, tip * 0.96]) * reach, shade(base, 0.72), 0.012)


def _spots(canvas: Canvas, traits: ButterflyTraits, wing: Points, reach: Points) -> None:
    """Paint eyespots in a row along the margin: a ring, a dark pupil, a small highlight."""
    places = np.linspace(0.36, 0.68, traits.num_spots) if traits.num_spots > 1 else [0.5] * traits.num_spots
    for place in places:
        x, y = wing[int(place * len(wing))] * (0.86 - traits.spot_size) * reach
        size, flat = traits.spot_size, 1 / abs(reach[0])
        for radius, colour in ((size, traits.spot_colour), (size * 0.66, (28, 22, 24))):
            canvas.disc((x, y), radius / flat, colour, stretch=flat)
        canvas.disc((x - size * 0.15, y + size * 0.2), size * 0.2, (246, 246, 250))


def _body(canvas: Canvas, individual: np.random.Generator) -> None:
    for side in (-1.0, 1.0):
        spread = individual.uniform(0.25, 0.45) * side
        canvas.line(np.array([[0.0, 0.3], [spread * 0.55, 0.62], [spread, 0.86]]), BODY, 0.022)
        canvas.disc((spread, 0.87), 0.03, shade(BODY, 0.8))
    for y, radius, stretch, light in ((-0.26, 0.075, 4.6, 1.0), (0.1, 0.105, 1.9, 1.15), (0.33, 0.08, 1.0, 0.95)):
        canvas.disc((0, y), radius, shade(BODY, light * 0.8), stretch)
        canvas.disc((-0.015, y + 0.01), radius * 0.7, shade(BODY, light * 1.2), stretch)
    for ring in range(5):
        y = -0.16 - ring * 0.085
        canvas.line(np.array([[-0.06, y], [0.06, y]]), shade(BODY, 0.7), 0.014)
