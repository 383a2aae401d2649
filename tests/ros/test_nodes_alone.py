"""Nodes by themselves, in this process and without their graph: what they do where something is wrong or missing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from std_srvs.srv import Trigger
from visarl_arm import arm_node, sim_node
from visarl_arm.watchdog_node import WatchdogNode
from visarl_msgs.msg import ArmState
from visarl_msgs.srv import ResetScene
from visarl_perception import camera_node
from visarl_policy.policy_node import PolicyNode
from visarl_teleop.recorder_node import RecorderNode

from visarl.contract import get_contract
from visarl.data.bags import ARM_STATE, IMAGE
from visarl.errors import ArmError, CameraError
from visarl.robot.interfaces import ArmState as Measured
from visarl.robot.interfaces import Frame
from visarl.ros.calibration import load_calibration
from visarl.ros.convert import from_time
from visarl.ros.graph import GraphOptions, environment
from visarl.ros.stranger import free_domain

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module", autouse=True)
def _ros(_environment: None) -> Iterator[None]:
    domain = free_domain()
    os.environ.update(environment(GraphOptions(domain=domain)))
    rclpy.init(args=[], domain_id=domain)
    yield
    rclpy.try_shutdown()


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    """Nodes to destroy at the end."""
    nodes: list[Any] = []
    yield nodes
    for node in nodes:
        node.destroy_node()


# ---- watchdog --------------------------------------------------------------------------------------------------------


class Calls:
    """A service's client whose answers the test gives."""

    def __init__(self) -> None:
        self.open: list[Any] = []

    def call_async(self, request: Any) -> Any:
        call = SimpleNamespace(add_done_callback=self.open.append)
        return call

    def answer(self, success: bool, message: str = "") -> None:
        response = Trigger.Response(success=success, message=message)
        self.open.pop()(SimpleNamespace(result=lambda: response))


