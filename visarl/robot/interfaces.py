"""What an arm and a camera are to the rest of the stack. Real, simulated and fake ones differ only in the object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visarl.contract import ArmContract


@dataclass(frozen=True)
class Frame:
    """One picture: (height, width, 3) uint8 RGB, and when it was taken."""

    image: NDArray[np.uint8]
    stamp_ns: int
    """System clock [ns since the epoch], at exposure as near as the source can tell."""


@dataclass(frozen=True)
class ArmState:
    """What the arm measures. Metres, radians, base frame."""

    stamp_ns: int
    """System clock [ns since the epoch]."""
    position: NDArray[np.float64]
    """(joints,) [rad]"""
    velocity: NDArray[np.float64]
    """(joints,) [rad/s]"""
    fingers: NDArray[np.float64]
    """(fingers,) 0 open .. 1 closed"""
    tool_position: NDArray[np.float64]
    """(3,) pinch point in the base frame [m]"""
    tool_quaternion: NDArray[np.float64]
    """(4,) x, y, z, w"""
    fault: str = ""
    """Empty, or why the arm cannot move."""
    external_force: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """(3,) estimated at the tool [N]; zeros where the arm has no estimate."""

    def proprioception(self) -> NDArray[np.float64]:
        """Positions, velocities, fingers: the contract's proprioception vector."""
        return np.concatenate([self.position, self.velocity, self.fingers])


class Arm(Protocol):
    """An arm that follows a twist. It holds the last set-point only for a short time and then stops by itself."""

    contract: ArmContract

    def connect(self) -> None:
        """Open the link. Never moves. Raises ArmError with the fix."""

    def state(self) -> ArmState:
        """The newest measurement. Raises ArmError if the link is lost."""

    def send(self, twist: NDArray[np.float64], gripper: float) -> None:
        """Set-point: twist (6,) [m/s, rad/s] in the base frame, gripper speed [-1 opens .. +1 closes].

        The back-end closes the loop on the measured pose, so that a twist held for a time moves that far. A set-point
        that is not renewed within `EXPIRY_S` ramps to zero.
        """

    def stop(self) -> None:
        """Zero velocity at once, latched until `clear`."""

    def clear(self) -> None:
        """Release a latched stop or a fault. Never moves. Raises ArmError if the fault stays."""

    def home(self) -> None:
        """Start moving to the ready pose; returns at once, `state` tells when it is there."""

    def close(self) -> None:
        """Stop, then close the link. Safe to call twice."""


EXPIRY_S = 0.15
"""A set-point older than this by the monotonic clock ramps to zero (robot checklist: 2-3 periods, at most 150 ms)."""


class Camera(Protocol):
    """A source of frames."""

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame that was not read before; None once the source has ended.

        Raises:
            CameraError: no frame within `timeout_s`, or the device is gone.
        """

    def close(self) -> None:
        """Release the device. Safe to call twice."""
