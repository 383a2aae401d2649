"""Every limit on motion, as pure functions of commands, poses and clocks. No I/O, no threads, no ROS.

`Arbiter` checks what arrives and picks who drives; `Limiter` makes any wish safe to send. Each says what it changed.
This layer is software: it is no substitute for the red button.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from visarl.contract import BASE_FRAME, CONTROL_RATE_HZ, ArmContract
from visarl.errors import ConfigError, suggest
from visarl.robot.interfaces import EXPIRY_S

Vector = NDArray[np.float64]

POLICY, TELEOP, NOBODY = "policy", "teleop", "none"
SOURCES = (TELEOP, POLICY)
"""Who may drive, strongest first: a person always wins over the policy."""

_REST = 1e-4
"""Speeds below this [m/s, rad/s] count as standing still when the source changes."""


@dataclass(frozen=True)
class Limits:
    """Caps on what is sent to the arm. A bench may tighten them, never loosen."""

    linear_speed: float = 0.2
    """[m/s] Jaco 2 user guide: rated Cartesian speed."""
    angular_speed: float = 0.6
    """[rad/s] Keeps the wrist below its joints' 48 deg/s in ordinary poses."""
    linear_acceleration: float = 2.0
    """[m/s^2] From the rated speed to rest in 0.1 s, one control period."""
    angular_acceleration: float = 6.0
    """[rad/s^2] The same for rotation."""
    workspace_low: tuple[float, float, float] = (0.15, -0.45, 0.005)
    """[m] Corner of the box that the pinch point stays in, base frame; the height keeps fingertips off the table."""
    workspace_high: tuple[float, float, float] = (0.80, 0.45, 0.70)
    """[m] The opposite corner; the Jaco 2 reaches 0.90 m."""
    lookahead: float = 0.1
    """[s] The box is checked on the pose that the arm reaches after this time: one control period."""
    command_age: float = 0.3
    """[s] A command made longer ago than this is refused: its link is stalling."""
    observation_age: float = 0.5
    """[s] The same for the camera frame that a policy's command answers."""
    clock_skew: float = 0.05
    """[s] A stamp may lie this far in the future before it is refused."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = np.asarray(getattr(self, item.name), dtype=np.float64)
            corner = item.name.startswith("workspace")
            if not np.isfinite(value).all() or value.shape != ((3,) if corner else ()):
                raise ConfigError(
                    f"limits.{item.name}: expected {_expected(item.name)}, found {getattr(self, item.name)}"
                )
            if not corner and value <= 0:
                raise ConfigError(f"limits.{item.name}: expected more than 0, found {value:g}")
        if not all(low < high for low, high in zip(self.workspace_low, self.workspace_high, strict=True)):
            raise ConfigError(f"limits: workspace_low {self.workspace_low} must lie below {self.workspace_high}")

    def tightened(self, **changes: float | tuple[float, float, float]) -> Limits:
        """These limits with some of them stricter.

        Raises:
            ConfigError: an unknown name, or a value that would allow more than this does.
        """
        names = [item.name for item in dataclasses.fields(self)]
        for name, value in changes.items():
            if name not in names:
                raise ConfigError(f"limits: unknown limit {name!r}; {suggest(name, names)}")
            new, old = np.asarray(value, dtype=np.float64), np.asarray(getattr(self, name))
            if new.shape != old.shape:  # before the comparison, which would fail in NumPy's words
                raise ConfigError(f"limits.{name}: expected {_expected(name)}, found {value}")
            # A longer lookahead and a higher lower corner are the strict direction.
            looser = new < old if name in ("lookahead", "workspace_low") else new > old
            if looser.any():
                raise ConfigError(f"limits.{name}: a bench may only tighten {old.tolist()}, found {new.tolist()}")
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _expected(name: str) -> str:
    return "3 numbers" if name.startswith("workspace") else "a number"


@dataclass(frozen=True)
class Command:
    """A wish for one control period, as it came from a source."""

    source: str
    sequence: int
    stamp_ns: int
    """System clock [ns]: when it was made."""
    frame: str
    """Frame of the twist."""
    twist: Vector
    """(6,) [m/s, rad/s]"""
    gripper: float
    """-1 opens .. +1 closes"""
    observed_ns: int = 0
    """Stamp of the camera frame that it answers; 0 where there was none."""
    bundle: str = ""
    """Id of the bundle that made it; empty for a person."""


@dataclass(frozen=True)
class Decision:
    """What goes to the arm now, and why it differs from what was asked."""

    twist: Vector
    gripper: float
    source: str
    command: Command | None
    """The command that it follows; None while nobody drives."""
    reasons: tuple[str, ...] = ()


class Limiter:
    """Turns a wished twist into one that keeps the caps. Remembers what it allowed last, for the acceleration."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.twist: Vector = np.zeros(6)

    def reset(self) -> None:
        """The arm stands still."""
        self.twist = np.zeros(6)

    def limit(self, wish: Vector, tool_position: Vector, dt: float) -> tuple[Vector, tuple[str, ...]]:
        """The twist (6,) to send now.

        Args:
            wish: (6,) [m/s, rad/s], finite.
            tool_position: (3,) measured pinch point in the base frame [m].
            dt: seconds since the previous call.
        """
        limits, reasons = self.limits, []
        linear, angular = float(np.linalg.norm(wish[:3])), float(np.linalg.norm(wish[3:]))
        # One factor for all six numbers, so that a capped motion keeps its direction.
        share = min(1.0, limits.linear_speed / max(linear, 1e-12), limits.angular_speed / max(angular, 1e-12))
        if share < 1.0 - 1e-6:
            reasons.append(f"speed {linear:.3g} m/s, {angular:.3g} rad/s scaled by {share:.2f}")
        twist = wish * share

        change = twist - self.twist
        step = min(
            1.0,
            limits.linear_acceleration * dt / max(float(np.linalg.norm(change[:3])), 1e-12),
            limits.angular_acceleration * dt / max(float(np.linalg.norm(change[3:])), 1e-12),
        )
        if step < 1.0 - 1e-6:
            reasons.append(f"acceleration: {step:.2f} of the change")
        twist = self.twist + step * change

        # Outside the box only motion back is allowed; inside, no faster than reaches the wall in the lookahead.
        fastest = np.maximum(np.asarray(limits.workspace_high) - tool_position, 0.0) / limits.lookahead
        slowest = np.minimum(np.asarray(limits.workspace_low) - tool_position, 0.0) / limits.lookahead
        allowed = np.clip(twist[:3], slowest, fastest)
        for axis, before, after in zip("xyz", twist[:3], allowed, strict=True):
            if abs(before - after) > 1e-9:
                reasons.append(f"workspace: {axis} {before:+.3f} m/s held to {after:+.3f}")
        twist = np.concatenate([allowed, twist[3:]])
        self.twist = twist
        return twist, tuple(reasons)


