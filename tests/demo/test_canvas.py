import math

import numpy as np
import pytest

from aitax_ray.demo.canvas import OVERSAMPLING, Canvas, Pose, mix, shade, smooth, turned

CORNERS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def pose(**changes: float) -> Pose:
    return Pose(**{"centre": (60.0, 40.0), "radius": 20.0, "rotation": 0.0, "tilt": 0.0, "tilt_axis": 0.0, **changes})


def test_facing_the_camera_a_point_lands_at_its_scaled_place_with_y_upwards():
    assert pose().project(CORNERS).tolist() == [[80, 40], [60, 20], [40, 40], [60, 60]]


def test_rotation_is_counter_clockwise():
    assert np.allclose(pose(rotation=math.pi / 2).project(CORNERS)[0], [60, 20])


def test_a_tilt_leaves_its_axis_alone_and_makes_the_far_side_smaller_than_the_near_one():
    right, top, left, bottom = pose(tilt=0.8).project(CORNERS)
    assert np.allclose([right, left], [[80, 40], [40, 40]])
    far, near = 40 - top[1], bottom[1] - 40
    assert 0 < far < 20 * math.cos(0.8) < near < 20


def test_the_axis_of_the_tilt_does_not_turn_what_is_not_tilted():
    assert np.allclose(pose(tilt_axis=1.0).project(CORNERS), pose().project(CORNERS))


def test_the_sheet_ends_at_the_size_of_the_photograph_with_soft_edges_and_pure_colours():
    canvas = Canvas((60, 40), pose())
    canvas.disc((0.0, 0.0), 1.0, (200, 100, 50))
    sheet = np.asarray(canvas.finish())
    assert sheet.shape == (40, 60, 4)
    assert tuple(sheet[40 // OVERSAMPLING, 60 // OVERSAMPLING]) == (200, 100, 50, 255)
    assert sheet[0, 0, 3] == 0
    edge = (sheet[..., 3] > 0) & (sheet[..., 3] < 255)
    assert edge.any()
    assert np.abs(sheet[edge][:, :3].astype(int) - (200, 100, 50)).max() <= 4


def test_a_smooth_curve_goes_through_its_corners():
    curve = smooth(CORNERS, per_corner=5)
    assert curve.shape == (20, 2)
    assert np.allclose(curve[::5], CORNERS)


def test_points_are_turned_counter_clockwise():
    assert np.allclose(turned(CORNERS, math.pi / 2), np.roll(CORNERS, -1, axis=0))


@pytest.mark.parametrize(("factor", "expected"), [(0.5, (100, 50, 0)), (2.0, (255, 200, 0))])
def test_shades_stay_colours(factor: float, expected: tuple[int, int, int]):
    assert shade((200, 100, 0), factor) == expected


def test_a_mixture_lies_between_its_colours():
    assert mix((0, 100, 200), (100, 100, 100), 0.25) == (25, 100, 175)
