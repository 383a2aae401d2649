"""Whether the task is done: picked up and held, or placed and left alone."""

from __future__ import annotations

from dataclasses import dataclass

LIFTED_M = 0.05
LIFTED_HELD_S = 1.0
"""A pick succeeds when the object is `LIFTED_M` above its rest with a finger on it for so long."""

PLACED_HELD_S = 0.5
PLACED_SPEED_M_S = 0.05
PLACED_SLACK_M = 0.012
"""A thing placed succeeds when its centre is inside the rim and no higher above its rest on the goal's floor than this,
slower than `PLACED_SPEED_M_S` and with no finger on it for `PLACED_HELD_S`."""


@dataclass
class Judge:
    """Counts for how long what has to hold has held."""

    held_s: float
    success: bool = False
    success_ever: bool = False
    """Since the scene was laid out."""
    _since_s: float = 0.0

    def update(self, holds: bool, dt_s: float) -> None:
        """One tick of the simulation."""
        self._since_s = self._since_s + dt_s if holds else 0.0
        self.success = self._since_s >= self.held_s - dt_s / 2
        self.success_ever = self.success_ever or self.success


def placed(distance: float, height: float, speed: float, rim_radius: float) -> bool:
    """Whether an object lies where it belongs; that no finger is on it is for the caller to see.

    Args:
        distance: of its centre from the goal's axis [m].
        height: of its centre above where it would rest on the goal's floor [m].
        speed: [m/s].
        rim_radius: of the goal [m].
    """
    return distance < rim_radius and height < PLACED_SLACK_M and speed < PLACED_SPEED_M_S
