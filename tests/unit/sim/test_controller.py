"""The simulated arm's firmware, without the simulator around it."""

from __future__ import annotations

import numpy as np
import pytest

from visarl.contract import CONTRACTS
from visarl.robot.interfaces import EXPIRY_S
from visarl.robot.kinematics import tool_position
from visarl.sim.backend import mujoco
from visarl.sim.controller import (
    RAMP_S,
    TOOL_SITE_FULL,
    TURN_MARGIN_RAD,
    TwistController,
    rotation_matrix,
    rotation_vector,
    solve_pose,
)
from visarl.sim.scene import HOME_POSITION, JOINT_SPEED_RAD_S, TIMESTEP_S, build_model
from visarl.sim.tasks import get_task

JOINTS = CONTRACTS["jaco2"].joints
TICK_S = 0.01
START, DOWN = np.array([0.43, 0.0, 0.2]), np.diag([-1.0, 1.0, -1.0])


class Bench:
    """An arm above the table, its controller, and a clock."""

    def __init__(self) -> None:
        self.model = build_model(get_task("pick_red_block"))
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:JOINTS] = HOME_POSITION
        assert solve_pose(self.model, self.data, JOINTS, START, DOWN)
        mujoco.mj_forward(self.model, self.data)
        self.controller = TwistController(self.model, JOINTS)
        self.now_s = 0.0

    def tick(self, moves: bool = True) -> np.ndarray:
        """One period of the controller; (joints + fingers,) what it asks for. A blocked arm stays where it is."""
        self.controller.step(self.data, self.now_s, TICK_S, np.zeros(6))
        if moves:
            mujoco.mj_step(self.model, self.data, nstep=round(TICK_S / TIMESTEP_S))
        self.now_s += TICK_S
        return self.data.ctrl.copy()

    def hold(self, twist: np.ndarray, seconds: float, moves: bool = True) -> np.ndarray:
        """Renew a set-point at every tick; (T, 3) where the tool was."""
        path = []
        for _ in range(round(seconds / TICK_S)):
            self.controller.command(twist, 0.0, self.now_s)
            self.tick(moves)
            path.append(self.pose[0].copy())
        return np.array(path)

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        site = self.data.site(TOOL_SITE_FULL)
        return site.xpos.copy(), site.xmat.reshape(3, 3).copy()

    def tool_speed(self) -> np.ndarray:
        """(6,) to which the commanded joint speeds amount."""
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self.model.site(TOOL_SITE_FULL).id)
        return jacobian[:, :JOINTS] @ self.data.ctrl[:JOINTS]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_follows_a_motion_along_and_about_all_axes_at_once(bench: Bench) -> None:
    (before, rotation), twist = bench.pose, np.array([0.04, 0.07, 0.05, 0.1, -0.15, 0.3])
    path = bench.hold(twist, 1.5)
    bench.hold(np.zeros(6), 0.5)
    after, turned = bench.pose
    assert after - before == pytest.approx(1.5 * twist[:3], abs=0.003)
    assert rotation_vector(turned @ rotation.T) == pytest.approx(1.5 * twist[3:], abs=0.02)
    along = twist[:3] / np.linalg.norm(twist[:3])
    beside = (path - before) - np.outer((path - before) @ along, along)
    assert np.linalg.norm(beside, axis=1).max() < 0.003, "on a straight line"


def test_a_step_in_the_set_point_is_no_step_in_speed(bench: Bench) -> None:
    twist, speeds = np.array([0.0, 0.1, 0, 0, 0, 0]), []
    for _ in range(30):
        bench.controller.command(twist, 0.0, bench.now_s)
        bench.tick()
        speeds.append(bench.tool_speed()[1])
    assert speeds[0] < 0.02 and np.diff(speeds).max() < 0.025
    assert speeds[-1] == pytest.approx(0.1, rel=0.1)


def test_a_set_point_holds_until_it_expires_and_then_fades(bench: Bench) -> None:
    def fingers_at(age_s: float) -> float:
        bench.now_s = 1.0 + age_s
        return float(bench.tick(moves=False)[JOINTS])

    bench.controller.command(np.zeros(6), 1.0, 1.0)
    fresh = fingers_at(0.0)
    assert fresh > 0.5 and fingers_at(EXPIRY_S) == pytest.approx(fresh)
    assert fingers_at(EXPIRY_S + RAMP_S / 2) == pytest.approx(fresh / 2)
    assert fingers_at(EXPIRY_S + RAMP_S) == pytest.approx(0, abs=1e-9)
    bench.controller.command(np.zeros(6), 1.0, bench.now_s)
    assert bench.tick(moves=False)[JOINTS] == pytest.approx(fresh)


