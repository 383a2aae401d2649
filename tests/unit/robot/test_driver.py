from __future__ import annotations

import time

import numpy as np
import pytest

from visarl.contract import get_contract
from visarl.errors import ArmError
from visarl.robot.backends import open_arm
from visarl.robot.driver import FAULT, READY, STOPPED, ArmDriver
from visarl.robot.safety import POLICY, Arbiter, Command
from visarl.sim.jaco import RealTime, SimArm  # noqa: E402
from visarl.sim.tabletop import Simulator  # noqa: E402


class FragileArm(SimArm):
    """The simulated arm with a cable that can be pulled."""

    unplugged = False
    deaf = False
    stops = 0

    def state(self):
        self._cable()
        return super().state()

    def send(self, twist, gripper):
        self._cable()
        if self.deaf:
            raise ArmError("the arm does not listen")
        super().send(twist, gripper)

    def stop(self):
        self._cable()
        self.stops += 1
        super().stop()

    def home(self):
        self._cable()
        super().home()

    def _cable(self):
        if self.unplugged:
            raise ArmError("the cable is unplugged")


@pytest.fixture
def bench():
    simulator = Simulator(seed=3)
    arm = FragileArm(simulator)
    arm.connect()
    sent = []
    driver = ArmDriver(arm, Arbiter(get_contract("jaco2")), sent.append)
    with RealTime(simulator):
        driver.start()
        yield driver, arm, sent
        driver.close()
    simulator.close()


def up(sequence: int) -> Command:
    now = time.time_ns()
    return Command(POLICY, sequence, now, "base_link", np.array([0, 0, 0.05, 0, 0, 0.0]), 0.0, now)


def wait(condition, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)


def keep_moving(driver: ArmDriver, until, first: int = 1) -> None:
    sequence = first

    def step() -> bool:
        nonlocal sequence
        driver.offer(up(sequence))
        sequence += 1
        return until()

    wait(step)


def test_a_command_is_executed_at_once_and_moves_the_arm(bench) -> None:
    driver, _, sent = bench
    driver.enable_policy(True)
    before = len(sent)
    assert driver.offer(up(1)) == ()
    assert any(decision.command is not None for decision in sent[before:])
    height = driver.measured.tool_position[2]
    keep_moving(driver, lambda: driver.measured.tool_position[2] > height + 0.02, first=2)


def test_silence_brings_the_arm_to_rest(bench) -> None:
    driver, _, sent = bench
    driver.enable_policy(True)
    keep_moving(driver, lambda: np.abs(driver.measured.velocity).max() > 0.05)
    wait(lambda: not sent[-1].twist.any() and np.abs(driver.measured.velocity).max() < 0.02 and driver.source == "none")


def test_stop_latches_and_clear_does_not_move(bench) -> None:
    driver, _, sent = bench
    driver.enable_policy(True)
    keep_moving(driver, lambda: np.abs(driver.measured.velocity).max() > 0.05)
    driver.stop("test")
    assert driver.mode == (STOPPED, "test") and not sent[-1].twist.any()
    assert driver.offer(up(10_000))
    driver.clear()
    assert driver.mode[0] == READY and not driver.policy_enabled


def test_a_pulled_cable_is_a_fault_until_cleared(bench) -> None:
    driver, arm, _ = bench
    arm.unplugged = True
    wait(lambda: driver.mode[0] == FAULT)
    assert "unplugged" in driver.mode[1]
    assert driver.enable_policy(True)
    arm.unplugged = False
    driver.clear()
    assert driver.mode[0] == READY


def test_an_arm_that_takes_no_set_points_is_a_fault_and_offer_never_raises(bench) -> None:
    driver, arm, _ = bench
    driver.enable_policy(True)
    keep_moving(driver, lambda: np.abs(driver.measured.velocity).max() > 0.05)
    arm.deaf = True
    said: list[str] = []
    sequence = 10_000

    def offer() -> bool:
        nonlocal sequence
        sequence += 1
        said.extend(driver.offer(up(sequence)))
        return driver.mode[0] == FAULT

    wait(offer)
    assert "does not listen" in driver.mode[1] and any("not sent" in reason for reason in said)
    assert driver.error is None


def test_a_lost_link_reports_its_fault_and_the_stop_follows_when_it_is_back(bench) -> None:
    driver, arm, _ = bench
    driver.enable_policy(True)
    keep_moving(driver, lambda: np.abs(driver.measured.velocity).max() > 0.05)
    arm.unplugged = True
    wait(lambda: driver.mode[0] == FAULT)
    assert "unplugged" in driver.stop("test")[0]
    assert driver.error is None and driver._thread.is_alive()
    before, arm.unplugged = arm.stops, False
    wait(lambda: arm.stops > before)
    driver.clear()
    assert driver.mode[0] == READY


def test_stop_and_home_on_a_lost_link_say_so(bench) -> None:
    driver, arm, _ = bench
    arm.unplugged = True
    assert "unplugged" in driver.home()[0]
    assert "unplugged" in driver.stop("test")[0]
    assert driver.mode[0] in (STOPPED, FAULT)


def test_homing_refuses_commands_and_ends(bench) -> None:
    driver, _, _ = bench
    assert driver.home() == ()
    assert "homing" in driver.offer(up(1))[0]
    assert driver.enable_policy(True)
    wait(lambda: driver.mode[0] == READY, 120.0)


@pytest.mark.parametrize("backend", ["kortex", "jaco2"])
def test_the_real_arms_say_that_they_come_later(backend) -> None:
    with pytest.raises(ArmError, match="comes in a later release"):
        open_arm(backend)


def test_an_unknown_arm_is_told_its_neighbours() -> None:
    with pytest.raises(ArmError, match="did you mean 'kortex'"):
        open_arm("kortx")
