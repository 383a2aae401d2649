"""watchdog_node: a process of its own that stops the arm when the arm's node falls silent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger
from visarl_msgs.msg import ArmState

from visarl.robot.watchdog import Watchdog
from visarl.ros import qos
from visarl.ros.convert import from_time
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter
from visarl.ros.process import run

PATIENCE_S = 30.0
"""An arm that has not reported by then is told of in the log too: simulators and arms take their time to start."""


@dataclass(frozen=True)
class Options:
    silence_s: float = parameter(0.5, "without a new arm/state for this long [s] the arm is stopped", 0.05, 10.0)
    answer_s: float = parameter(0.5, "without an answer to arm/stop for this long [s] the whole graph ends", 0.05, 10.0)


class WatchdogNode(Node):
    """Watches arm/state. Silence: arm/stop. No answer: ends, and with it the graph."""

    def __init__(self) -> None:
        super().__init__("watchdog_node")
        options = declare(self, Options)
        self._health = Health(self)
        self._watchdog = Watchdog(options.silence_s, options.answer_s)
        self._since_s = time.monotonic()
        self._stop = self.create_client(Trigger, "arm/stop")
        qos.subscribe(self, qos.ARM_STATE, self._hear)
        self._timer = self.create_timer(options.silence_s / 5, self._watch)

    def _hear(self, message: ArmState) -> None:
        self._watchdog.hear(from_time(message.header.stamp), time.monotonic())
        self._health.count("arm states")

    def _watch(self) -> None:
        now_s = time.monotonic()
        if not self._watchdog.heard:  # perhaps the arm has not started; perhaps it moves, and is never heard of
            waited_s = now_s - self._since_s
            problem = f"no arm/state yet, for {waited_s:.0f} s: nothing here would notice a hung arm"
            self._health.warn("no arm state", problem, log=waited_s > PATIENCE_S)
        elif reason := self._watchdog.watch(now_s):
            self._health.warn("silence", reason)
            self._stop.call_async(Trigger.Request()).add_done_callback(self._answered)

    def _answered(self, future: Any) -> None:
        answer = future.result()
        if not answer.success:
            self._health.warn("arm/stop", f"arm/stop: {answer.message}; asking again")
        self._watchdog.answered(answer.success, time.monotonic())


def main() -> None:
    run("watchdog_node", WatchdogNode)
