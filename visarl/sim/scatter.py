"""Lays out a scene: its things, the arm's start, the camera and the lamp, all of it drawn from the seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visarl.contract import ArmContract
from visarl.errors import SimulationError
from visarl.sim import layout, scene
from visarl.sim.backend import mujoco
from visarl.sim.controller import rotation_matrix, solve_pose
from visarl.sim.props import GOALS, OBJECTS, DistractorSet, distractors
from visarl.sim.tasks import LEFT, Task

START_POSITION = np.array([0.43, 0.0, 0.155])
START_JITTER_M = np.array([0.03, 0.04, 0.025])
START_JITTER_RAD = np.array([0.05, 0.05, 0.12])
TOOL_DOWN = np.diag([-1.0, 1.0, -1.0])
"""Orientation of the tool with the fingers straight down, closing along the base's y."""
CAMERA_JITTER_M, CAMERA_JITTER_DEG = 0.003, 0.3
UNASKED_DISTRACTORS = 3
"""On the table of a task that has none of its own, where somebody asks for some."""


def scatter(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    contract: ArmContract,
    task: Task,
    seed: int,
    others: DistractorSet | None,
) -> None:
    """Put everything in its place.

    Args:
        others: the set of distractors that `model` was built with.

    Raises:
        SimulationError: the arm does not reach its start pose.
    """
    rng = np.random.default_rng(seed)
    mujoco.mj_resetData(model, data)
    prop = OBJECTS[task.object]
    thing = task.area.point(layout.object_place(seed, rng.uniform(-1, 1, 2)))
    _put(model, data, scene.OBJECT_JOINT, thing, prop.rest_height, prop.turn * rng.uniform(-np.pi, np.pi))
    _add_others(model, data, task, seed, others, thing)
    _pose_arm(model, data, contract, seed, rng)
    _aim_camera(model, rng)
    _light(model, rng)


def _add_others(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    task: Task,
    seed: int,
    others: DistractorSet | None,
    thing: NDArray[np.float64],
) -> None:
    """Goal and distractors, by random numbers of their own: the rest of a scene does not depend on them."""
    rng = np.random.default_rng([seed, 4])
    goal, rim = None, 0.0
    if task.goal is not None:
        goal, rim = LEFT.point(layout.goal_place(seed, rng.uniform(-1, 1, 2))), GOALS[task.goal].rim_radius
        model.body_pos[model.body(scene.GOAL).id, :2] = goal
    if others is None:
        return
    kinds = distractors(others, task)
    names = list(rng.permutation(list(kinds))[: task.distractors or UNASKED_DISTRACTORS])
    radius = OBJECTS[task.object].radius
    before: list[NDArray[np.float64]] = []
    if others == "unseen":
        # In some scenes the tallest hides a part of the object or of the goal.
        names.sort(key=lambda name: -kinds[name].rest_height)
        hidden = rng.choice(["nothing", "object", "goal"] if goal is not None else ["nothing", "object"])
        if hidden == "object":
            before = layout.place_before(rng, thing, radius, kinds[names[0]].radius)
        elif hidden == "goal" and goal is not None:
            before = layout.place_before(rng, goal, rim, kinds[names[0]].radius)
    places = layout.distractor_places(rng, [kinds[n].radius for n in names], thing, radius, goal, rim, before)
    for name in kinds:  # those that take no part float where they are parked
        model.body_gravcomp[model.body(name).id] = float(name not in names)
    for name, place in zip(names, places, strict=True):
        _put(model, data, scene.joint_of(name), place, kinds[name].rest_height, rng.uniform(-np.pi, np.pi))


def _put(
    model: mujoco.MjModel, data: mujoco.MjData, joint: str, place: NDArray[np.float64], height: float, yaw: float
) -> None:
    """The free body of `joint` upright at `place` (2,) [m], turned by `yaw` [rad]."""
    address = int(model.joint(joint).qposadr[0])
    data.qpos[address : address + 3] = [*place, height]
    data.qpos[address + 3 : address + 7] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]


def _pose_arm(
    model: mujoco.MjModel, data: mujoco.MjData, contract: ArmContract, seed: int, rng: np.random.Generator
) -> None:
    data.qpos[: contract.joints] = scene.HOME_POSITION
    start = START_POSITION + rng.uniform(-1, 1, 3) * START_JITTER_M
    turn = rotation_matrix(rng.uniform(-1, 1, 3) * START_JITTER_RAD)
    if not solve_pose(model, data, contract.joints, start, turn @ TOOL_DOWN):
        raise SimulationError(f"seed {seed}: the start pose {start.round(3)} is out of the arm's reach")
    fingers = slice(contract.joints, contract.joints + contract.fingers)
    travel = scene.FINGER_CLOSED_RAD - scene.FINGER_OPEN_RAD
    data.qpos[fingers] = scene.FINGER_OPEN_RAD + travel * rng.uniform(0.0, 0.15)


def _aim_camera(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    camera = model.camera(scene.CAMERA).id
    elevation = np.deg2rad(scene.CAMERA_ELEVATION_DEG)
    back = np.array([np.cos(elevation), 0.0, np.sin(elevation)])
    eye = scene.CAMERA_TARGET + scene.CAMERA_DISTANCE_M * back
    tilt = rotation_matrix(np.deg2rad(CAMERA_JITTER_DEG) * rng.uniform(-1, 1, 3))
    right = np.array([0.0, 1.0, 0.0])
    axes = tilt @ np.column_stack([right, np.cross(back, right), back])
    model.cam_pos[camera] = eye + CAMERA_JITTER_M * rng.uniform(-1, 1, 3)
    mujoco.mju_mat2Quat(model.cam_quat[camera], axes.ravel())


def _light(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    lamp = model.light(scene.LIGHT).id
    direction = np.array([-0.1, 0.4, -1.0]) + rng.uniform(-1, 1, 3) * [0.5, 0.6, 0.0]
    model.light_dir[lamp] = direction / np.linalg.norm(direction)
    warmth = rng.uniform(-0.05, 0.05)
    model.light_diffuse[lamp] = rng.uniform(0.45, 0.72) * np.array([1 + warmth, 1.0, 1 - warmth])
    model.vis.headlight.ambient[:] = rng.uniform(0.32, 0.44)