@dataclass
class Arbiter:
    """Checks commands, picks the source, expires set-points. stop > teleop > policy.

    Time comes in with each call: `now_ns` is the system clock, for ages of stamps; `now_s` is the monotonic clock,
    for expiry. So a step of the system clock can refuse a command but never keep one alive.
    """

    contract: ArmContract
    limits: Limits = field(default_factory=Limits)
    bundle: str = ""
    """Id of the only bundle whose commands are taken; empty takes any."""

    def __post_init__(self) -> None:
        self._limiter = Limiter(self.limits)
        self._accepted: dict[str, tuple[Command, float]] = {}
        self._source = NOBODY
        self._last_step_s: float | None = None
        self.policy_enabled = False
        self.policy_opened_ns = 0
        """When the policy's gate was last opened; 0: never."""
        self.stopped = ""
        """Empty, or why everything is refused until `clear`."""

    def enable_policy(self, enabled: bool, now_ns: int = 0) -> tuple[str, ...]:
        """Open or close the policy's gate. Returns why it stays closed; empty when done.

        A policy's answer to a camera frame from before `now_ns` is refused from then on: it may be to another scene,
        and comes from a policy that remembers what was before.
        """
        if enabled and self.stopped:
            return (f"stopped: {self.stopped}; clear it first",)
        if enabled:
            self.policy_opened_ns = now_ns
        self.policy_enabled = enabled
        self._accepted.pop(POLICY, None)
        return ()

    def stop(self, reason: str) -> None:
        """Latch: zero from now on until `clear`, and the policy has to be enabled again."""
        self.stopped = reason or "stop"
        self.policy_enabled = False
        self.drop()

    def drop(self) -> None:
        """Forget every set-point, and that the arm moved."""
        self._accepted.clear()
        self._source = NOBODY
        self._limiter.reset()

    def clear(self) -> None:
        """Release the latch. Nothing moves until a new command comes."""
        self.stopped = ""

    @property
    def source(self) -> str:
        """Who drives now."""
        return self._source

    def offer(self, command: Command, now_ns: int, now_s: float) -> tuple[str, ...]:
        """Take a command in. Returns why it is refused; empty when accepted."""
        reasons = self._refusals(command, now_ns, now_s)
        if not reasons:
            self._accepted[command.source] = (command, now_s)
        return reasons

    def step(self, tool_position: Vector, now_s: float) -> Decision:
        """What to send at this moment; `tool_position` (3,) is the newest measurement [m]."""
        # A late call gives no longer acceleration than one control period.
        dt = 0.0 if self._last_step_s is None else min(max(now_s - self._last_step_s, 0.0), 1.0 / CONTROL_RATE_HZ)
        self._last_step_s = now_s
        if self.stopped:
            return Decision(np.zeros(6), 0.0, NOBODY, None, (f"stopped: {self.stopped}",))
        if not np.isfinite(tool_position).all():
            self.stop("the measured tool position is not finite")
            return Decision(np.zeros(6), 0.0, NOBODY, None, (f"stopped: {self.stopped}",))

        reasons: list[str] = []
        winner: Command | None = None
        for source in SOURCES:
            if source in self._accepted:
                command, accepted_s = self._accepted[source]
                if now_s - accepted_s > EXPIRY_S:
                    del self._accepted[source]
                    reasons.append(f"{source}: no command for {now_s - accepted_s:.3f} s, set-point expired")
                elif winner is None:
                    winner = command
        wanted = winner.source if winner is not None else NOBODY
        if wanted != self._source:
            # Through zero: what one source began is not carried on by the other.
            if np.abs(self._limiter.twist).max() > _REST:
                if winner is not None and self._source != NOBODY:
                    reasons.append(f"{self._source} -> {wanted}: coming to rest first")
                winner = None
            else:
                self._source = wanted
        wish = winner.twist if winner is not None else np.zeros(6)
        twist, changed = self._limiter.limit(wish, tool_position, dt)
        gripper = winner.gripper if winner is not None else 0.0
        return Decision(twist, gripper, self._source, winner, (*reasons, *changed))

    def _refusals(self, command: Command, now_ns: int, now_s: float) -> tuple[str, ...]:
        limits, reasons = self.limits, []
        if command.source not in SOURCES:
            return (f"source {command.source!r} unknown; expected one of {', '.join(SOURCES)}",)
        if self.stopped:
            reasons.append(f"stopped: {self.stopped}")
        if command.source == POLICY and not self.policy_enabled:
            reasons.append("policy is not enabled")
        elif command.source == POLICY and command.observed_ns < self.policy_opened_ns:
            before_s = (self.policy_opened_ns - command.observed_ns) / 1e9
            reasons.append(f"camera frame is from {before_s:.3f} s before the policy was enabled")
        if command.frame != BASE_FRAME:
            reasons.append(f"frame {command.frame!r}; expected {BASE_FRAME!r}")
        if command.twist.shape != (6,) or not np.isfinite(command.twist).all():
            reasons.append(f"twist {command.twist.tolist()}; expected 6 finite numbers")
        if not (np.isfinite(command.gripper) and abs(command.gripper) <= 1.0 + 1e-6):
            reasons.append(f"gripper {command.gripper:g}; expected -1 .. 1")
        stamps = [("command", command.stamp_ns, limits.command_age)]
        if command.source == POLICY:
            stamps.append(("camera frame", command.observed_ns, limits.observation_age))
        for what, stamp_ns, oldest in stamps:
            age = (now_ns - stamp_ns) / 1e9
            if age > oldest or age < -limits.clock_skew:
                side = f"{age:.3f} s old; at most {oldest:g} s" if age > 0 else f"{-age:.3f} s in the future"
                reasons.append(f"{what} is {side}")
        if command.source == POLICY and self.bundle and command.bundle != self.bundle:
            reasons.append(f"bundle {command.bundle!r}; expected {self.bundle!r}")
        last, accepted_s = self._accepted.get(command.source, (None, 0.0))
        # A source that was silent for as long as a set-point lives may have started anew and count from zero.
        if last is not None and command.sequence <= last.sequence and now_s - accepted_s <= EXPIRY_S:
            reasons.append(f"sequence {command.sequence} after {last.sequence}: repeated or out of order")
        return tuple(reasons)
