"""policy_node: an embedding and the arm's state of the same moment to an action."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from visarl_msgs.msg import ArmState, Embedding

from visarl.bundle import load_bundle
from visarl.contract import BASE_FRAME, CONTROL_RATE_HZ
from visarl.errors import ContractError
from visarl.inference import Policy
from visarl.robot.safety import POLICY, Command
from visarl.ros import qos
from visarl.ros.convert import command_to_message, from_time, message_to_state, now_ns
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter
from visarl.ros.process import run


@dataclass(frozen=True)
class Options:
    bundle: str = parameter("", "folder with the trained models")
    threads: int = parameter(1, "of the policy's network", 1, 64)
    pair_ms: float = parameter(60.0, "an arm state farther than this from the camera frame is no pair", 1.0, 1000.0)
    age_ms: float = parameter(300.0, "an embedding of a frame older than this is not acted on", 10.0, 5000.0)


class PolicyNode(Node):
    """Acts on frames taken while the arm's gate is open; forgets its past whenever the gate opens."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._options = declare(self, Options)
        bundle = load_bundle(self._options.bundle)
        self._bundle_id = bundle.id
        self._arm = bundle.config.arm
        self._policy = Policy(bundle, threads=self._options.threads)
        self._states: deque[tuple[int, ArmState]] = deque(maxlen=100)
        self._enabled = False
        self._opened_ns = 0
        self._sequence = 0
        self._health = Health(self)
        self._actions = qos.publisher(self, qos.POLICY_ACTION)
        qos.subscribe(self, qos.ARM_STATE, self._keep_state)
        qos.subscribe(self, qos.EMBEDDING, self._act)

    def _keep_state(self, message: ArmState) -> None:
        self._states.append((from_time(message.header.stamp), message))
        self._enabled, opened_ns = message.policy_enabled, from_time(message.policy_opened)
        if opened_ns != self._opened_ns:  # by its time: states get lost, and a short closing with them
            self._opened_ns = opened_ns
            self._policy.reset()

    def _act(self, message: Embedding) -> None:
        stamp_ns = from_time(message.header.stamp)
        if not self._enabled or stamp_ns < self._opened_ns:
            return  # a frame from before the gate opened may show another scene, and the policy would remember it
        try:
            state = self._pair(message, stamp_ns)
            action = self._policy.act(np.asarray(message.data, dtype=np.float32), state.proprioception())
        except ContractError as error:
            self._health.refuse("embedding", str(error))
            return
        self._sequence += 1
        command = Command(
            source=POLICY,
            sequence=self._sequence,
            stamp_ns=now_ns(),
            frame=BASE_FRAME,
            twist=np.asarray(action[:6], dtype=np.float64) * CONTROL_RATE_HZ,
            gripper=float(action[6]),
            observed_ns=stamp_ns,
            bundle=self._bundle_id,
        )
        self._actions.publish(command_to_message(command))
        self._health.count("actions", stamp_ns)

    def _pair(self, message: Embedding, stamp_ns: int):
        if message.bundle != self._bundle_id:
            raise ContractError(f"made by bundle {message.bundle!r}; this policy is of {self._bundle_id!r}")
        age_ms = (now_ns() - stamp_ns) / 1e6
        if not -50.0 <= age_ms <= self._options.age_ms:
            raise ContractError(f"its frame is {age_ms:.0f} ms old; expected at most {self._options.age_ms:.0f} ms")
        found, state = min(self._states, key=lambda pair: abs(pair[0] - stamp_ns))
        apart_ms = abs(found - stamp_ns) / 1e6
        if apart_ms > self._options.pair_ms:
            raise ContractError(f"nearest arm state is {apart_ms:.0f} ms away; at most {self._options.pair_ms:.0f} ms")
        if state.arm != self._arm:
            raise ContractError(f"the arm is {state.arm!r}; this policy drives {self._arm!r}")
        return message_to_state(state)


def main() -> None:
    run("policy_node", PolicyNode)
