"""A transparent sheet in the plane of the subject, seen in perspective by the camera.

Shapes are given in the subject's units (a flower's or a wing's radius is about 1). They are rotated, tilted and scaled,
and drawn on a sheet of twice the photograph's size. Reducing the sheet at the end smooths the edges.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from aitax_ray.demo.species import Colour

Points = npt.NDArray[np.float64]  # (n, 2), y upwards

OVERSAMPLING = 2
DISTANCE = 5.0  # of the camera to the subject, in the subject's radii; a smaller one makes a stronger perspective
_CIRCLE = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)


@dataclass(frozen=True)
class Pose:
    """How the subject lies before the camera. Angles are in radians, `centre` and `radius` in pixels of the sheet."""

    centre: tuple[float, float]
    radius: float
    rotation: float
    tilt: float  # away from facing the camera
    tilt_axis: float

    @cached_property
    def _matrices(self) -> tuple[Points, Points, Points]:
        """The matrices that map the plane to pixels (y downwards) and to depth, and the centre."""
        to_axis = _rotation(self.rotation - self.tilt_axis)
        squeeze = np.diag([1.0, math.cos(self.tilt)])
        depth = to_axis @ np.array([0.0, math.sin(self.tilt) / DISTANCE])
        to_pixels = _rotation(self.tilt_axis) @ np.diag([self.radius, -self.radius])
        return to_axis @ squeeze @ to_pixels, depth, np.array(self.centre)

    def project(self, points: Points) -> Points:
        """Map the subject's plane to pixels of the sheet, y downwards."""
        plane, depth, centre = self._matrices
        return np.asarray((points @ plane) / (1 + points @ depth)[:, None] + centre)


class Canvas:
    """A sheet to draw on with filled shapes and lines."""

    def __init__(self, size: tuple[int, int], pose: Pose) -> None:
        """`size` is the photograph's, in pixels."""
        self.pose = pose
        # RGBa holds colours multiplied by the opacity, which can be averaged.
        self.sheet = Image.new("RGBa", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.sheet)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self.pose.project(points).ravel().tolist(), colour)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a line through points; `width` is in the subject's units."""
        pixels = max(1, round(width * self.pose.radius))
        self._draw.line(self.pose.project(points).ravel().tolist(), fill=colour, width=pixels, joint="curve")

    def disc(self, centre: tuple[float, float], radius: float, colour: Colour, stretch: float = 1.0) -> None:
        """Fill a disc, or an ellipse `stretch` times as high as wide."""
        x, y = radius * np.cos(_CIRCLE) + centre[0], stretch * radius * np.sin(_CIRCLE) + centre[1]
        self.fill(np.stack([x, y], axis=1), colour)

    def finish(self) -> Image.Image:
        """Reduce the sheet to the photograph's size, RGBA."""
        return self.sheet.reduce(OVERSAMPLING).convert("RGBA")


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours: `share` of the second, the rest of the first."""
    a, b, c = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return a, b, c


def shade(colour: Colour, factor: float) -> Colour:
    """Make a colour lighter (factor above 1) or darker."""
    a, b, c = (min(255, max(0, round(x * factor))) for x in colour)
    return a, b, c


def smooth(corners: Points, per_corner: int = 6) -> Points:
    """Draw a closed curve through the corners (Catmull-Rom)."""
    around = np.concatenate([corners[-1:], corners, corners[:2]])
    before, after, beyond = around[:-3], around[2:-1], around[3:]
    t = (np.arange(per_corner) / per_corner)[:, None, None]
    curve = 0.5 * (
        2 * corners
        + (after - before) * t
        + (2 * before - 5 * corners + 4 * after - beyond) * t**2
        + (3 * corners - before - 3 * after + beyond) * t**3
    )
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2), dtype=np.float64)


def turned(points: Points, angle: float) -> Points:
    """Turn points counter-clockwise about the origin."""
    return points @ _rotation(angle)


def _rotation(angle: float) -> Points:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])
