"""What every arm must do, whoever builds it. A back-end's test inherits `ArmTests` and says how to make one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from visarl.errors import ArmError
from visarl.robot.interfaces import EXPIRY_S, Arm

Wait = Callable[[float], float]
"""Lets so many seconds of the arm's own time pass, or a little more, and tells that time [s]."""

RENEW_S = 0.05
"""How often the tests renew a set-point."""


class ArmTests:
    """Inherit and implement `make`; the arm may need 20 cm of free way along +y and +z, and around its tool."""

    real_time = False
    """Whether a set-point ages by the wall clock. On a busy machine the next one may then come too late, and the arm
    rightly stops: how far it got says nothing, and the test is skipped."""

    def make(self) -> tuple[Arm, Wait, Callable[[], None]]:
        """An arm that is not connected yet, how to let its time pass, and what frees it."""
        raise NotImplementedError

    @pytest.fixture
    def unconnected(self) -> Iterator[tuple[Arm, Wait]]:
        arm, wait, free = self.make()
        yield arm, wait
        arm.close()
        free()

    @pytest.fixture
    def bench(self, unconnected: tuple[Arm, Wait]) -> tuple[Arm, Wait]:
        unconnected[0].connect()
        return unconnected

    def drive(self, bench: tuple[Arm, Wait], twist: list[float], seconds: float, gripper: float = 0.0) -> float:
        """Hold a set-point, then let the arm come to rest; for how long it was held [s]."""
        arm, wait = bench
        begin_s = now_s = wait(0.0)
        sent_s = [time.monotonic()]
        while now_s - begin_s < seconds - RENEW_S / 2:
            arm.send(np.array(twist, dtype=float), gripper)
            now_s = wait(RENEW_S)
            sent_s.append(time.monotonic())
        self.rest(bench)
        self.in_time(np.diff(sent_s).max())
        return now_s - begin_s

    def in_time(self, seconds: float) -> None:
        """Skip the test if a set-point that was to live had to wait for `seconds` of the wall clock."""
        if self.real_time and seconds > EXPIRY_S:
            pytest.skip(f"too busy a machine: a set-point that expires after {EXPIRY_S} s waited for {seconds:.2f} s")

    def rest(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        for _ in range(40):
            arm.send(np.zeros(6), 0.0)
            wait(RENEW_S)
            if np.abs(arm.state().velocity).max() < 0.005:
                return
        raise AssertionError("the arm does not come to rest")

    # ---- the link ----------------------------------------------------------------------------------------------

    def test_needs_to_be_connected_first(self, unconnected: tuple[Arm, Wait]) -> None:
        arm, _ = unconnected
        with pytest.raises(ArmError, match="connect"):
            arm.state()
        with pytest.raises(ArmError, match="connect"):
            arm.send(np.zeros(6), 0.0)

    def test_connecting_does_not_move(self, unconnected: tuple[Arm, Wait]) -> None:
        arm, wait = unconnected
        arm.connect()
        before = arm.state().tool_position
        wait(0.5)
        assert np.linalg.norm(arm.state().tool_position - before) < 0.002

    def test_closes_twice_and_then_refuses(self, bench: tuple[Arm, Wait]) -> None:
        arm, _ = bench
        arm.close()
        arm.close()
        with pytest.raises(ArmError):
            arm.send(np.zeros(6), 0.0)

    # ---- measuring ---------------------------------------------------------------------------------------------

    def test_state_keeps_the_contract(self, bench: tuple[Arm, Wait]) -> None:
        arm, _ = bench
        state = arm.state()
        arm.contract.proprioception.validate(state.proprioception())
        assert state.tool_position.shape == (3,) and state.external_force.shape == (3,)
        assert np.linalg.norm(state.tool_quaternion) == pytest.approx(1.0, abs=1e-6)
        assert abs(time.time_ns() - state.stamp_ns) < 1e9
        assert state.fault == ""

    def test_state_is_a_copy(self, bench: tuple[Arm, Wait]) -> None:
        arm, _ = bench
        before = arm.state()
        kept = before.proprioception().copy()
        self.drive(bench, [0, 0, 0.05, 0, 0, 0], 0.5)
        assert (before.proprioception() == kept).all()

    # ---- moving ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("axis", [1, 2])
    def test_twenty_centimetres_asked_are_twenty_moved(self, bench: tuple[Arm, Wait], axis: int) -> None:
        arm, _ = bench
        before = arm.state().tool_position
        twist = np.zeros(6)
        twist[axis] = 0.08
        held_s = self.drive(bench, list(twist), 2.5)
        moved = arm.state().tool_position - before
        wanted = held_s * twist[:3]
        assert np.linalg.norm(moved - wanted) < 0.01, moved

    def test_turns_as_far_as_asked_about_the_base_axis_without_moving_the_tool(self, bench: tuple[Arm, Wait]) -> None:
        arm, _ = bench
        before = arm.state()
        held_s = self.drive(bench, [0, 0, 0, 0, 0, 0.3], 1.5)
        after = arm.state()
        angle = 2 * np.arccos(min(1.0, abs(float(before.tool_quaternion @ after.tool_quaternion))))
        assert angle == pytest.approx(0.3 * held_s, abs=0.03)
        assert np.linalg.norm(after.tool_position - before.tool_position) < 0.01

    def test_joints_keep_their_rated_speed(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        limit = arm.contract.proprioception.high[arm.contract.joints : 2 * arm.contract.joints] / 2
        fastest = np.zeros(arm.contract.joints)
        for _ in range(15):
            arm.send(arm.contract.max_twist * [0, 1, 1, 0, 0, 1], 0.0)
            wait(RENEW_S)
            fastest = np.maximum(fastest, np.abs(arm.state().velocity))
        assert (fastest < 1.1 * limit).all(), fastest / limit

    def test_fingers_close_and_open(self, bench: tuple[Arm, Wait]) -> None:
        arm, _ = bench
        self.drive(bench, [0.0] * 6, 2.0, gripper=1.0)
        closed = arm.state().fingers
        self.drive(bench, [0.0] * 6, 2.0, gripper=-1.0)
        opened = arm.state().fingers
        assert (closed > 0.7).all() and (opened < 0.1).all(), (closed, opened)

    def test_an_unrenewed_set_point_expires(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        before, sent_s = arm.state().tool_position, time.monotonic()
        arm.send(np.array([0, 0, 0.1, 0, 0, 0.0]), 0.0)
        wait(0.1)
        self.in_time(time.monotonic() - sent_s)
        wait(0.9)
        moved = float(np.linalg.norm(arm.state().tool_position - before))
        assert 0.003 < moved < 0.1 * (EXPIRY_S + 0.2), moved
        assert np.abs(arm.state().velocity).max() < 0.01

    @pytest.mark.parametrize(
        "twist", [np.full(6, np.nan), np.array([0, 0, np.inf, 0, 0, 0]), np.zeros(7), np.zeros((6, 1))]
    )
    def test_refuses_what_is_no_twist_and_stays(self, bench: tuple[Arm, Wait], twist: np.ndarray) -> None:
        arm, wait = bench
        before = arm.state().tool_position
        with pytest.raises(ArmError, match="twist"):
            arm.send(twist, 0.0)
        wait(0.3)
        assert np.linalg.norm(arm.state().tool_position - before) < 0.002

    def test_refuses_a_gripper_speed_that_is_no_number(self, bench: tuple[Arm, Wait]) -> None:
        with pytest.raises(ArmError, match="gripper"):
            bench[0].send(np.zeros(6), float("nan"))

    # ---- stopping ----------------------------------------------------------------------------------------------

    def test_stop_is_at_once_and_latches(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        for _ in range(10):
            arm.send(np.array([0, 0, 0.1, 0, 0, 0.0]), 0.0)
            wait(RENEW_S)
        arm.stop()
        stopped_at = arm.state().tool_position
        for _ in range(10):
            arm.send(np.array([0, 0, 0.1, 0, 0, 0.0]), 0.0)
            wait(RENEW_S)
        assert np.linalg.norm(arm.state().tool_position - stopped_at) < 0.01
        assert arm.state().fault
        arm.clear()
        cleared_at = arm.state().tool_position
        wait(0.5)
        assert np.linalg.norm(arm.state().tool_position - cleared_at) < 0.002, "clearing must not move"
        assert arm.state().fault == ""
        held_s = self.drive(bench, [0, 0, 0.05, 0, 0, 0], 1.0)
        assert arm.state().tool_position[2] - cleared_at[2] == pytest.approx(0.05 * held_s, abs=0.01)

    def test_home_returns_at_once_and_arrives_and_can_be_stopped(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        arm.home()
        self._until_still(bench)
        ready = arm.state().position
        self.drive(bench, [0, 0.08, 0.03, 0, 0, 0], 1.5)
        arm.home()
        wait(0.2)
        arm.stop()
        wait(0.3)
        away = np.abs(arm.state().position - ready).max()
        assert away > 0.05, "stop must end the way home"
        arm.clear()
        arm.home()
        self._until_still(bench)
        assert np.abs(arm.state().position - ready).max() < 0.03

    def _until_still(self, bench: tuple[Arm, Wait]) -> None:
        arm, wait = bench
        for _ in range(150):
            wait(0.2)
            if np.abs(arm.state().velocity).max() < 0.005:
                return
        raise AssertionError("the arm does not arrive")
