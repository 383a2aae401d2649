"""The one thing that talks to the arm: a thread that streams what the arbiter decides. No ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from visarl.errors import ArmError
from visarl.robot.interfaces import Arm, ArmState
from visarl.robot.safety import NOBODY, Arbiter, Command, Decision

READY, STOPPED, FAULT, HOMING = "ready", "stopped", "fault", "homing"

FAILURES = 3
"""So many calls that the arm does not answer, with no round of measuring and sending between, are a fault."""

_HOMING_LIMIT_S = 30.0
_HOME_REST_S = 0.5
"""The arm is home when it has stood still this long; a home command needs a moment before the arm moves at all."""
_STILL_RAD_S = 0.02


class ArmDriver:
    """Streams to an arm at `rate_hz`, and at once when a new command is accepted.

    The stream runs in its own thread, so that a busy caller cannot keep a set-point alive: whatever happens elsewhere,
    an expired set-point ramps to zero here. Callbacks are called from the thread that causes them.

    Args:
        arm: connected.
        arbiter: owned by the driver from now on.
        on_executed: told of everything that was sent, and of every refusal that changes what happens.
        on_state: told of every measurement, and of a change of mode without one: of the last measurement again, by
            its old stamp. So nobody takes an arm that does not answer for one that lives.
    """

    def __init__(
        self,
        arm: Arm,
        arbiter: Arbiter,
        on_executed: Callable[[Decision], None] = lambda decision: None,
        on_state: Callable[[ArmState], None] = lambda state: None,
        rate_hz: float = 50.0,
    ) -> None:
        self._arm, self._arbiter = arm, arbiter
        self._on_executed, self._on_state = on_executed, on_state
        self._period_s = 1.0 / rate_hz
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._state = arm.state()
        self._failures = 0
        self._fault = ""
        self._homing_s: float | None = None
        self._moved_s = 0.0
        self._idle = False
        self._stop_owed = False
        self._told: tuple[str, str] | None = None
        self.error: Exception | None = None
        """What ended the thread; the owner raises it. The arm has been stopped."""
        self._thread = threading.Thread(target=self._run, name="arm driver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Zero, stop, end the thread, close the link. Safe to call twice."""
        self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)
        self._arm.close()

    @property
    def measured(self) -> ArmState:
        """The newest measurement."""
        return self._state

    @property
    def policy_enabled(self) -> bool:
        return self._arbiter.policy_enabled

    @property
    def policy_opened_ns(self) -> int:
        """When the policy's gate was last opened, by the system clock [ns]; 0: never."""
        return self._arbiter.policy_opened_ns

    @property
    def source(self) -> str:
        return self._arbiter.source

    @property
    def mode(self) -> tuple[str, str]:
        """(mode, its reason for a person)."""
        if self._fault:
            return FAULT, self._fault
        if self._arbiter.stopped:
            return STOPPED, self._arbiter.stopped
        return (HOMING, "moving to the ready pose") if self._homing_s is not None else (READY, "")

    def offer(self, command: Command) -> tuple[str, ...]:
        """Accept a command and execute it now. Returns why it is refused or not sent; empty when it was sent."""
        with self._lock:
            if self._homing_s is not None:
                return ("homing: commands are refused until the arm is there",)
            reasons = self._arbiter.offer(command, time.time_ns(), time.monotonic())
            if not reasons:
                try:
                    self._execute()
                except ArmError as error:
                    self._count_failure(error)
                    return (f"not sent: {error}",)
            return reasons

    def enable_policy(self, enabled: bool) -> tuple[str, ...]:
        """Open or close the policy's gate. Returns why it stays closed; empty when done."""
        with self._lock:
            if enabled and self._homing_s is not None:
                return ("homing: wait until the arm is at the ready pose",)
            return self._arbiter.enable_policy(enabled, time.time_ns())

    def drop(self) -> None:
        """Forget every set-point: the arm was put elsewhere. A stop stays latched, the policy's gate as it is."""
        with self._lock:
            self._homing_s = None
            self._arbiter.drop()

    def stop(self, reason: str) -> tuple[str, ...]:
        """Stand still now and refuse everything until `clear`.

        Returns why the arm did not hear of it; empty when it did. It is latched here either way: no more set-points
        are sent, and the stop is repeated until the arm takes it.
        """
        with self._lock:
            self._homing_s = None
            self._arbiter.stop(reason)
            unheard = self._stop_arm()
            self._on_executed(self._arbiter.step(self._state.tool_position, time.monotonic()))
            return (f"latched, but the arm did not hear it: {unheard}",) if unheard else ()

    def clear(self) -> None:
        """Release a stop or a fault. Raises ArmError if the arm's fault stays."""
        with self._lock:
            self._arm.clear()
            self._failures, self._fault, self._stop_owed = 0, "", False
            self._arbiter.clear()

    def home(self) -> tuple[str, ...]:
        """Move to the ready pose. Returns why not; empty when it has begun."""
        with self._lock:
            if self._arbiter.stopped:
                return (f"stopped: {self._arbiter.stopped}; clear it first",)
            self._arbiter.enable_policy(False)
            self._arbiter.drop()  # or a set-point from before would go on where the way home ends
            try:
                self._arm.home()
            except ArmError as error:
                self._count_failure(error)
                return (str(error),)
            self._homing_s = self._moved_s = time.monotonic()
            return ()

    def _run(self) -> None:
        next_s = time.monotonic()
        try:
            while not self._closing.is_set():
                self._tick()
                next_s = max(next_s + self._period_s, time.monotonic())  # a late tick is skipped, never made up for
                self._closing.wait(max(next_s - time.monotonic(), 0.0))
        except Exception as error:  # whatever it is: the arm stops first, then the owner hears of it
            self.error = error
            self._arbiter.stop(f"the driver failed: {error}")
        finally:
            try:
                self._arm.stop()
            except ArmError as error:
                self.error = self.error or error

    def _tick(self) -> None:
        with self._lock:
            measured = False
            try:
                self._state = self._arm.state()
                measured = True
                if self._state.fault and not self._arbiter.stopped:  # a stop that we asked for is no fault
                    self._fail(self._state.fault)
                if self._stop_owed:
                    self._stop_arm()
                if self._homing_s is not None:
                    self._watch_homing(time.monotonic())
                else:
                    self._execute()
                self._failures = 0
            except ArmError as error:
                self._count_failure(error)
            state, mode = self._state, self.mode
        if measured or mode != self._told:
            self._told = mode
            self._on_state(state)

    def _count_failure(self, error: ArmError) -> None:
        self._failures += 1
        if self._failures >= FAILURES and not self._fault:
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self._fault, self._homing_s = reason, None
        self._arbiter.stop(f"fault: {reason}")
        self._stop_arm()

    def _stop_arm(self) -> str:
        """Tell the arm to stop. Returns why it could not be told; then the next rounds try again."""
        try:
            self._arm.stop()
        except ArmError as error:
            self._stop_owed = True
            return str(error)
        self._stop_owed = False
        return ""

    def _watch_homing(self, now_s: float) -> None:
        assert self._homing_s is not None
        if np.abs(self._state.velocity).max() > _STILL_RAD_S:
            self._moved_s = now_s
        if now_s - self._moved_s > _HOME_REST_S:
            self._homing_s = None
        elif now_s - self._homing_s > _HOMING_LIMIT_S:
            self._fail(f"homing did not end within {_HOMING_LIMIT_S:g} s")

    def _execute(self) -> None:
        decision = self._arbiter.step(self._state.tool_position, time.monotonic())
        # Nobody drives and nothing moves: leave the arm in peace, it holds by itself.
        idle = decision.source == NOBODY and not decision.twist.any() and not decision.reasons
        if idle and self._idle:
            return
        if not self._arbiter.stopped:
            self._arm.send(decision.twist, decision.gripper)
        # Only now: a last zero that was not sent is sent again.
        self._idle = idle or bool(self._arbiter.stopped)
        self._on_executed(decision)
