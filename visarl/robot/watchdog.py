"""When an arm's node counts as silent, and when as hung. No ROS; time comes in with each call, monotonic [s]."""

from __future__ import annotations

from visarl.errors import ArmError


class Watchdog:
    """Hears the arm's states, and says when the arm has to be stopped.

    Args:
        silence_s: so long without a new measurement, and the arm is to be stopped.
        answer_s: so long without an answer to that, and the arm's node is hung.
    """

    def __init__(self, silence_s: float, answer_s: float) -> None:
        self._silence_s, self._answer_s = silence_s, answer_s
        self._stamp_ns: int | None = None
        self._heard_s: float | None = None
        self._asked_s: float | None = None

    @property
    def heard(self) -> bool:
        """Whether there was a state at all."""
        return self._heard_s is not None

    def hear(self, stamp_ns: int, now_s: float) -> None:
        """A state arrived. One with the stamp of the one before is no sign of life: the arm was not measured."""
        if stamp_ns == self._stamp_ns:
            return
        self._stamp_ns, self._heard_s = stamp_ns, now_s
        # A request or its answer may have been lost; a node that goes on measuring is not hung.
        self._asked_s = None

    def watch(self, now_s: float) -> str:
        """Why the arm has to be asked to stop now; empty where it need not.

        Raises:
            ArmError: it was asked, and neither answers nor measures.
        """
        if self._heard_s is None:
            return ""
        silence_s = now_s - self._heard_s
        if self._asked_s is not None:
            if now_s - self._asked_s <= self._answer_s:
                return ""
            raise ArmError(
                f"the arm's node is hung: no arm/state for {silence_s:.2f} s and no answer to arm/stop; "
                "press the red button if the arm moves, then start the graph again"
            )
        if silence_s <= self._silence_s:
            return ""
        self._asked_s = now_s
        return f"no arm/state for {silence_s:.2f} s; stopping the arm"

    def answered(self, stopped: bool, now_s: float) -> None:
        """The arm's node answered the request. Where the arm did not hear of it, `watch` asks again at once."""
        self._asked_s = None
        if stopped and self._heard_s is not None:
            self._heard_s = now_s
