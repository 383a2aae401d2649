from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tests.backends.arm import ArmTests
from tests.backends.camera import CameraTests
from visarl.errors import CameraError, SimulationError
from visarl.sim.jaco import RealTime, SimArm, SimCamera
from visarl.sim.tabletop import Simulator


class TestSimArmInLockstep(ArmTests):
    def make(self):
        simulator = Simulator("pick_red_block", seed=3)

        def wait(seconds):
            simulator.advance(seconds)
            return simulator.time_s

        return SimArm(simulator), wait, simulator.close


class TestSimArmInRealTime(ArmTests):
    """As the graph runs it: the physics in a thread, by the clock."""

    real_time = True

    def make(self):
        simulator = Simulator("pick_red_block", seed=3)
        runner = RealTime(simulator)
        runner.start()

        def wait(seconds):
            end = simulator.time_s + seconds
            until(lambda: runner.check() or simulator.time_s >= end)
            return simulator.time_s

        def free():
            runner.stop()
            simulator.close()

        return SimArm(simulator), wait, free


class TestSimCamera(CameraTests):
    def make(self):
        simulator = Simulator("pick_red_block", seed=3)
        return SimCamera(simulator), simulator.close


@pytest.fixture
def simulator():
    simulator = Simulator("pick_red_block", seed=3)
    yield simulator
    simulator.close()


def until(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        threading.Event().wait(0.01)


def test_real_time_advances_with_the_clock(simulator):
    with RealTime(simulator) as runner:
        until(lambda: simulator.time_s >= 0.5)
        runner.check()
    stopped_at = simulator.time_s
    assert runner.advanced_s == pytest.approx(stopped_at, abs=0.02)
    assert 0.0 <= runner.lag < 1.0
    simulator.advance(0.1)
    assert simulator.time_s == pytest.approx(stopped_at + 0.1)


def test_real_time_expires_a_set_point_by_the_monotonic_clock(simulator):
    arm = SimArm(simulator)
    arm.connect()
    before = arm.state().tool_position
    with RealTime(simulator):
        arm.send(np.array([0, 0, 0.1, 0, 0, 0.0]), 0.0)
        until(lambda: simulator.time_s >= 0.8)
        assert np.abs(arm.state().velocity).max() < 0.01
    assert np.linalg.norm(arm.state().tool_position - before) < 0.04


def test_real_time_hands_over_what_ended_it(simulator):
    runner = RealTime(simulator)
    runner.start()
    simulator.close()

    def ended():
        try:
            runner.check()
        except SimulationError as error:
            assert "closed" in str(error)
            return True
        return False

    until(ended)
    runner.stop()
    runner.stop()


def test_real_time_starts_once(simulator):
    with RealTime(simulator) as runner, pytest.raises(SimulationError, match="already"):
        runner.start()


def test_a_busy_simulator_drops_time_and_says_so(simulator):
    with RealTime(simulator) as runner:
        with simulator._lock:  # the physics cannot run, and the clock goes on
            held, before_s = time.monotonic(), simulator.time_s
            until(lambda: time.monotonic() - held > 0.5)
        until(lambda: runner.dropped_s > 0.4)
    assert simulator.time_s - before_s < (time.monotonic() - held) - 0.3, "lost time must not be made good in a race"
    assert runner.lag > 0


def test_reading_and_resetting_from_several_threads(simulator):
    camera = SimCamera(simulator, rate_hz=100)
    faults = []
    halt = threading.Event()

    def work(call):
        try:
            while not halt.is_set():
                call()
        except Exception as error:
            faults.append(error)

    calls = [lambda: camera.read(5.0), simulator.state, simulator.truth]
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    with RealTime(simulator) as runner:
        for thread in threads:
            thread.start()
        for seed in range(6):
            simulator.reset("pick_apple" if seed % 2 else "pick_red_block", seed)
            until(lambda: simulator.time_s > 0.05)
        halt.set()
        for thread in threads:
            thread.join(60)
        runner.check()
    assert not faults


def test_the_cameras_truth_is_its_frames(simulator):
    camera = SimCamera(simulator)
    camera.read(5.0)
    assert camera.truth is not None and camera.truth.time_s == simulator.time_s


def test_a_camera_says_when_no_frame_is_due(simulator):
    camera = SimCamera(simulator, rate_hz=0.01)
    camera.read(5.0)
    with pytest.raises(CameraError, match="within"):
        camera.read(0.01)


def test_a_late_reader_misses_frames_but_keeps_the_rhythm(simulator):
    camera = SimCamera(simulator, rate_hz=50)
    camera.read(5.0)
    begin = time.monotonic()
    until(lambda: time.monotonic() - begin > 0.3)
    for _ in range(5):
        camera.read(5.0)
    assert time.monotonic() - begin >= 0.3 + 3 / 50, "frames that were missed must not come in a burst"


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_camera_needs_a_rate(simulator, rate):
    with pytest.raises(CameraError, match="rate"):
        SimCamera(simulator, rate_hz=rate)
