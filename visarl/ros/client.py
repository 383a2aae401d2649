"""A graph as a tool sees it: its services as methods, its newest messages as properties. No node code here."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from visarl.errors import VisarlError
from visarl.ros.graph import GraphOptions, domain_of, environment
from visarl.ros.workspace import activate

activate()

import rclpy  # noqa: E402  after `activate`, which makes it importable
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from visarl_msgs.msg import ArmAction, ArmState, SceneTruth  # noqa: E402
from visarl_msgs.srv import LabelEpisode, ResetScene, StartEpisode  # noqa: E402

from visarl.ros import qos  # noqa: E402


class ClientError(VisarlError):
    """The graph does not answer, or refuses."""


class GraphClient:
    """Talks to a running graph from any thread. Use as a context manager.

    Args:
        options: those that the graph was started with; its domain and DDS settings become this process's.
        alive: called while waiting; raises to say that the graph has ended (`Supervisor.check`).
    """

    def __init__(self, options: GraphOptions, alive: Callable[[], None] = lambda: None) -> None:
        os.environ.update(environment(options))
        self._alive = alive
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_of(options.domain))
        self.node = rclpy.create_node("visarl_client", context=self._context)
        self._changed = threading.Condition()
        self._newest: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._extra: dict[str, list[Callable[[Any], None]]] = {}
        for topic in (qos.ARM_STATE, qos.TRUTH):
            self.subscribe(topic)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="graph client", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):  # `close` ends it so
            self._executor.spin()

    # ---- messages ----------------------------------------------------------------------------------------------

    def subscribe(self, topic: qos.Topic, callback: Callable[[Any], None] | None = None) -> None:
        """Keep the newest message of `topic`, and call `callback` with each, in the client's thread."""
        known = topic.name in self._extra
        callbacks = self._extra.setdefault(topic.name, [])
        if callback is not None:
            callbacks.append(callback)
        if not known:
            qos.subscribe(self.node, topic, lambda message: self._keep(topic.name, message))

    def _keep(self, name: str, message: Any) -> None:
        for callback in tuple(self._extra[name]):
            callback(message)
        with self._changed:
            self._newest[name] = message
            self._changed.notify_all()

    def newest(self, topic: qos.Topic) -> Any | None:
        """The newest message of a topic that was subscribed to; None before the first."""
        return self._newest.get(topic.name)

    @property
    def state(self) -> ArmState | None:
        return self.newest(qos.ARM_STATE)

    @property
    def truth(self) -> SceneTruth | None:
        return self.newest(qos.TRUTH)

    @property
    def executed(self) -> ArmAction | None:
        """Needs `subscribe(qos.EXECUTED)`."""
        return self.newest(qos.EXECUTED)

    def wait_for(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        """Until `condition()` is true; looks again at every message.

        Raises:
            ClientError: not within `timeout_s`; says `what` was waited for.
        """
        limit_s = time.monotonic() + timeout_s
        while not condition():
            self._alive()
            left_s = limit_s - time.monotonic()
            if left_s <= 0:
                raise ClientError(f"waited {timeout_s:g} s for {what} in vain")
            with self._changed:
                self._changed.wait(min(left_s, 0.1))

    def wait_ready(self, timeout_s: float = 120.0, perception: bool = False, recorder: bool = False) -> None:
        """Until the arm reports, and, where asked for, embeddings arrive and the recorder listens."""
        self.wait_for(lambda: self.state is not None, timeout_s, "arm/state; is the graph running in this domain?")
        self._wait_service("policy/enable", timeout_s)
        if recorder:
            self._wait_service("recorder/start", timeout_s)
        if perception:
            self.subscribe(qos.EMBEDDING)
            self.wait_for(lambda: self.newest(qos.EMBEDDING) is not None, timeout_s, "the first embedding")
            publishers = self.node.count_publishers
            self.wait_for(lambda: publishers(qos.POLICY_ACTION.name) > 0, timeout_s, "the policy node")

    # ---- services ----------------------------------------------------------------------------------------------

    def call(self, name: str, request: Any, timeout_s: float = 10.0) -> Any:
        """Call a service of the graph.

        Raises:
            ClientError: nobody serves it, no answer in time, or the answer is no; with the graph's reason.
        """
        client = self._wait_service(name, timeout_s)
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        limit_s = time.monotonic() + timeout_s
        while not answered.wait(0.1):
            self._alive()
            if time.monotonic() > limit_s:
                raise ClientError(f"{name}: no answer within {timeout_s:g} s")
        response = future.result()
        if not response.success:
            raise ClientError(f"{name}: {response.message}")
        return response

    def _wait_service(self, name: str, timeout_s: float) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(qos.SERVICES[name], name)
        client = self._clients[name]
        self.wait_for(client.service_is_ready, timeout_s, f"the service {name}")
        return client

    def reset(self, task: str, seed: int, timeout_s: float = 30.0) -> None:
        """Set the simulated scene, and wait until the camera shows it."""
        before_ns = time.time_ns()
        self.call("sim/reset", ResetScene.Request(task=task, seed=seed), timeout_s)

        def shown() -> bool:
            truth = self.truth
            stamp = 0 if truth is None else truth.header.stamp.sec * 1_000_000_000 + truth.header.stamp.nanosec
            return truth is not None and truth.seed == seed and truth.task == task and stamp > before_ns

        self.wait_for(shown, timeout_s, f"the scene {task} with seed {seed}")

    def enable(self, enabled: bool = True) -> str:
        """Open or close the policy's gate, and wait until the arm says so. Returns the arm's answer."""
        answer = self.call("policy/enable", SetBool.Request(data=enabled))
        self.wait_for(
            lambda: self.state is not None and self.state.policy_enabled == enabled, 5.0, f"policy_enabled={enabled}"
        )
        return str(answer.message)

    def teleop(self, enabled: bool = True) -> str:
        """Let the demonstrator drive, from a fresh start, or take its hands off. Returns its answer."""
        return str(self.call("teleop/enable", SetBool.Request(data=enabled)).message)

    def stop(self) -> None:
        self.call("arm/stop", Trigger.Request())

    def clear(self) -> None:
        self.call("arm/clear", Trigger.Request())

    def home(self) -> None:
        """Begin to move to the ready pose; `state.mode` tells when it is there."""
        self.call("arm/home", Trigger.Request())

    def start_recording(self, task: str) -> str:
        """Returns the episode's id."""
        return str(self.call("recorder/start", StartEpisode.Request(task=task)).episode)

    def pause_recording(self) -> None:
        self.call("recorder/pause", Trigger.Request())

    def stop_recording(self) -> str:
        """Returns what the recorder says of the episode."""
        return str(self.call("recorder/stop", Trigger.Request(), timeout_s=60.0).message)

    def discard_recording(self) -> None:
        self.call("recorder/discard", Trigger.Request(), timeout_s=60.0)

    def label_recording(self, label: str, episode: str = "") -> None:
        """`label` success or failure; without an id, the last episode's."""
        self.call("recorder/label", LabelEpisode.Request(episode=episode, label=label))

    # ---- life --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Safe to call twice."""
        if self._context.ok():
            self._executor.shutdown()
            self._thread.join(timeout=5.0)
            self.node.destroy_node()
            rclpy.shutdown(context=self._context)

    def __enter__(self) -> GraphClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