def test_an_arm_that_was_blocked_for_long_does_not_spring_loose(bench: Bench) -> None:
    push = np.array([0.05, 0, -0.1, 0, 0.2, 0])
    bench.hold(push, 1.0, moves=False)
    after_a_moment = bench.data.ctrl.copy()
    bench.hold(push, 10.0, moves=False)
    assert bench.data.ctrl == pytest.approx(after_a_moment, abs=1e-9)
    before = bench.pose[0]
    path = bench.hold(np.zeros(6), 1.0)
    assert np.linalg.norm(path - before, axis=1).max() < 0.03


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("joint", [0, 1, 2, 5])
def test_a_joint_at_its_end_stays_there_and_the_others_go_on(bench: Bench, joint: int, upper: bool) -> None:
    turn = 2 * np.pi - TURN_MARGIN_RAD
    low, high = bench.model.jnt_range[joint] if bench.model.jnt_limited[joint] else (-turn, turn)
    bench.data.qpos[joint] = high if upper else low
    mujoco.mj_forward(bench.model, bench.data)
    asked = {}
    for sign in (-1, 1):
        bench.controller.forget()
        bench.hold(sign * np.array([0.05, 0.05, 0.05, 0.3, 0.3, 0.3]), 0.3, moves=False)
        asked[sign] = bench.data.ctrl[:JOINTS].copy()
        assert np.abs(np.delete(asked[sign], joint)).max() > 0.1
    outwards, inwards = sorted((asked[sign][joint] for sign in asked), key=abs)
    assert outwards == pytest.approx(0, abs=1e-9), "one of two opposite motions would leave the range"
    assert (inwards < -0.01) if upper else (inwards > 0.01)


def test_too_fast_a_twist_slows_down_and_keeps_its_direction(bench: Bench) -> None:
    wanted = np.array([0.6, 0.3, 0.4, 0, 0, 0])
    bench.hold(wanted, 1.0, moves=False)
    assert np.abs(bench.data.ctrl[:JOINTS] / JOINT_SPEED_RAD_S).max() == pytest.approx(1.0)
    found = bench.tool_speed()
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.99


def test_homing_ends_at_home_or_with_the_next_set_point(bench: Bench) -> None:
    bench.controller.home()
    for _ in range(500):
        bench.tick()
        if not bench.controller.homing:
            break
    assert not bench.controller.homing and np.abs(bench.data.qpos[:JOINTS] - HOME_POSITION).max() < 0.02
    bench.controller.home()
    bench.controller.command(np.array([0, 0, 0.05, 0, 0, 0]), 0.0, bench.now_s)
    assert not bench.controller.homing


def test_a_rotation_is_its_vector_and_back() -> None:
    rng = np.random.default_rng(0)
    for angle in (0.0, 1e-9, 0.3, 2.0, np.pi - 1e-3):
        axis = rng.normal(size=3)
        vector = angle * axis / np.linalg.norm(axis)
        matrix = rotation_matrix(vector)
        assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12) and np.linalg.det(matrix) == pytest.approx(1)
        assert rotation_vector(matrix) == pytest.approx(vector, abs=1e-9)
    assert rotation_matrix(np.array([0, 0, np.pi / 2])) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-12)


def test_a_pose_is_reached_where_the_kinematics_say_and_refused_out_of_reach(bench: Bench) -> None:
    place, turn = START + [0.03, -0.08, -0.05], rotation_matrix(np.array([0.05, -0.1, 0.4])) @ DOWN
    assert solve_pose(bench.model, bench.data, JOINTS, place, turn)
    contract = CONTRACTS["jaco2"]
    proprioception = np.zeros(len(contract.proprioception))
    proprioception[:JOINTS] = bench.data.qpos[:JOINTS]
    assert tool_position(contract, proprioception) == pytest.approx(place, abs=0.002)
    mujoco.mj_forward(bench.model, bench.data)
    assert bench.pose[1] == pytest.approx(turn, abs=0.002)
    assert not solve_pose(bench.model, bench.data, JOINTS, np.array([1.6, 0, 0.3]), DOWN)
