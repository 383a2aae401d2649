"""The self-calibration against a pinhole camera whose parameters are known."""

from __future__ import annotations

import numpy as np
import pytest

from visarl.aim import FADE_TO, SCALES_M, aim, fit_camera, fit_plane, locate, project, reach
from visarl.errors import DataError


def pinhole(tool: np.ndarray) -> np.ndarray:
    """A camera one metre in front of the table, looking down at it by 40 degrees."""
    angle = np.deg2rad(40)
    right, down = np.array([0.0, 1.0, 0.0]), np.array([-np.sin(angle), 0.0, -np.cos(angle)])
    ahead = np.array([-np.cos(angle), 0.0, -np.sin(angle)])
    ray = tool - (np.array([0.47, 0.0, 0.1]) - ahead)
    return np.stack([ray @ right, ray @ down], axis=-1) / (0.25 * (ray @ ahead))[..., None]


@pytest.fixture
def seen() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tool = np.array([0.47, 0.0, 0.1]) + rng.uniform(-0.1, 0.1, (600, 3))
    return tool, np.concatenate([pinhole(tool), np.full((600, 1), 0.8)], axis=1)


def test_the_camera_is_found_from_where_the_hand_was_seen(seen):
    tool, points = seen
    other = tool[::-1] * [1.0, 0.9, 1.05]
    np.testing.assert_allclose(project(fit_camera(tool, points), other), pinhole(other), atol=1e-6)


def test_noise_false_peaks_and_lost_hands_do_not_move_it(seen):
    tool, points = seen
    rng = np.random.default_rng(1)
    points[:, :2] += rng.normal(0, 0.03, (600, 2))  # 4 px at 256
    points[:60, :2] = rng.uniform(-1, 1, (60, 2))  # elsewhere in the picture
    points[60:120] = [0.0, 0.0, FADE_TO]  # not found
    error = np.abs(project(fit_camera(tool, points), tool) - pinhole(tool)).max()
    assert error < 0.03


def test_a_hand_that_is_hardly_seen_or_never_moves_cannot_calibrate(seen):
    tool, points = seen
    with pytest.raises(DataError, match="0 of 600 frames show the effector"):
        fit_camera(tool, points * [1, 1, 0.1])
    with pytest.raises(DataError, match="2 cm in each direction"):
        fit_camera(tool * [1, 1, 0], points)


def test_aim_leads_from_the_hand_and_is_fine_where_a_grasp_is_decided(seen):
    camera = fit_camera(*seen)
    tool = np.array([0.45, 0.03, 0.12])
    near = aim(camera, tool, [*(pinhole(tool) + [0.01, 0.4]), 1.0])
    nearer = aim(camera, tool, [*(pinhole(tool) + [0.03, 0.42]), 1.0])
    change = nearer - near
    assert change[0] == pytest.approx(0.02 / 0.3, rel=1e-3)
    assert change[4] > 3 * change[0]  # the finest scale tells 2 % of the picture apart near the hand
    assert change[5] < 0.01 * change[1]  # and says nothing far from it
    assert np.abs(aim(camera, tool, [0.5, 0.5, FADE_TO])).max() == 0  # a lost keypoint draws nowhere


def test_a_place_in_the_picture_is_found_again_on_its_plane(seen):
    camera = fit_camera(*seen)
    rng = np.random.default_rng(2)
    for height in (-0.02, 0.0, 0.08):
        place = np.column_stack([rng.uniform(0.36, 0.6, 20), rng.uniform(-0.15, 0.15, 20), np.full(20, height)])
        np.testing.assert_allclose(locate(camera, project(camera, place), height), place[:, :2], atol=1e-9)
    with np.errstate(all="raise"):  # also where the ray meets the plane behind the camera
        assert np.isfinite(locate(camera, [0.1, -8.0], 0.0)).all()


def test_the_plane_of_things_follows_from_where_the_hand_was_right_above_them(seen):
    camera, rng = fit_camera(*seen), np.random.default_rng(3)
    things = np.column_stack([rng.uniform(0.4, 0.55, 9), rng.uniform(-0.1, 0.1, 9), np.full(9, 0.034)])
    points = np.column_stack([project(camera, things), np.ones(9)])
    hand = things + [0.0, 0.0, 0.05] + rng.normal(0, 0.002, (9, 3))
    points[4, :2] = 0.0  # one was not seen
    assert fit_plane(camera, hand, points) == pytest.approx(0.034, abs=0.004)


def test_reach_is_fine_where_a_grasp_is_decided_and_has_a_direction_everywhere():
    tool = np.array([0.45, 0.03, 0.12])
    near, far = reach(tool, tool + [0.005, 0.0, 0.0]), reach(tool, tool + [0.2, 0.0, -0.1])
    assert near[:3] == pytest.approx([0.005 / SCALES_M[0], 0, 0])
    assert near[6] > 3 * near[0]
    assert far[:3] == pytest.approx([2.0, 0, -1.0]) and far[6] == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(reach(tool, tool), np.zeros(9))
