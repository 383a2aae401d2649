"""ROS messages to and from arrays and the library's own types. Images become views, without a copy."""

from __future__ import annotations

import array
import struct
import time
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from visarl_msgs.msg import ArmAction
from visarl_msgs.msg import ArmState as ArmStateMessage
from visarl_msgs.msg import SceneTruth as SceneTruthMessage

from visarl.contract import BASE_FRAME
from visarl.errors import ContractError
from visarl.robot.interfaces import ArmState
from visarl.robot.safety import Command, Decision

ENCODINGS: dict[str, tuple[type, int]] = {"rgb8": (np.uint8, 3), "bgr8": (np.uint8, 3), "mono8": (np.uint8, 1)}
"""Encodings that NumPy can view as they are, beside 32FC1, 32FC2, …: number type and channels."""


def now_ns() -> int:
    """The system clock [ns since the epoch], which every stamp in the graph is in."""
    return time.time_ns()


def to_time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def from_time(stamp: Time) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_of(message: bytes) -> int:
    """The stamp of a serialised message that begins with a header: CDR, four bytes of which the second tells the order.

    Source: OMG DDS-XTypes 1.3, 7.6.2 (encapsulation).
    """
    sec, nanosec = struct.unpack_from("<iI" if message[1] & 1 else ">iI", message, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _layout(encoding: str) -> tuple[type, int] | None:
    if encoding.startswith("32FC") and encoding[4:].isdigit():
        return np.float32, int(encoding[4:])
    return ENCODINGS.get(encoding)


def image_to_array(message: Any) -> NDArray[Any]:
    """The picture as an array: (H, W, 3) uint8 in the message's own channel order, (H, W) uint8, or (H, W, C) float32.

    A read-only view of the message's bytes for rgb8, bgr8, mono8 and 32FC*; anything else goes through `cv_bridge`
    where ROS provides it.

    Raises:
        ContractError: an encoding that cannot be read here, or a size that does not fit the data.
    """
    layout = _layout(message.encoding)
    if layout is None:
        return _through_cv_bridge(message)
    kind, channels = layout
    item = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * channels * item.itemsize
    if message.height == 0 or message.width == 0 or message.step < row:
        raise ContractError(
            f"image {message.width}x{message.height} {message.encoding}: expected rows of at least {max(row, 1)} bytes,"
            f" found a step of {message.step}"
        )
    if len(message.data) < message.step * message.height:
        raise ContractError(
            f"image {message.width}x{message.height} {message.encoding}: expected {message.step * message.height} "
            f"bytes, found {len(message.data)}"
        )
    shape = (message.height, message.width) + ((channels,) if channels > 1 or kind is np.float32 else ())
    strides = (message.step, channels * item.itemsize, item.itemsize)[: len(shape)]
    view: NDArray[Any] = np.ndarray(shape, item, buffer=memoryview(message.data), strides=strides)
    view.flags.writeable = False
    return view


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """A camera frame as (H, W, 3) uint8 RGB, whatever its encoding.

    Raises:
        ContractError: as `image_to_array`, or a picture that is not 8 bits a channel.
    """
    picture = image_to_array(message)
    if picture.dtype != np.uint8:
        raise ContractError(f"camera frame: expected 8 bits a channel (rgb8), found {message.encoding}")
    if picture.ndim == 2:
        return np.repeat(picture[:, :, None], 3, axis=2)
    return picture[:, :, ::-1] if message.encoding == "bgr8" else picture


def array_to_image(picture: NDArray[Any], encoding: str, stamp_ns: int, frame_id: str) -> Image:
    """An Image message of a (H, W), (H, W, C) array; one copy, of its bytes."""
    kind, channels = _layout(encoding) or (None, 0)
    found = picture.shape[2] if picture.ndim == 3 else 1
    if kind is None or picture.dtype != kind or found != channels:
        raise ContractError(f"{encoding}: cannot carry an array of {picture.dtype} and shape {picture.shape}")
    message = Image()
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.height, message.width = picture.shape[:2]
    message.encoding = encoding
    message.step = picture.shape[1] * channels * picture.itemsize
    # array('B') goes into the message unchecked; any other sequence is checked byte by byte on older ROS.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(picture).data.cast("B"))  # type: ignore[arg-type]
    message.data = data
    return message


def _through_cv_bridge(message: Any) -> NDArray[Any]:
    readable = ", ".join((*ENCODINGS, "32FC<n>"))
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise ContractError(
            f"image encoding {message.encoding!r}: expected one of {readable}; set the camera to rgb8, "
            "or install ROS's cv_bridge for others"
        ) from error
    if not hasattr(CvBridge(), "imgmsg_to_cv2"):
        raise ContractError(f"image encoding {message.encoding!r}: this cv_bridge is not ROS 2's; readable: {readable}")
    picture: NDArray[Any] = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    return picture


def command_to_message(command: Command, reasons: tuple[str, ...] = ()) -> ArmAction:
    message = ArmAction()
    message.header.stamp = to_time(command.stamp_ns)
    message.header.frame_id = command.frame
    message.sequence = command.sequence
    message.source = command.source
    twist = message.twist
    twist.linear.x, twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y, twist.angular.z = (
        float(v) for v in command.twist
    )
    message.gripper = float(command.gripper)
    message.observed = to_time(command.observed_ns)
    message.bundle = command.bundle
    message.reasons = list(reasons)
    return message


def message_to_command(message: Any, source: str) -> Command:
    """`source` is the topic's, never what the message says of itself."""
    linear, angular = message.twist.linear, message.twist.angular
    return Command(
        source=source,
        sequence=int(message.sequence),
        stamp_ns=from_time(message.header.stamp),
        frame=message.header.frame_id,
        twist=np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]),
        gripper=float(message.gripper),
        observed_ns=from_time(message.observed),
        bundle=message.bundle,
    )


