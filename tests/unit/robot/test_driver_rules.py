"""What the driver does round by round, on an arm without physics and without its thread."""

from __future__ import annotations

import time

import numpy as np
import pytest

from visarl.contract import get_contract
from visarl.errors import ArmError
from visarl.robot.driver import FAILURES, FAULT, READY, ArmDriver
from visarl.robot.interfaces import ArmState
from visarl.robot.safety import NOBODY, POLICY, TELEOP, Arbiter, Command


class StillArm:
    """Answers at once, never moves, and remembers what it was sent."""

    contract = get_contract("jaco2")
    unplugged = False

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []
        self._stamp_ns = 0

    def state(self) -> ArmState:
        if self.unplugged:
            raise ArmError("the cable is unplugged")
        self._stamp_ns += 1
        here = np.array([0.45, 0.0, 0.2])
        return ArmState(self._stamp_ns, np.zeros(6), np.zeros(6), np.zeros(3), here, np.array([0, 0, 0, 1.0]))

    def send(self, twist: np.ndarray, gripper: float) -> None:
        self.sent.append(twist)

    def stop(self) -> None:
        if self.unplugged:
            raise ArmError("the cable is unplugged")

    def clear(self) -> None: ...

    def home(self) -> None: ...


@pytest.fixture
def arm() -> StillArm:
    return StillArm()


def command(source: str, observed_ns: int = 0, sequence: int = 1) -> Command:
    twist = np.array([0.1, 0, 0, 0, 0, 0.0])
    return Command(source, sequence, time.time_ns(), "base_link", twist, 0.0, observed_ns)


def test_only_a_measurement_is_told_as_one(arm: StillArm) -> None:
    told: list[tuple[int, str]] = []
    driver = ArmDriver(arm, Arbiter(arm.contract), on_state=lambda state: told.append((state.stamp_ns, driver.mode[0])))
    for _ in range(3):
        driver._tick()
    assert told == [(2, READY), (3, READY), (4, READY)]
    arm.unplugged = True
    for _ in range(FAILURES + 10):
        driver._tick()
    # The fault is told, by the stamp of the last measurement; nothing else pretends that the arm answers.
    assert told[3:] == [(4, FAULT)]
    arm.unplugged = False
    driver._tick()
    assert told[4:] == [(5, FAULT)]


def test_homing_forgets_what_was_wished_before(arm: StillArm) -> None:
    driver = ArmDriver(arm, Arbiter(arm.contract))
    for sequence in range(1, 4):  # the first finds no time passed to accelerate in
        assert driver.offer(command(TELEOP, sequence=sequence)) == ()
        driver._tick()
    assert arm.sent[-1].any() and driver.source == TELEOP
    assert driver.home() == ()
    assert driver.source == NOBODY
    arm.sent.clear()
    driver._homing_s = None  # as if it had been there already
    driver._tick()
    assert arm.sent and not np.any(arm.sent)


def test_the_gate_knows_when_it_was_opened(arm: StillArm) -> None:
    driver = ArmDriver(arm, Arbiter(arm.contract))
    assert driver.policy_opened_ns == 0
    before_ns = time.time_ns()
    assert driver.enable_policy(True) == ()
    first_ns = driver.policy_opened_ns
    assert before_ns <= first_ns <= time.time_ns()
    assert "before the policy was enabled" in driver.offer(command(POLICY, first_ns - 1))[0]
    driver.enable_policy(False)
    assert driver.policy_opened_ns == first_ns
    driver.enable_policy(True)
    assert driver.policy_opened_ns > first_ns
    assert driver.offer(command(POLICY, driver.policy_opened_ns)) == ()
