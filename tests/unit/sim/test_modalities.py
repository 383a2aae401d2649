"""Depth and normals, as arrays and as files keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args, get_type_hints

import numpy as np
import pytest

from visarl.config import PreprocessConfig
from visarl.errors import SimulationError
from visarl.options import Simulate
from visarl.preprocess import crop
from visarl.sim.backend import mujoco
from visarl.sim.modalities import (
    FAR_M,
    MODALITIES,
    NEAR_M,
    depth_bytes,
    modality_pictures,
    normal_bytes,
    normals,
)
from visarl.sim.tabletop import Simulator

FOVY_DEG = 40.0


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator("pick_red_block", seed=3)
    yield simulator
    simulator.close()


def wall(normal: np.ndarray, distance_m: float, width: int = 64, height: int = 48) -> np.ndarray:
    """Depth of the plane with that unit normal, in the camera's optical frame, so far along the camera's axis."""
    focal = height / 2 / np.tan(np.deg2rad(FOVY_DEG) / 2)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    rays = np.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, np.ones((height, width))], axis=-1)
    return (distance_m * normal[2] / (rays @ normal)).astype(np.float32)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.5, 0, -0.8), (0, -0.6, -0.7), (-0.3, 0.4, -0.8)])
def test_a_plane_has_its_normal_everywhere(normal: tuple[float, ...]) -> None:
    expected = np.array(normal) / np.linalg.norm(normal)
    found = normals(wall(expected, 0.7), FOVY_DEG)
    assert found.shape == (48, 64, 3) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-3


def test_an_edge_bends_no_normal() -> None:
    """A plane before another: each pixel's normal is that of its own one."""
    near, far = np.array([0, -0.6, -0.8]), np.array([0.0, 0.0, -1.0])
    depth = wall(far, 1.0)
    inside = np.zeros(depth.shape, bool)
    inside[10:30, 20:40] = True
    depth[inside] = wall(near, 0.5)[inside]
    found = normals(depth, FOVY_DEG)
    assert np.abs(found[inside] - near).max() < 1e-3
    assert np.abs(found[~inside] - far).max() < 1e-3


def test_the_table_faces_up_and_everything_faces_the_camera(simulator: Simulator) -> None:
    found = simulator.render_modalities(160, 120)
    assert found["depth"].shape == (120, 160) and found["normals"].shape == (120, 160, 3)
    assert np.abs(np.linalg.norm(found["normals"], axis=-1) - 1).max() < 1e-5
    mujoco.mju_quat2Mat(axes := np.empty(9), simulator._model.cam_quat[simulator._camera])
    up = axes.reshape(3, 3).T @ [0, 0, 1] * [1, -1, -1]  # MuJoCo's camera: y up, z backward
    geoms = simulator.render_segmentation(160, 120)
    table = geoms == simulator._model.geom("table").id
    inner = table & np.roll(table, 1, 0) & np.roll(table, -1, 0) & np.roll(table, 1, 1) & np.roll(table, -1, 1)
    assert inner.sum() > 5000 and np.abs(found["normals"][inner] - up).max() < 0.02
    height, width = found["depth"].shape
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    focal = height / 2 / np.tan(np.deg2rad(FOVY_DEG) / 2)
    rays = np.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, np.ones((height, width))], axis=-1)
    assert (np.sum(found["normals"] * rays, axis=-1) < 0).all()


def test_bytes_span_the_bench() -> None:
    depth = np.array([0.0, NEAR_M, (NEAR_M + FAR_M) / 2, FAR_M, 9.0], np.float32)
    assert depth_bytes(depth).tolist() == [0, 0, 128, 255, 255]
    assert normal_bytes(np.array([[-1, 0, 1], [0.5, -0.5, 0]], np.float32)).tolist() == [[0, 128, 255], [191, 64, 128]]


@pytest.mark.parametrize("task", ["pick_apple", "pick_red_block"])
def test_the_range_of_the_bytes_is_that_of_arm_and_table(simulator: Simulator, task: str) -> None:
    for seed in range(3):
        simulator.reset(task, seed)
        depth = simulator.render_modalities(160, 120)["depth"]
        behind = simulator.render_segmentation(160, 120) == simulator._model.geom("floor").id
        assert depth[~behind].min() > NEAR_M and depth[~behind].max() < FAR_M < depth[behind].min()


def test_files_keep_them_pixel_on_pixel_beside_the_picture(simulator: Simulator) -> None:
    """What changes in the cropped picture when the block is taken away changes in its depth, and nothing else does. So
    in its normals, but for the block's upper side, which faces as the table does."""
    preprocess = PreprocessConfig(size=96)

    def look() -> dict[str, np.ndarray]:
        found = modality_pictures(simulator, ("normals", "depth"), preprocess)
        return {"image": crop(simulator.render(), preprocess), **found}

    simulator.reset("pick_red_block", 3)
    there = look()
    assert {key: value.shape for key, value in there.items()} == {
        "image": (96, 96, 3),
        "normals": (96, 96, 3),
        "depth": (96, 96),
    }
    assert all(value.dtype == np.uint8 for value in there.values())
    simulator._data.qpos[simulator._object_qpos + 2] = -5
    gone = look()
    change = {key: np.abs(there[key].astype(int) - gone[key]).reshape(96, 96, -1).max(-1) > 3 for key in there}
    block = change["image"]
    assert block.sum() > 40
    assert (change["depth"] & block).sum() > 0.8 * (change["depth"] | block).sum()
    assert (change["normals"] & block).sum() > 0.8 * change["normals"].sum() > 0.3 * block.sum()


def test_a_name_that_is_none_is_refused_with_those_that_are(simulator: Simulator) -> None:
    with pytest.raises(SimulationError, match="did you mean 'depth'"):
        modality_pictures(simulator, ("deph",), PreprocessConfig())
    assert modality_pictures(simulator, (), PreprocessConfig()) == {}


def test_the_command_offers_what_there_is() -> None:
    offered = get_args(get_args(get_type_hints(Simulate)["modalities"])[0])
    assert offered == MODALITIES
