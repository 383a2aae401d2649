"""The simulated arm's firmware: follows a twist of the tool, closing the loop on the measured pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visarl.robot.interfaces import EXPIRY_S
from visarl.sim.backend import mujoco
from visarl.sim.scene import FINGER_SPEED_RAD_S, HOME_POSITION, JOINT_SPEED_RAD_S, TOOL_SITE

Array = NDArray[np.float64]

TOOL_SITE_FULL = f"jaco/hand/{TOOL_SITE}"
"""The tool's site in the compiled scene."""

RAMP_S = 0.1
"""An expired set-point fades to zero over this time."""
ACCELERATION = np.array([1.5] * 3 + [4.0] * 3)
"""Largest change of the executed twist [m/s², rad/s²]; keeps a step in the set-point from shaking the arm."""
POSE_GAIN = 6.0
"""[1/s] How fast an error of the pose against the reference is removed."""
LEAD_M, LEAD_RAD = 0.02, 0.15
"""The reference runs at most this far ahead of the measured pose, so that a blocked arm does not spring loose later."""
DAMPING = 0.03
"""Of the least squares: bounds joint speeds near a singularity."""
TURN_MARGIN_RAD = 0.1
"""Joints without a mechanical stop still keep within one turn and this margin of the contract's bounds."""
HOME_GAIN = 2.0


class TwistController:
    """Turns a set-point (twist, gripper speed) into speeds of the joints and fingers.

    Args:
        model: the compiled scene; the arm's joints are its first `joints`, the fingers' follow.
        joints: how many joints the arm has.
    """

    def __init__(self, model: mujoco.MjModel, joints: int) -> None:
        self._model = model
        self._joints = joints
        self._site = model.site(TOOL_SITE_FULL).id
        limited = model.jnt_limited[:joints].astype(bool)
        turn = 2 * np.pi - TURN_MARGIN_RAD
        self._low = np.where(limited, model.jnt_range[:joints, 0], -turn)
        self._high = np.where(limited, model.jnt_range[:joints, 1], turn)
        self._jacobian = np.zeros((6, model.nv))
        self.stopped = False
        self.forget()

    def forget(self) -> None:
        """Drop the set-point and the reference: the arm stands where it is."""
        self._twist, self._gripper, self._given_s = np.zeros(6), 0.0, -np.inf
        self._executed = np.zeros(6)
        self._reference: tuple[Array, Array] | None = None
        self._homing = False

    def command(self, twist: Array, gripper: float, now_s: float) -> None:
        """A new set-point, given at `now_s`."""
        self._twist, self._gripper, self._given_s = twist.copy(), gripper, now_s
        self._homing = False

    def home(self) -> None:
        self.forget()
        self._homing = True

    @property
    def homing(self) -> bool:
        return self._homing

    def step(self, data: mujoco.MjData, now_s: float, dt_s: float, noise: Array) -> None:
        """Write `data.ctrl` for the next `dt_s`; `noise` (6,) is added to the twist while a set-point is alive."""
        n = self._joints
        if self.stopped:
            self.forget()
            data.ctrl[:] = 0.0
            return
        position = data.qpos[:n]
        if self._homing:
            error = HOME_POSITION - position
            self._homing = bool(np.abs(error).max() > 0.01)
            data.ctrl[:n] = _within(HOME_GAIN * error, JOINT_SPEED_RAD_S)
            data.ctrl[n:] = -FINGER_SPEED_RAD_S
            return
        age = now_s - self._given_s
        alive = float(np.clip(1.0 - (age - EXPIRY_S) / RAMP_S, 0.0, 1.0))
        wanted = alive * (self._twist + noise) if alive > 0 else np.zeros(6)
        change = wanted - self._executed
        self._executed = self._executed + _within(change, ACCELERATION * dt_s)
        speeds = self._follow(data, dt_s)
        # A joint at its end stays there, and the others go on.
        speeds = np.clip(speeds, (self._low - position) / dt_s, (self._high - position) / dt_s)
        data.ctrl[:n] = _within(speeds, JOINT_SPEED_RAD_S)
        data.ctrl[n:] = alive * self._gripper * FINGER_SPEED_RAD_S

    def _follow(self, data: mujoco.MjData, dt_s: float) -> Array:
        """Joint speeds that carry the tool along the integrated reference, (joints,)."""
        position = data.site_xpos[self._site]
        rotation = data.site_xmat[self._site].reshape(3, 3)
        if self._reference is None:
            self._reference = (position.copy(), rotation.copy())
        goal, goal_rotation = self._reference
        goal = goal + self._executed[:3] * dt_s
        goal_rotation = rotation_matrix(self._executed[3:] * dt_s) @ goal_rotation
        error = goal - position
        turn = rotation_vector(goal_rotation @ rotation.T)
        error *= min(1.0, LEAD_M / max(float(np.linalg.norm(error)), 1e-9))
        turn *= min(1.0, LEAD_RAD / max(float(np.linalg.norm(turn)), 1e-9))
        self._reference = (position + error, rotation_matrix(turn) @ rotation)
        mujoco.mj_jacSite(self._model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        twist = self._executed + POSE_GAIN * np.concatenate([error, turn])
        return damped_solve(self._jacobian[:, : self._joints], twist)


def _within(vector: Array, limit: Array) -> Array:
    """`vector` scaled as a whole so that no number exceeds its limit: the direction of the motion stays."""
    return vector / max(1.0, float(np.abs(vector / limit).max()))


def damped_solve(jacobian: Array, twist: Array) -> Array:
    """Damped least squares, (6, n) and (6,) to (n,)."""
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), twist)


def rotation_matrix(vector: Array) -> Array:
    """Rotation by |vector| rad about `vector`, (3,) to (3, 3)."""
    quaternion, matrix = np.empty(4), np.empty(9)
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle > 1e-12 else np.array([1.0, 0.0, 0.0])
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def rotation_vector(matrix: Array) -> Array:
    """The inverse of `rotation_matrix`, angles up to pi."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def solve_pose(model: mujoco.MjModel, data: mujoco.MjData, joints: int, position: Array, rotation: Array) -> bool:
    """Move `data.qpos[:joints]` so that the tool is at the pose; False where it cannot be reached."""
    site = model.site(TOOL_SITE_FULL).id
    jacobian = np.zeros((6, model.nv))
    for _ in range(100):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error = position - data.site_xpos[site]
        turn = rotation_vector(rotation @ data.site_xmat[site].reshape(3, 3).T)
        if np.linalg.norm(error) < 1e-4 and np.linalg.norm(turn) < 1e-3:
            return True
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        step = damped_solve(jacobian[:, :joints], np.concatenate([error, turn]))
        data.qpos[:joints] += step * min(1.0, 0.2 / max(float(np.abs(step).max()), 1e-9))
    return False
