"""teleop_node: a demonstrator's commands. The source `expert` is the simulator's scripted one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool
from visarl_msgs.msg import ArmState, SceneTruth

from visarl.contract import BASE_FRAME, CONTROL_RATE_HZ, get_contract
from visarl.errors import ConfigError, suggest
from visarl.robot.safety import TELEOP, Command
from visarl.ros import qos
from visarl.ros.convert import command_to_message, from_time, message_to_state, message_to_truth, now_ns
from visarl.ros.health import Health
from visarl.ros.pacing import Pacer
from visarl.ros.params import declare, parameter
from visarl.ros.process import run

SOURCES = ("expert",)


@dataclass(frozen=True)
class Options:
    source: str = parameter("expert", "who demonstrates; expert: the simulator's scripted demonstrator")
    enabled: bool = parameter(False, "drive from the start, without waiting for teleop/enable")
    arm: str = parameter("jaco2", "contract of the arm that is driven")


class TeleopNode(Node):
    """Drives while enabled: one command a control period, answering the newest camera frame's truth."""

    def __init__(self) -> None:
        super().__init__("teleop_node")
        options = declare(self, Options)
        if options.source not in SOURCES:
            raise ConfigError(f"teleop source {options.source!r}; {suggest(options.source, SOURCES)}")
        # Here, so that what the simulator lacks on a machine is told in a line: outside `run` it would be a traceback.
        from visarl.sim.expert import Expert

        self._make_expert = Expert
        self._contract = get_contract(options.arm)
        self._enabled = options.enabled
        self._expert: Any = None
        self._scene: tuple[str, int] | None = None
        self._pacer = Pacer(CONTROL_RATE_HZ)
        self._state: ArmState | None = None
        self._sequence = 0
        self._health = Health(self)
        self._actions = qos.publisher(self, qos.TELEOP_ACTION)
        qos.subscribe(self, qos.ARM_STATE, self._keep_state)
        qos.subscribe(self, qos.TRUTH, self._act)
        qos.serve(self, "teleop/enable", self._enable)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        self._enabled, self._scene = request.data, None
        response.success, response.message = True, "driving" if request.data else "hands off"
        return response

    def _keep_state(self, message: ArmState) -> None:
        self._state = message

    def _act(self, message: SceneTruth) -> None:
        stamp_ns = from_time(message.header.stamp)
        if not self._enabled or self._state is None or not self._pacer.accept(stamp_ns):
            return
        if self._expert is None or self._scene != (message.task, message.seed):
            self._scene = (message.task, message.seed)
            self._expert = self._make_expert(int(message.seed), message.task)
        action = self._expert.act(message_to_truth(message), message_to_state(self._state))
        action = self._contract.action.validate(action)
        self._sequence += 1
        command = Command(
            TELEOP, self._sequence, now_ns(), BASE_FRAME, action[:6] * CONTROL_RATE_HZ, float(action[6]), stamp_ns
        )
        self._actions.publish(command_to_message(command))
        self._health.count("actions", stamp_ns)


def main() -> None:
    run("teleop_node", TeleopNode)
