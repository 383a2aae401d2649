"""Thins a stream of stamps to a lower rate. No ROS."""

from __future__ import annotations


class Pacer:
    """Picks the first stamp at or after each period, by the stamps' own clock.

    Args:
        rate_hz: how many a second to pick; more than arrive picks all.
        slack_s: a stamp this much early still counts: a camera's frames jitter, and waiting for the next one would
            turn every jitter into a whole missed frame.
    """

    def __init__(self, rate_hz: float, slack_s: float = 0.012) -> None:
        self._period_ns = int(1e9 / rate_hz)
        self._slack_ns = int(slack_s * 1e9)
        self._due_ns: int | None = None

    def accept(self, stamp_ns: int) -> bool:
        """Whether to take the item with this stamp."""
        due = self._due_ns
        if due is None or abs(stamp_ns - due) > 2 * self._period_ns:  # the first, a gap, or a clock that was set
            self._due_ns = stamp_ns + self._period_ns
            return True
        if stamp_ns < due - self._slack_ns:
            return False
        # Along the grid, not from this stamp on: otherwise the slack adds up to a higher rate.
        self._due_ns = due + self._period_ns
        return True
