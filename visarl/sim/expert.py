"""A scripted demonstrator that picks things up, and puts them down, about as a person at a joystick would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CONTROL_RATE_HZ
from visarl.robot.interfaces import ArmState
from visarl.sim.backend import mujoco
from visarl.sim.controller import rotation_vector
from visarl.sim.props import GOALS
from visarl.sim.scatter import TOOL_DOWN
from visarl.sim.tabletop import SceneTruth
from visarl.sim.tasks import get_task

Array = NDArray[np.float64]

GRASP_HEIGHT_M = 0.026
"""Of the tool above the table when the fingers close: as low as the fingertips allow."""
REACHED_M = 0.008
LIFT_M = 0.10
SLIPPED_M = 0.045
"""An object farther than this from the tool while lifting was not grasped."""
SPEED_M_S, CAREFUL_SPEED_M_S = (0.045, 0.075), (0.034, 0.050)
"""Range of an episode's top speed; of one in which something is carried."""
CARRY_M = 0.125
"""Height of the hand above the table while it carries."""
OVER_GOAL_M = 0.010
"""A hand so near to the goal's axis goes straight down."""
LET_GO_SHARE = 0.25
"""Of the fingers' travel: a hand opened so far has let go."""


class Expert:
    """Approaches through a funnel, closes, lifts, and holds or places; tries again when the object stays behind.

    The funnel makes the wanted height a function of the distance that is left, so a hand that is pushed off its way
    just finds the way from there: the recorded command is right in every state, which is what a clone needs.

    Args:
        seed: chooses this episode's manner: speed, slope, detour, hesitations.
        task: what to do.
    """

    def __init__(self, seed: int = 0, task: str = "pick_red_block") -> None:
        rng = np.random.default_rng([seed, 2])
        goal = get_task(task).goal
        self._goal = None if goal is None else GOALS[goal]
        self._speed = rng.uniform(*(SPEED_M_S if goal is None else CAREFUL_SPEED_M_S))
        self._slope = rng.uniform(1.6, 2.8)
        self._mouth = rng.uniform(0.010, 0.016)  # distance at which the hand goes straight down
        self._ceiling = rng.uniform(0.12, 0.17)
        self._detour = rng.uniform(-0.35, 0.35)  # tangent of the angle by which a far hand aims beside the object
        self._wait = int(rng.integers(0, 3))  # looks before it moves
        self._dwell = int(rng.integers(0, 4))  # steadies itself before it closes
        self._hover = int(rng.integers(0, 5)) if rng.random() < 0.4 else 0  # hesitates half-way down
        self._lift_speed = rng.uniform(0.8, 1.0) * self._speed
        self._phase = "approach"
        self._count = 0
        self._velocity = np.zeros(3)
        self._fingers: list[Array] = []
        self.attempts = 1
        self.done = False

    @property
    def phase(self) -> str:
        """approach, close, lift, then hold or carry, let_go and leave; back_off where it went wrong."""
        return self._phase

    def act(self, truth: SceneTruth, state: ArmState) -> Array:
        """The contract's action, (7,), for what is true now."""
        self.done = truth.success
        tool, thing = truth.positions["effector"], truth.positions["object"]
        self._target = truth.positions.get("goal")
        velocity, gripper = getattr(self, f"_{self._phase}")(tool, thing, state)
        # A hand has inertia: no command jumps by more than 3 cm/s a period.
        change = velocity - self._velocity
        self._velocity = self._velocity + change * min(1.0, 0.03 / max(float(np.linalg.norm(change)), 1e-9))
        return np.concatenate([self._velocity / CONTROL_RATE_HZ, _upright(state) / CONTROL_RATE_HZ, [gripper]])

    def _enter(self, phase: str) -> None:
        self._phase, self._count = phase, 0
        self._fingers.clear()

    def _approach(self, tool: Array, thing: Array, _: ArmState) -> tuple[Array, float]:
        if self._wait > 0:
            self._wait -= 1
            return np.zeros(3), -1.0
        offset = thing[:2] - tool[:2]
        distance = float(np.linalg.norm(offset))
        height = min(self._ceiling, GRASP_HEIGHT_M + self._slope * max(0.0, distance - self._mouth))
        drop = height - tool[2]
        if distance < REACHED_M and abs(drop) < REACHED_M:
            self._count += 1
            if self._count > self._dwell:
                self._enter("close")
        elif self._hover > 0 and distance < 0.03 and tool[2] < 0.10:
            self._hover -= 1
            return np.zeros(3), -1.0
        swing = self._detour * min(1.0, max(0.0, distance - 0.03) / 0.08)
        aim = offset + swing * np.array([-offset[1], offset[0]])
        return self._towards(np.array([aim[0], aim[1], drop])), -1.0

    def _close(self, tool: Array, thing: Array, state: ArmState) -> tuple[Array, float]:
        self._count += 1
        self._fingers.append(state.fingers)
        stalled = len(self._fingers) > 4 and float(np.abs(self._fingers[-1] - self._fingers[-4]).max()) < 0.02
        if (stalled and self._count > 5) or self._count > 20:
            self._enter("lift")
        # Small corrections while the fingers come together; they centre the object between them anyway.
        offset = np.array([*(thing[:2] - tool[:2]), GRASP_HEIGHT_M - tool[2]])
        return offset * min(1.0, 0.02 / max(float(np.linalg.norm(offset)), 1e-9)), 1.0

    def _lift(self, tool: Array, thing: Array, _: ArmState) -> tuple[Array, float]:
        self._count += 1
        if float(np.linalg.norm(tool - thing)) > SLIPPED_M:
            self._enter("back_off")
        elif self._goal is None and tool[2] > GRASP_HEIGHT_M + LIFT_M:
            self._enter("hold")
        elif self._goal is not None and tool[2] > CARRY_M - REACHED_M:
            self._enter("carry")
        return np.array([0.0, 0.0, self._lift_speed]), 1.0

    def _hold(self, tool: Array, thing: Array, _: ArmState) -> tuple[Array, float]:
        if float(np.linalg.norm(tool - thing)) > SLIPPED_M:
            self._enter("back_off")
        return np.zeros(3), 1.0

    def _carry(self, tool: Array, thing: Array, _: ArmState) -> tuple[Array, float]:
        """To the goal through a funnel, as to the object before: its height follows from the distance that is left."""
        if float(np.linalg.norm(tool - thing)) > SLIPPED_M:
            self._enter("back_off")
        assert self._goal is not None and self._target is not None
        # What hangs a little beside the middle of the hand has to come over the middle of the goal.
        offset = self._target[:2] - thing[:2]
        distance = float(np.linalg.norm(offset))
        over = max(0.0, distance - OVER_GOAL_M)
        height = min(CARRY_M, self._goal.release_height + self._slope * over)
        drop = height - tool[2]
        if distance < OVER_GOAL_M and abs(drop) < REACHED_M:
            self._count += 1
            if self._count > self._dwell:
                self._enter("let_go")
        return self._towards(np.array([*offset, drop])), 1.0

    def _let_go(self, tool: Array, thing: Array, state: ArmState) -> tuple[Array, float]:
        self._count += 1
        if float(state.fingers.max()) < LET_GO_SHARE or self._count > 20:
            self._enter("leave")
        return np.zeros(3), -1.0

    def _leave(self, tool: Array, thing: Array, _: ArmState) -> tuple[Array, float]:
        """Up and away; if it did not stay where it was put, from the beginning."""
        assert self._target is not None and self._goal is not None
        self._count += 1
        missed = float(np.linalg.norm(self._target[:2] - thing[:2])) > self._goal.rim_radius
        if missed and tool[2] > CARRY_M - REACHED_M:
            self.attempts += 1
            self._enter("approach")
        return np.array([0.0, 0.0, self._speed if tool[2] < CARRY_M else 0.0]), -1.0

    def _back_off(self, tool: Array, thing: Array, state: ArmState) -> tuple[Array, float]:
        """Missed: open and rise clear of the object, then approach anew."""
        self._count += 1
        if tool[2] > 0.10 and float(state.fingers.max()) < 0.2:
            self.attempts += 1
            self._enter("approach")
        return np.array([0.0, 0.0, self._speed if tool[2] < 0.12 else 0.0]), -1.0

    def _towards(self, offset: Array) -> Array:
        """A velocity along `offset`: full speed far away, gently near."""
        velocity = 2.0 * offset
        return velocity * min(1.0, self._speed / max(float(np.linalg.norm(velocity)), 1e-9))


def _upright(state: ArmState) -> Array:
    """Turning speed [rad/s] that brings the fingers back to straight down."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.roll(state.tool_quaternion, 1))
    turn = rotation_vector(TOOL_DOWN @ matrix.reshape(3, 3).T)
    return np.asarray(turn * min(1.0, 0.3 / max(float(np.linalg.norm(turn)), 1e-9)))
