"""Every topic and service of the graph: name, type and quality of service, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import SetBool, Trigger
from visarl_msgs.msg import ArmAction, ArmState, Embedding, Episode, SceneTruth
from visarl_msgs.srv import LabelEpisode, ResetScene, StartEpisode


def _profile(reliable: bool, depth: int, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
    )


NEWEST = _profile(reliable=False, depth=1)
"""Only the newest counts; a late one is worth nothing."""

COMMAND = _profile(reliable=True, depth=1)
"""Must arrive, but the newest replaces what waits."""

RECORD = _profile(reliable=True, depth=50)
"""Every one counts: what was done, for the bag."""

MARKER = _profile(reliable=True, depth=10, latched=True)
"""Every one counts, and one who comes late sees the last ones."""


@dataclass(frozen=True)
class Topic:
    """Name (relative, so that a graph can be put into a namespace), message type and quality of service."""

    name: str
    type: Any
    qos: QoSProfile


IMAGE = Topic("camera/image_raw", Image, NEWEST)
COMPRESSED = Topic("camera/image_raw/compressed", CompressedImage, NEWEST)
CAMERA_INFO = Topic("camera/camera_info", CameraInfo, NEWEST)
SALIENCY = Topic("saliency/map", Image, NEWEST)
OVERLAY = Topic("saliency/overlay/compressed", CompressedImage, NEWEST)
EMBEDDING = Topic("encoder/embedding", Embedding, NEWEST)
POLICY_ACTION = Topic("policy/action", ArmAction, COMMAND)
TELEOP_ACTION = Topic("teleop/action", ArmAction, COMMAND)
ARM_STATE = Topic("arm/state", ArmState, NEWEST)
JOINT_STATES = Topic("joint_states", JointState, NEWEST)
EXECUTED = Topic("arm/executed", ArmAction, RECORD)
EPISODE = Topic("episode", Episode, MARKER)
TRUTH = Topic("sim/truth", SceneTruth, RECORD)
DIAGNOSTICS = Topic("/diagnostics", DiagnosticArray, _profile(reliable=True, depth=10))

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        IMAGE, COMPRESSED, CAMERA_INFO, SALIENCY, OVERLAY, EMBEDDING, POLICY_ACTION, TELEOP_ACTION,
        ARM_STATE, JOINT_STATES, EXECUTED, EPISODE, TRUTH, DIAGNOSTICS,
    )
}  # fmt: skip

SERVICES: dict[str, Any] = {
    "arm/stop": Trigger,
    "arm/clear": Trigger,
    "arm/home": Trigger,
    "policy/enable": SetBool,
    "sim/reset": ResetScene,
    "teleop/enable": SetBool,
    "recorder/start": StartEpisode,
    "recorder/pause": Trigger,
    "recorder/stop": Trigger,
    "recorder/discard": Trigger,
    "recorder/label": LabelEpisode,
}


def publisher(node: Any, topic: Topic) -> Any:
    return node.create_publisher(topic.type, topic.name, topic.qos)


def subscribe(node: Any, topic: Topic, callback: Any, depth: int | None = None, raw: bool = False) -> Any:
    """With `depth`, so many may wait for a busy callback; otherwise as many as the topic's own quality says.

    `raw` hands over the message's bytes (CDR), which costs nothing to decode.
    """
    quality = topic.qos
    if depth is not None:
        quality = QoSProfile(reliability=quality.reliability, durability=quality.durability, depth=depth)
    return node.create_subscription(topic.type, topic.name, callback, quality, raw=raw)


def serve(node: Any, name: str, callback: Any) -> Any:
    return node.create_service(SERVICES[name], name, callback)
