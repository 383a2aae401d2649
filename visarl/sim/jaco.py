"""The simulator as the stack sees it: an arm, a camera, and a thread that keeps both in real time."""

from __future__ import annotations

import threading
import time

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CAMERA_HEIGHT, CAMERA_RATE_HZ, CAMERA_WIDTH, ArmContract
from visarl.errors import ArmError, CameraError, SimulationError
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.tabletop import TICK_S, SceneTruth, Simulator


class SimArm:
    """The simulated Jaco 2 behind the `Arm` interface.

    The set-point's age counts on simulated time while the simulator is advanced in lockstep, and on monotonic time
    while a `RealTime` runs it.
    """

    contract: ArmContract = Simulator.contract

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._connected = False

    def connect(self) -> None:
        self._connected = True

    def state(self) -> ArmState:
        return self._linked().state()

    def send(self, twist: NDArray[np.float64], gripper: float) -> None:
        self._linked().command(twist, gripper)

    def stop(self) -> None:
        self._linked().stop()

    def clear(self) -> None:
        self._linked().clear()

    def home(self) -> None:
        self._linked().home()

    def close(self) -> None:
        if self._connected:
            self._connected = False
            self._simulator.command(np.zeros(6), 0.0)

    def _linked(self) -> Simulator:
        if not self._connected:
            raise ArmError("the simulated arm is not connected; call connect() first")
        return self._simulator


class SimCamera:
    """The scene's front camera behind the `Camera` interface, paced by the monotonic clock.

    Args:
        rate_hz: frames a second that it offers; a reader that is slower misses frames, as with a webcam.
    """

    def __init__(self, simulator: Simulator, rate_hz: float = CAMERA_RATE_HZ) -> None:
        if not 0 < rate_hz <= 1000:
            raise CameraError(f"camera rate {rate_hz} Hz: expected a number between 0 and 1000")
        self._simulator = simulator
        self._period_s = 1.0 / rate_hz
        self._next_s = time.monotonic()
        self._closed = threading.Event()
        self.truth: SceneTruth | None = None
        """What was true of the scene in the newest frame that `read` returned."""

    def read(self, timeout_s: float) -> Frame | None:
        wait = self._next_s - time.monotonic()
        if wait > timeout_s:
            self._closed.wait(timeout_s)
            raise CameraError(f"no frame within {timeout_s:g} s: the next is due in {wait:.3f} s")
        if wait > 0:
            self._closed.wait(wait)
        if self._closed.is_set():
            raise CameraError("the simulated camera is closed; build a new one")
        # Frames that nobody fetched in time are gone; the rhythm stays.
        late = max(0.0, time.monotonic() - self._next_s)
        self._next_s += self._period_s * (1 + int(late / self._period_s))
        image, self.truth, stamp_ns = self._simulator.render_with_truth(CAMERA_WIDTH, CAMERA_HEIGHT)
        return Frame(image, stamp_ns)

    def close(self) -> None:
        self._closed.set()


MAX_CATCH_UP_S = 0.05
"""Lag beyond this is dropped: simulated time then runs slower than the clock, instead of physics eating the CPU."""


class RealTime:
    """Advances a simulator with the wall clock in a thread. Use as a context manager, or `start` and `stop`."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped_s = 0.0
        """Wall-clock time that was not simulated because the machine was too slow."""
        self.advanced_s = 0.0
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin. Set-points now age by the monotonic clock."""
        if self._thread is not None:
            raise SimulationError("the real-time runner is already started")
        self._halt.clear()
        self._simulator.use_clock(time.monotonic)
        self._thread = threading.Thread(target=self._run, name="sim-physics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        done = time.monotonic()
        while not self._halt.is_set():
            due = time.monotonic() - done
            if due > MAX_CATCH_UP_S:
                self.dropped_s += due - MAX_CATCH_UP_S
                done += due - MAX_CATCH_UP_S
                due = MAX_CATCH_UP_S
            ticks = int(due / TICK_S)
            if ticks:
                try:
                    self._simulator.advance(ticks * TICK_S)
                except Exception as error:  # handed to whoever asks next: a thread has no caller
                    self._error = error
                    return
                done += ticks * TICK_S
                self.advanced_s += ticks * TICK_S
            self._halt.wait(max(0.0, done + TICK_S - time.monotonic()))

    @property
    def lag(self) -> float:
        """Share of the wall-clock time that was dropped, 0 where the machine keeps up."""
        total = self.dropped_s + self.advanced_s
        return self.dropped_s / total if total else 0.0

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._error is not None:
            raise SimulationError(f"the simulation's thread ended: {self._error}") from self._error

    def stop(self) -> None:
        """End the thread; set-points age by simulated time again. Safe to call twice."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._simulator.use_clock(None)

    def __enter__(self) -> RealTime:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
