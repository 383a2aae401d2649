"""Pictures of a pose, whoever asks for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from visarl.sim.backend import mujoco
from visarl.sim.renderer import SIZES, SceneRenderer
from visarl.sim.scene import CAMERA, CAMERA_FOVY_DEG
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


def test_depth_is_the_way_to_the_table(renderer: SceneRenderer, simulator: Simulator, pose: np.ndarray) -> None:
    """Pixel by pixel, the ray of the table's pixels ends on the table's plane, z = 0."""
    width, height = 320, 240
    depth = renderer.draw_depth(pose, width, height)
    assert depth.shape == (height, width) and depth.dtype == np.float32
    table = renderer.draw_segmentation(pose, width, height) == simulator._model.geom("table").id
    assert table.mean() > 0.5
    camera = simulator._model.camera(CAMERA).id
    mujoco.mju_quat2Mat(axes := np.empty(9), simulator._model.cam_quat[camera])
    focal = height / 2 / np.tan(np.deg2rad(CAMERA_FOVY_DEG) / 2)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    ahead = np.stack([(columns - width / 2) / focal, (height / 2 - rows) / focal, -np.ones((height, width))], axis=-1)
    z = simulator._model.cam_pos[camera][2] + depth * (ahead @ axes[6:])
    assert np.abs(z[table]).max() < 0.002
    assert (z[~table].max() > 0.15) and (depth[~table].min() > 0.2)


def test_every_pixel_knows_its_geom(renderer: SceneRenderer, simulator: Simulator, pose: np.ndarray) -> None:
    picture, found = renderer.draw(pose, 320, 240), renderer.draw_segmentation(pose, 320, 240)
    assert found.shape == (240, 320) and found.dtype == np.int32
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    block = found == simulator._model.geom("block").id
    assert block.sum() > 100 and np.array_equal(block, (r > 2 * g) & (r > 2 * b) & (r > 40))
    names = {simulator._model.geom(int(i)).name for i in np.unique(found)}
    assert {"table", "floor", "block"} < names and any(name.startswith("jaco/") for name in names)
    away = pose.copy()
    away[simulator._object_qpos + 2] = -5
    assert not (renderer.draw_segmentation(away, 320, 240) == simulator._model.geom("block").id).any()


def test_where_nothing_is_there_is_no_geom(renderer: SceneRenderer, simulator: Simulator, pose: np.ndarray) -> None:
    camera, quaternion = simulator._camera, simulator._model.cam_quat[simulator._camera].copy()
    try:
        simulator._model.cam_quat[camera] = [0, 1, 0, 0]  # straight up
        assert (renderer.draw_segmentation(pose, 64, 48) == -1).all()
        assert renderer.draw_depth(pose, 64, 48).min() > 5
    finally:
        simulator._model.cam_quat[camera] = quaternion


def test_depth_and_geoms_leave_the_pictures_as_they_are(renderer: SceneRenderer, pose: np.ndarray) -> None:
    before = renderer.draw(pose, 160, 120)
    depth, geoms = renderer.draw_depth(pose, 160, 120), renderer.draw_segmentation(pose, 160, 120)
    assert np.array_equal(renderer.draw(pose, 160, 120), before)
    assert np.array_equal(renderer.draw_depth(pose, 160, 120), depth)
    assert np.array_equal(renderer.draw_segmentation(pose, 160, 120), geoms)


def test_of_many_sizes_only_the_last_ones_keep_their_context(renderer: SceneRenderer, pose: np.ndarray) -> None:
    sizes = [(16 * i, 12 * i) for i in range(1, SIZES + 3)]
    first = [renderer.draw(pose, *size) for size in sizes]
    assert list(renderer._renderers) == sizes[-SIZES:]
    renderer.draw(pose, *sizes[-SIZES])
    renderer.draw(pose, *sizes[0])
    assert list(renderer._renderers) == [*sizes[1 - SIZES :][1:], sizes[-SIZES], sizes[0]], "the least used goes"
    assert all(np.array_equal(renderer.draw(pose, *size), found) for size, found in zip(sizes, first, strict=True))


def test_closing_ends_its_thread_and_may_be_said_twice(simulator: Simulator, pose: np.ndarray) -> None:
    before = set(threading.enumerate())
    renderer = SceneRenderer(simulator._model)
    renderer.draw(pose, 64, 48)
    assert set(threading.enumerate()) - before
    renderer.close()
    renderer.close()
    assert not set(threading.enumerate()) - before
