"""A small made-up bag with the topics of a recorded demonstration; for tests of what reads bags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl.contract import BASE_FRAME, CAMERA_FRAME, get_contract
from visarl.data.bag_writer import BagWriter
from visarl.data.bags import ARM_STATE, IMAGE, TELEOP_ACTION, TRUTH
from visarl.data.labels import Label, save_label
from visarl.data.messages import typestore

T0_NS = 1_700_000_000_000_000_000
TASK = "pick_red_block"
EFFECTOR, OBJECT, GOAL = (255, 255, 0), (255, 0, 0), (0, 0, 255)


@dataclass(frozen=True)
class Scene:
    """What the made-up bag contains; every field may be spoiled by a test."""

    seconds: float = 2.0
    camera_hz: float = 30.0
    state_hz: float = 50.0
    action_hz: float = 10.0
    jitter_ms: float = 0.0
    """Half width of the uniform jitter of every stamp."""
    action_delay_ms: float = 5.0
    """From the camera frame that an action answers to the action."""
    idle_head_s: float = 0.0
    idle_tail_s: float = 0.0
    truth: bool = True
    goal: bool = False
    """A task of placing: a blue plate, the third role."""
    width: int = 640
    height: int = 480
    seed: int = 0
    label: str = "success"


def make(msgtype: str, **fields: Any) -> Any:
    return typestore().types[msgtype](**fields)


def serialize(message: Any) -> bytes:
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def time_of(stamp_ns: int) -> Any:
    return make("builtin_interfaces/msg/Time", sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))


def header(stamp_ns: int, frame: str) -> Any:
    return make("std_msgs/msg/Header", stamp=time_of(stamp_ns), frame_id=frame)


def vector(x: float = 0.0, y: float = 0.0, z: float = 0.0, kind: str = "Vector3") -> Any:
    return make(f"geometry_msgs/msg/{kind}", x=float(x), y=float(y), z=float(z))


def place(scene: Scene, seconds: float) -> list[tuple[float, float]]:
    """(u, v) of the effector, the object and, where there is one, the goal, as shares of the frame: only the hand
    moves."""
    share = seconds / max(scene.seconds, 1e-9)
    found = [(0.3 + 0.3 * share, 0.3 + 0.2 * share), (0.6, 0.7 - 0.01 * (scene.seed % 10))]
    return [*found, (0.35, 0.75)] if scene.goal else found


def picture(scene: Scene, seconds: float) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: a yellow hand, a red block and perhaps a blue plate on grey."""
    image = np.full((scene.height, scene.width, 3), 110, np.uint8)
    for (u, v), colour in zip(place(scene, seconds), (EFFECTOR, OBJECT, GOAL), strict=False):
        cv2.circle(image, (round(u * scene.width), round(v * scene.height)), 14, colour, -1)
    return image


def arm_state(stamp_ns: int, seconds: float) -> Any:
    contract = get_contract("jaco2")
    return make(
        "visarl_msgs/msg/ArmState",
        header=header(stamp_ns, BASE_FRAME),
        arm=contract.name,
        position=np.full(contract.joints, 0.1 * seconds),  # so that a state tells its own time
        velocity=np.full(contract.joints, 0.1),
        fingers=np.full(contract.fingers, 0.2),
        tool=make(
            "geometry_msgs/msg/Pose",
            position=vector(kind="Point"),
            orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
        external_force=vector(),
        mode=0,
        policy_enabled=False,
        policy_opened=time_of(0),
        source="teleop",
        status="",
    )


def arm_action(stamp_ns: int, twist: NDArray[np.float64], gripper: float, sequence: int, observed_ns: int = 0) -> Any:
    return make(
        "visarl_msgs/msg/ArmAction",
        header=header(stamp_ns, BASE_FRAME),
        sequence=sequence,
        source="teleop",
        twist=make("geometry_msgs/msg/Twist", linear=vector(*twist[:3]), angular=vector(*twist[3:])),
        gripper=float(gripper),
        observed=time_of(observed_ns),
        bundle="",
        reasons=[],
    )


def compressed(stamp_ns: int, image: NDArray[np.uint8]) -> Any:
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    return make(
        "sensor_msgs/msg/CompressedImage", header=header(stamp_ns, CAMERA_FRAME), format="jpeg", data=data.ravel()
    )


def truth(scene: Scene, stamp_ns: int, seconds: float, success: bool) -> Any:
    points = place(scene, seconds)
    return make(
        "visarl_msgs/msg/SceneTruth",
        header=header(stamp_ns, CAMERA_FRAME),
        task=TASK,
        seed=scene.seed,
        names=["effector", "object", "goal"][: len(points)],
        positions=[vector(u, v, seconds, kind="Point") for u, v in points],
        u=np.array([u for u, _ in points]),
        v=np.array([v for _, v in points]),
        visible=np.ones(len(points), bool),
        success=success,
        success_ever=success,
    )


def synthetic_messages(scene: Scene | None = None) -> list[tuple[int, str, Any]]:
    """(log time in ns, topic, message), in the order of arrival."""
    scene = scene or Scene()
    rng = np.random.default_rng(scene.seed)
    found: list[tuple[int, str, Any]] = []

    def stamps(rate_hz: float) -> list[int]:
        regular = np.arange(int(scene.seconds * rate_hz)) / rate_hz * 1e9
        jitter = rng.uniform(-scene.jitter_ms, scene.jitter_ms, len(regular)) * 1e6
        return [T0_NS + int(t) for t in regular + jitter]

    frames = stamps(scene.camera_hz)
    for stamp in frames:
        seconds = (stamp - T0_NS) / 1e9
        found.append((stamp + 12_000_000, IMAGE, compressed(stamp, picture(scene, seconds))))
        if scene.truth:
            done = seconds > scene.seconds - 0.2
            found.append((stamp + 3_000_000, TRUTH, truth(scene, stamp, seconds, done)))
    for stamp in stamps(scene.state_hz):
        found.append((stamp + 1_000_000, ARM_STATE, arm_state(stamp, (stamp - T0_NS) / 1e9)))
    for sequence, stamp in enumerate(stamps(scene.action_hz)):
        seconds = (stamp - T0_NS) / 1e9
        stamp += int(scene.action_delay_ms * 1e6)
        moving = scene.idle_head_s <= seconds < scene.seconds - scene.idle_tail_s
        twist = np.array([0.05, -0.02, 0.01, 0.0, 0.0, 0.1]) if moving else np.zeros(6)
        found.append((stamp + 1_000_000, TELEOP_ACTION, arm_action(stamp, twist, 0.5 if moving else 0.0, sequence)))
    return sorted(found, key=lambda item: item[0])


def write_bag(path: Path, messages: list[tuple[int, str, Any]], label: str = "") -> Path:
    """A finished bag of any messages."""
    writer = BagWriter(path)
    for log_time, topic, message in messages:
        writer.write(topic, message.__msgtype__, serialize(message), log_time)
    writer.close()
    if label:
        save_label(path, Label(episode=path.name, task=TASK, label=label))
    return path


def synthetic_bag(path: Path, scene: Scene | None = None) -> Path:
    """A finished, labelled bag at `path`, with camera, arm state, teleoperation and the simulator's truth."""
    scene = scene or Scene()
    return write_bag(path, synthetic_messages(scene), scene.label)
