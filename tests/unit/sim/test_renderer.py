"""Pictures of a pose, whoever asks for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from visarl.sim.renderer import SceneRenderer
from visarl.sim.tabletop import Simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """Its model has the camera and the light in their places."""
    simulator = Simulator("pick_red_block", seed=3)
    yield simulator
    simulator.close()


@pytest.fixture
def renderer(simulator: Simulator) -> Iterator[SceneRenderer]:
    renderer = SceneRenderer(simulator._model)
    yield renderer
    renderer.close()


@pytest.fixture
def pose(simulator: Simulator) -> np.ndarray:
    return simulator._data.qpos.copy()


def red(picture: np.ndarray) -> np.ndarray:
    """(u, v) of the block, as shares."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    v, u = np.argwhere((r > 90) & (g < 50) & (b < 50)).mean(axis=0)
    return np.array([u / picture.shape[1], v / picture.shape[0]])


def test_sizes_in_turn_show_the_same_scene(renderer: SceneRenderer, pose: np.ndarray) -> None:
    large = renderer.draw(pose, 320, 240)
    for width, height in ((64, 48), (320, 240), (160, 120)):
        picture = renderer.draw(pose, width, height)
        assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
        shrunk = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(picture.astype(int) - shrunk).mean() < 6
    assert np.array_equal(renderer.draw(pose, 320, 240), large)


def test_threads_get_the_same_picture_of_one_pose_and_their_own_of_others(
    renderer: SceneRenderer, simulator: Simulator, pose: np.ndarray
) -> None:
    poses = [pose.copy() for _ in range(4)]
    for i, other in enumerate(poses):
        other[simulator._object_qpos] += 0.02 * i
    alone = [renderer.draw(other, 160, 120) for other in poses]
    assert all((a != b).any() for a, b in zip(alone, alone[1:], strict=False))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda other: renderer.draw(other, 160, 120), poses * 5))
    assert all(np.array_equal(found, alone[i % 4]) for i, found in enumerate(together))


def test_the_block_is_drawn_where_the_pose_has_it(
    renderer: SceneRenderer, simulator: Simulator, pose: np.ndarray
) -> None:
    before = renderer.draw(pose, 320, 240)
    kept, moved = before.copy(), pose.copy()
    moved[simulator._object_qpos + 1] -= 0.05  # the camera looks back at the arm: y runs to its right
    to_the_left = red(renderer.draw(moved, 320, 240)) - red(before)
    assert to_the_left[0] < -0.05 and abs(to_the_left[1]) < 0.02
    assert np.array_equal(before, kept), "a picture that was handed out stays as it is"
    assert np.array_equal(simulator._data.qpos, pose), "drawing moves nothing"


def test_closing_ends_its_thread_and_may_be_said_twice(simulator: Simulator, pose: np.ndarray) -> None:
    before = set(threading.enumerate())
    renderer = SceneRenderer(simulator._model)
    renderer.draw(pose, 64, 48)
    assert set(threading.enumerate()) - before
    renderer.close()
    renderer.close()
    assert not set(threading.enumerate()) - before