def decision_to_message(decision: Decision, stamp_ns: int) -> ArmAction:
    """`arm/executed`: what was sent at `stamp_ns`, and the camera frame that it answers."""
    command = decision.command
    return command_to_message(
        Command(
            source=decision.source,
            sequence=command.sequence if command else 0,
            stamp_ns=stamp_ns,
            frame=BASE_FRAME,
            twist=decision.twist,
            gripper=decision.gripper,
            observed_ns=command.observed_ns if command else 0,
            bundle=command.bundle if command else "",
        ),
        decision.reasons,
    )


def state_to_message(state: ArmState, arm: str) -> ArmStateMessage:
    """The measured part of `arm/state`; the caller adds mode, source and status."""
    message = ArmStateMessage()
    message.header.stamp = to_time(state.stamp_ns)
    message.header.frame_id = BASE_FRAME
    message.arm = arm
    message.position = state.position.tolist()
    message.velocity = state.velocity.tolist()
    message.fingers = state.fingers.tolist()
    x, y, z = (float(v) for v in state.tool_position)
    message.tool.position = Point(x=x, y=y, z=z)
    x, y, z, w = (float(v) for v in state.tool_quaternion)
    message.tool.orientation = Quaternion(x=x, y=y, z=z, w=w)
    x, y, z = (float(v) for v in state.external_force)
    message.external_force = Vector3(x=x, y=y, z=z)
    return message


def message_to_state(message: Any) -> ArmState:
    tool, force = message.tool, message.external_force
    return ArmState(
        stamp_ns=from_time(message.header.stamp),
        position=np.asarray(message.position, dtype=np.float64),
        velocity=np.asarray(message.velocity, dtype=np.float64),
        fingers=np.asarray(message.fingers, dtype=np.float64),
        tool_position=np.array([tool.position.x, tool.position.y, tool.position.z]),
        tool_quaternion=np.array([tool.orientation.x, tool.orientation.y, tool.orientation.z, tool.orientation.w]),
        fault=message.status if message.mode == ArmStateMessage.FAULT else "",
        external_force=np.array([force.x, force.y, force.z]),
    )


def joint_states(state: ArmState, prefix: str = "") -> JointState:
    message = JointState()
    message.header.stamp = to_time(state.stamp_ns)
    joints = [f"{prefix}joint_{i + 1}" for i in range(len(state.position))]
    fingers = [f"{prefix}finger_{i + 1}" for i in range(len(state.fingers))]
    message.name = joints + fingers
    message.position = [*state.position.tolist(), *state.fingers.tolist()]
    return message


def truth_to_message(truth: Any, stamp_ns: int) -> SceneTruthMessage:
    """`sim/truth` of a `visarl.sim.tabletop.SceneTruth`, for the camera frame taken at `stamp_ns`."""
    message = SceneTruthMessage(task=truth.task, seed=truth.seed, names=list(truth.positions))
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = BASE_FRAME
    for position in truth.positions.values():
        x, y, z = (float(v) for v in position)
        message.positions.append(Point(x=x, y=y, z=z))
    message.u = [float(truth.uv[name][0]) for name in truth.positions]
    message.v = [float(truth.uv[name][1]) for name in truth.positions]
    message.visible = [bool(truth.visible[name]) for name in truth.positions]
    message.success, message.success_ever = bool(truth.success), bool(truth.success_ever)
    return message


def message_to_truth(message: Any) -> Any:
    """The inverse of `truth_to_message`; its time is the camera's stamp."""
    from visarl.sim.tabletop import SceneTruth  # only who uses the simulator has MuJoCo

    return SceneTruth(
        task=message.task,
        seed=int(message.seed),
        time_s=from_time(message.header.stamp) / 1e9,
        positions={name: np.array([p.x, p.y, p.z]) for name, p in zip(message.names, message.positions, strict=True)},
        uv=dict(zip(message.names, zip(message.u, message.v, strict=True), strict=True)),
        visible=dict(zip(message.names, message.visible, strict=True)),
        success=message.success,
        success_ever=message.success_ever,
    )
