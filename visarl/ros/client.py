"""A graph as a tool sees it: its services as methods, its newest messages as properties. No node code here."""

from __future__ import annotations

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

READY_S = 240.0
"""A graph is up within this time, also where torch and ROS come from a disk that was never read."""

ANSWER_S = 30.0
"""A service of a graph that is there answers within this time, on a busy machine too."""

AGAIN_S = {"arm/stop": 3.0, "arm/clear": 3.0, "policy/enable": 3.0, "teleop/enable": 3.0, "sim/reset": 10.0}
"""Services that may be asked twice, and after how long [s] without an answer they are: DDS drops the answer of a server
that has not found the asker's ear yet. A reset may have a whole scene to build first."""


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
        self._error: Exception | None = None
        # Now and not at the first call: an answer is lost where its way back has not been found yet.
        self._clients: dict[str, Any] = {
            name: self.node.create_client(kind, name) for name, kind in qos.SERVICES.items()
        }
        self._extra: dict[str, list[Callable[[Any], None]]] = {}
        for topic in (qos.ARM_STATE, qos.TRUTH):
            self.subscribe(topic)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="graph client", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass  # `close` ends it so
        except Exception as error:  # of a callback; handed to whoever waits: a thread has no caller
            self._error = error

    def _check(self) -> None:
        """Raise what ended the graph, or this client's thread."""
        self._alive()
        if self._error is not None:
            raise self._error

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
            ClientError: not within `timeout_s`; says `what` was waited for. Also what ended the graph, or what a
                callback raised.
        """
        limit_s = time.monotonic() + timeout_s
        while not condition():
            self._check()
            left_s = limit_s - time.monotonic()
            if left_s <= 0:
                raise ClientError(
                    f"waited {timeout_s:g} s for {what} in vain; the nodes' own words (on their terminal, or in the "
                    "run's graph.log) tell why, `visarl check` whether the machine is the reason"
                )
            with self._changed:
                self._changed.wait(min(left_s, 0.1))

    def wait_ready(self, timeout_s: float = READY_S, perception: bool = False, recorder: bool = False) -> None:
        """Until the arm reports, and, where asked for, embeddings arrive and the recorder listens."""
        self.wait_for(lambda: self.state is not None, timeout_s, "arm/state (is the graph up in this domain?)")
        self._wait_service("policy/enable", timeout_s)
        if recorder:
            self._wait_service("recorder/start", timeout_s)
        if perception:
            self.subscribe(qos.EMBEDDING)
            self.wait_for(lambda: self.newest(qos.EMBEDDING) is not None, timeout_s, "the first embedding")
            publishers = self.node.count_publishers
            self.wait_for(lambda: publishers(qos.POLICY_ACTION.name) > 0, timeout_s, "the policy node")

    # ---- services ----------------------------------------------------------------------------------------------

    def call(self, name: str, request: Any, timeout_s: float = ANSWER_S) -> Any:
        """Call a service of the graph. Those in AGAIN_S are asked again while no answer comes.

        Raises:
            ClientError: nobody serves it, no answer in time, or the answer is no; with the graph's reason. Also what
                ended the graph, or what a callback raised.
        """
        client = self._wait_service(name, timeout_s)
        answered = threading.Semaphore(0)
        asked: list[Any] = []

        def ask() -> float:
            asked.append(client.call_async(request))
            asked[-1].add_done_callback(lambda _: answered.release())
            return time.monotonic()

        began_s = asked_s = ask()
        # The last one's: what was asked twice must not happen a second time after this has returned.
        while not asked[-1].done():
            self._check()
            now_s = time.monotonic()
            if now_s - began_s > timeout_s:
                raise ClientError(
                    f"{name}: no answer within {timeout_s:g} s; its node is busy or hung: its own words tell why"
                )
            if now_s - asked_s > AGAIN_S.get(name, timeout_s) and not any(future.done() for future in asked):
                asked_s = ask()
            answered.acquire(timeout=0.1)
        response = asked[-1].result()
        if not response.success:
            raise ClientError(f"{name}: {response.message}")
        return response

    def serves(self, name: str) -> bool:
        """Whether somebody in the graph serves `name`, as far as is known by now."""
        return bool(self._clients[name].service_is_ready())

    def _wait_service(self, name: str, timeout_s: float) -> Any:
        client = self._clients[name]
        self.wait_for(client.service_is_ready, timeout_s, f"the service {name}")
        return client

    def reset(self, task: str, seed: int, timeout_s: float = 60.0) -> None:
        """Set the simulated scene, and wait until the camera shows it."""
        self.call("sim/reset", ResetScene.Request(task=task, seed=seed), timeout_s)
        before_ns = time.time_ns()  # only now: until the answer the camera showed the scene before

        def shown() -> bool:
            truth = self.truth
            stamp = 0 if truth is None else truth.header.stamp.sec * 1_000_000_000 + truth.header.stamp.nanosec
            return truth is not None and truth.seed == seed and truth.task == task and stamp > before_ns

        self.wait_for(shown, timeout_s, f"the scene {task} with seed {seed}")

    def enable(self, enabled: bool = True) -> str:
        """Open or close the policy's gate, and wait until the arm says so. Returns the arm's answer."""
        answer = self.call("policy/enable", SetBool.Request(data=enabled))
        self.wait_for(
            lambda: self.state is not None and self.state.policy_enabled == enabled,
            ANSWER_S,
            f"policy_enabled={enabled}",
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
