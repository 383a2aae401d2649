"""watchdog_node: a process of its own that stops the arm when the arm's node falls silent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.node import Node
from std_srvs.srv import Trigger
from visarl_msgs.msg import ArmState

from visarl.errors import ArmError
from visarl.ros import qos
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter
from visarl.ros.process import run


@dataclass(frozen=True)
class Options:
    silence_s: float = parameter(0.5, "without arm/state for this long [s] the arm is stopped", 0.05, 10.0)
    answer_s: float = parameter(0.5, "without an answer to arm/stop for this long [s] the whole graph ends", 0.05, 10.0)


class WatchdogNode(Node):
    """Watches arm/state. Silence: arm/stop. No answer: ends, and with it the graph."""

    def __init__(self) -> None:
        super().__init__("watchdog_node")
        self._options = declare(self, Options)
        self._health = Health(self)
        self._heard_s: float | None = None
        self._asked_s: float | None = None
        self._stop = self.create_client(Trigger, "arm/stop")
        qos.subscribe(self, qos.ARM_STATE, self._hear)
        self._timer = self.create_timer(self._options.silence_s / 5, self._watch)

    def _hear(self, _: ArmState) -> None:
        self._heard_s = time.monotonic()
        self._health.count("arm states")

    def _watch(self) -> None:
        now_s = time.monotonic()
        if self._heard_s is None:
            return  # the arm has not started yet: nothing can move
        silence = now_s - self._heard_s
        if self._asked_s is not None and now_s - self._asked_s > self._options.answer_s:
            raise ArmError(
                f"the arm's node is hung: no arm/state for {silence:.2f} s and no answer to arm/stop; "
                "press the red button if the arm moves, then start the graph again"
            )
        if silence > self._options.silence_s and self._asked_s is None:
            self._health.refuse("waiting", f"no arm/state for {silence:.2f} s; stopping the arm")
            self._asked_s = now_s
            self._stop.call_async(Trigger.Request()).add_done_callback(self._answered)

    def _answered(self, _: object) -> None:
        self._asked_s = None
        self._heard_s = time.monotonic()


def main() -> None:
    run("watchdog_node", WatchdogNode)
