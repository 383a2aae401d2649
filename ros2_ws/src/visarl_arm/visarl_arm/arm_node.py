"""arm_node: the only node that talks to the arm. Every limit on motion is in visarl.robot.safety."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from visarl_msgs.msg import ArmAction
from visarl_msgs.msg import ArmState as ArmStateMessage

from visarl.errors import ArmError
from visarl.robot.backends import open_arm
from visarl.robot.driver import FAULT, HOMING, READY, STOPPED, ArmDriver
from visarl.robot.interfaces import Arm, ArmState
from visarl.robot.safety import POLICY, TELEOP, Arbiter, Decision, Limits
from visarl.ros import qos
from visarl.ros.convert import decision_to_message, joint_states, message_to_command, now_ns, state_to_message, to_time
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter, read
from visarl.ros.process import run

MODES = {mode: getattr(ArmStateMessage, mode.upper()) for mode in (READY, STOPPED, FAULT, HOMING)}
_LIMITS = Limits()


@dataclass(frozen=True)
class Options:
    backend: str = parameter("kortex", "which arm: kortex or jaco2")
    address: str = parameter("", "where the arm is, e.g. 192.168.1.10")
    bundle_id: str = parameter("", "the only bundle whose commands are taken; empty takes any")
    rate_hz: float = parameter(50.0, "commands a second streamed to the arm", 10.0, 200.0)
    linear_speed: float = parameter(_LIMITS.linear_speed, "[m/s] may only be tightened", 0.001, 10.0)
    angular_speed: float = parameter(_LIMITS.angular_speed, "[rad/s] may only be tightened", 0.001, 10.0)
    workspace_low: tuple = parameter(_LIMITS.workspace_low, "[m] lower corner of the box for the pinch point")
    workspace_high: tuple = parameter(_LIMITS.workspace_high, "[m] upper corner of the box for the pinch point")

    def limits(self) -> Limits:
        names = ("linear_speed", "angular_speed", "workspace_low", "workspace_high")
        return _LIMITS.tightened(**{name: getattr(self, name) for name in names})


class ArmNode(Node):
    """Arbiter, limits and services around a connected `arm`, which the node owns once it is made."""

    def __init__(self, arm: Arm, options: Options | None = None) -> None:
        super().__init__("arm_node")
        options = options or declare(self, Options)
        self._contract = arm.contract
        self._health = Health(self)
        self._states = qos.publisher(self, qos.ARM_STATE)
        self._joints = qos.publisher(self, qos.JOINT_STATES)
        self._executed = qos.publisher(self, qos.EXECUTED)
        arbiter = Arbiter(arm.contract, options.limits(), options.bundle_id)
        self.driver = ArmDriver(arm, arbiter, self._publish_executed, self._publish_state, options.rate_hz)
        qos.subscribe(self, qos.POLICY_ACTION, lambda message: self._offer(message, POLICY))
        qos.subscribe(self, qos.TELEOP_ACTION, lambda message: self._offer(message, TELEOP))
        driver = self.driver
        qos.serve(self, "arm/stop", lambda _, answer: _answer(answer, lambda: driver.stop("asked for by arm/stop")))
        qos.serve(self, "arm/clear", lambda _, answer: _answer(answer, driver.clear))
        qos.serve(self, "arm/home", lambda _, answer: _answer(answer, driver.home))
        qos.serve(self, "policy/enable", lambda ask, answer: _answer(answer, lambda: driver.enable_policy(ask.data)))
        self._check = self.create_timer(0.1, self._raise_error)
        self.driver.start()

    def _offer(self, message: ArmAction, source: str) -> None:
        command = message_to_command(message, source)
        reasons = self.driver.offer(command)
        if reasons:
            self._health.refuse(f"{source} command", "; ".join(reasons))
        else:
            self._health.count(f"{source} commands", command.observed_ns)

    def _publish_executed(self, decision: Decision) -> None:
        self._executed.publish(decision_to_message(decision, now_ns()))

    def _publish_state(self, state: ArmState) -> None:
        message = state_to_message(state, self._contract.name)
        mode, message.status = self.driver.mode
        message.mode = MODES[mode]
        message.policy_enabled = self.driver.policy_enabled
        message.policy_opened = to_time(self.driver.policy_opened_ns)
        message.source = self.driver.source
        self._states.publish(message)
        if self._joints.get_subscription_count():
            self._joints.publish(joint_states(state))

    def _raise_error(self) -> None:
        if self.driver.error is not None:
            raise self.driver.error

    def close(self) -> None:
        self.driver.close()


def _answer(response: Any, act: Callable[[], tuple[str, ...] | None]) -> Any:
    try:
        refusals = act() or ()
    except ArmError as error:
        refusals = (str(error),)
    response.success, response.message = not refusals, "; ".join(refusals) or "done"
    return response


def make() -> ArmNode:
    options = read("arm_node", Options)
    options.limits()  # a bench file that loosens them is refused before any arm is touched
    arm = open_arm(options.backend, options.address)
    try:
        arm.connect()
        return ArmNode(arm, options)
    except BaseException:  # nobody else would close the link, and some arms take only one
        arm.close()
        raise


def main() -> None:
    run("arm_node", make)