@pytest.fixture
def watchdog(kept: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[WatchdogNode, Calls, Any]:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr("visarl_arm.watchdog_node.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    node = WatchdogNode()
    kept.append(node)
    node._stop = Calls()
    return node, node._stop, clock


def state(stamp_s: int) -> ArmState:
    message = ArmState()
    message.header.stamp.sec = stamp_s
    return message


def test_an_arm_that_is_never_heard_is_told_on_diagnostics(watchdog: Any) -> None:
    node, calls, clock = watchdog
    clock.now_s += 3.0
    node._watch()
    assert "no arm/state yet, for 3 s" in node._health._problem and not calls.open


def test_a_stop_that_the_arm_did_not_hear_is_told_and_repeated(watchdog: Any) -> None:
    node, calls, clock = watchdog
    node._hear(state(1))
    clock.now_s += 0.6
    node._hear(state(1))  # the same measurement, sent again
    node._watch()
    assert len(calls.open) == 1
    calls.answer(False, "latched, but the arm did not hear it: the cable is unplugged")
    assert "the cable is unplugged" in node._health._problem
    node._watch()
    assert len(calls.open) == 1
    calls.answer(True)
    node._watch()
    assert not calls.open


# ---- camera ----------------------------------------------------------------------------------------------------------


class DarkCamera:
    """Has one picture, and then none until it is closed."""

    def __init__(self) -> None:
        self.closed, self.woken = threading.Event(), False
        self.asked = threading.Event()

    def read(self, timeout_s: float) -> Frame | None:
        self.asked.set()
        self.woken = self.closed.wait(timeout_s)
        raise CameraError("closed" if self.woken else "dark")

    def close(self) -> None:
        self.closed.set()


def test_a_closing_camera_node_does_not_wait_for_a_frame(kept: list[Any]) -> None:
    camera = DarkCamera()
    kept.append(camera_node.CameraNode(camera, camera_node.Options(timeout_s=4.0)))
    assert camera.asked.wait(10.0)
    kept[0].close()
    kept[0]._thread.join(10.0)
    assert camera.woken and kept[0]._error is None


def test_size_and_loop_reach_the_source_and_its_end_is_named(
    kept: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((240, 320, 3), np.uint8))
    own = camera_node.Options(source=str(tmp_path), width=320, height=240, rate_hz=200.0)
    monkeypatch.setattr(camera_node, "read", lambda name, options: own)
    kept.append(camera_node.make())
    kept[0]._thread.join(10.0)
    with pytest.raises(CameraError, match=rf"{tmp_path}: no more frames; set camera_node's `loop: true`"):
        kept[0]._raise_error()
    shown = threading.Event()
    looped = camera_node.Options(**{**vars(own), "loop": True})
    monkeypatch.setattr(camera_node, "read", lambda name, options: looped)
    kept.append(camera_node.make())
    frames: list[Frame] = []
    kept[1]._on_frame = lambda frame: (frames.append(frame), len(frames) > 3 and shown.set())
    assert shown.wait(20.0)
    kept[1].close()


def matrices(**changes: int) -> dict[str, Any]:
    sizes = {"camera_matrix": 9, "rectification_matrix": 9, "projection_matrix": 12, **changes}
    values = {name: {"data": [1.0] * size} for name, size in sizes.items()}
    values["distortion_coefficients"] = {"data": [0.0] * 5}
    return {"image_width": 640, "image_height": 480, "distortion_model": "plumb_bob", **values}


@pytest.mark.parametrize("name", ["camera_matrix", "rectification_matrix", "projection_matrix"])
def test_a_matrix_of_another_length_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump(matrices()))
    assert len(load_calibration(str(path)).p) == 12
    path.write_text(yaml.safe_dump(matrices(**{name: 8})))
    with pytest.raises(CameraError, match=f"{name} has 8 numbers; expected (9|12).*cameracalibrator"):
        load_calibration(str(path))


# ---- arm and simulator -----------------------------------------------------------------------------------------------


class Part:
    """Stands for anything of the simulator; notes its own end."""

    def __init__(self, name: str, ends: list[str]) -> None:
        self.name, self.ends = name, ends

    def close(self) -> None:
        self.ends.append(self.name)

    stop = close

    def check(self) -> None: ...
    def start(self) -> None: ...
    def connect(self) -> None: ...


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what sim_node closes, in the order in which it does."""
    import visarl.sim.jaco
    import visarl.sim.tabletop

    ends: list[str] = []
    for module, name in (
        (visarl.sim.tabletop, "Simulator"), (visarl.sim.jaco, "RealTime"), (visarl.sim.jaco, "SimCamera"),
        (visarl.sim.jaco, "SimArm"), (sim_node, "CameraNode"), (sim_node, "ArmNode"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_, name=name: Part(name, ends))
    return ends


def test_the_simulated_arm_closes_first_and_the_physics_last(parts: list[str], kept: list[Any]) -> None:
    kept.append(sim_node.SimNode())
    kept[0].close()
    assert parts == ["ArmNode", "SimArm", "CameraNode", "RealTime", "Simulator"]
    kept[0].close()
    assert len(parts) == 5


def test_what_was_opened_is_closed_where_a_later_part_fails(parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ArmError("no such arm")

    monkeypatch.setattr(sim_node, "ArmNode", broken)
    with pytest.raises(ArmError, match="no such arm"):
        sim_node.SimNode()
    assert parts == ["SimArm", "CameraNode", "RealTime", "Simulator"]


def test_an_arm_that_connects_and_then_fails_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []
    monkeypatch.setattr(arm_node, "open_arm", lambda *_: Part("arm", ends))  # connects, and has no contract
    with pytest.raises(AttributeError, match="contract"):
        arm_node.make()
    assert ends == ["arm"]


def test_a_reset_drops_what_was_accepted_meanwhile() -> None:
    did: list[str] = []
    driver = SimpleNamespace(drop=lambda: did.append("drop"), enable_policy=lambda on: did.append(f"enable {on}"))
    simulator = SimpleNamespace(reset=lambda task, seed: did.append("reset"))
    node: Any = SimpleNamespace(arm=SimpleNamespace(driver=driver), _simulator=simulator)
    answer = sim_node.SimNode._reset(node, ResetScene.Request(task="pick_apple", seed=1), ResetScene.Response())
    assert answer.success and did == ["enable False", "drop", "reset", "drop"]


def test_the_state_tells_when_the_gate_was_opened() -> None:
    sent: list[ArmState] = []
    driver = SimpleNamespace(mode=("ready", ""), policy_enabled=True, policy_opened_ns=5_000_000_007, source="policy")
    quiet = SimpleNamespace(get_subscription_count=lambda: 0)
    states = SimpleNamespace(publish=sent.append)
    node: Any = SimpleNamespace(driver=driver, _contract=get_contract("jaco2"), _states=states, _joints=quiet)
    measured = Measured(1, np.zeros(6), np.zeros(6), np.zeros(3), np.zeros(3), np.array([0, 0, 0, 1.0]))
    arm_node.ArmNode._publish_state(node, measured)
    assert from_time(sent[0].policy_opened) == 5_000_000_007 and sent[0].mode == ArmState.READY


def test_the_policy_forgets_when_the_gate_was_opened_again_though_it_was_never_seen_closed() -> None:
    resets: list[int] = []
    policy = SimpleNamespace(reset=lambda: resets.append(1))
    node: Any = SimpleNamespace(_states=[], _policy=policy, _enabled=False, _opened_ns=0)

    def hear(enabled: bool, opened_s: int) -> int:
        message = state(1)
        message.policy_enabled, message.policy_opened.sec = enabled, opened_s
        PolicyNode._keep_state(node, message)
        return len(resets)

    assert hear(False, 0) == 0
    assert hear(True, 5) == 1 and node._opened_ns == 5_000_000_000
    assert hear(True, 5) == 1
    assert hear(True, 6) == 2  # the state that told of the closing was lost
    assert hear(False, 6) == 2 and not node._enabled


# ---- recorder --------------------------------------------------------------------------------------------------------


def test_the_end_of_an_episode_logs_the_rate_of_every_topic(kept: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from visarl.data.rates import TopicStats

    report = [TopicStats(topic, "").report() for topic in (IMAGE, ARM_STATE)]
    said: list[str] = []
    logger = SimpleNamespace(info=said.append)
    recorder = SimpleNamespace(state="idle", episode="pick-1", stop=lambda: (Path("pick-1"), report))
    node: Any = SimpleNamespace(_recorder=recorder, get_logger=lambda: logger)
    RecorderNode._stop(node, None, None)
    lines = "\n".join(said).splitlines()
    assert any(line.startswith(IMAGE) for line in lines) and any(line.startswith(ARM_STATE) for line in lines)
