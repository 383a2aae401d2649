"""camera_node: frames of a Camera object onto the graph."""

from __future__ import annotations

import array
import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage

from visarl.contract import CAMERA_FRAME, CAMERA_RATE_HZ
from visarl.errors import CameraError
from visarl.robot.interfaces import Camera, Frame
from visarl.ros import qos
from visarl.ros.calibration import load_calibration
from visarl.ros.convert import array_to_image, to_time
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter, read
from visarl.ros.process import run


@dataclass(frozen=True)
class Options:
    source: str = parameter("/dev/video0", "device, video file, folder of images, or bag")
    rate_hz: float = parameter(CAMERA_RATE_HZ, "frames a second asked of the source", 1.0, 240.0)
    timeout_s: float = parameter(2.0, "without a frame for this long [s] the camera counts as gone", 0.1, 60.0)
    calibration: str = parameter("", "camera calibration YAML (as camera_calibration writes it); empty: uncalibrated")
    jpeg_quality: int = parameter(90, "of camera/image_raw/compressed", 10, 100)


class CameraNode(Node):
    """Publishes what `camera` sees from a thread of its own.

    Args:
        camera: owned by the node from now on.
        on_frame: called after each frame is published, e.g. for the simulator's truth.
    """

    def __init__(
        self, camera: Camera, options: Options | None = None, on_frame: Callable[[Frame], None] = lambda frame: None
    ) -> None:
        super().__init__("camera_node")
        self._options = options or declare(self, Options)
        self._camera, self._on_frame = camera, on_frame
        self._info = load_calibration(self._options.calibration) if self._options.calibration else CameraInfo()
        self._info.header.frame_id = CAMERA_FRAME
        self._health = Health(self)
        self._images = qos.publisher(self, qos.IMAGE)
        self._compressed = qos.publisher(self, qos.COMPRESSED)
        self._infos = qos.publisher(self, qos.CAMERA_INFO)
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._check = self.create_timer(0.1, self._raise_error)
        self._thread = threading.Thread(target=self._stream, name="camera", daemon=True)
        self._thread.start()

    def _stream(self) -> None:
        try:
            while not self._closing.is_set():
                frame = self._camera.read(self._options.timeout_s)
                if frame is None:
                    raise CameraError("the source has no more frames")
                if not self._closing.is_set():
                    self._publish(frame)
        except Exception as error:  # handed to the executor's thread, which ends the process with it
            if not self._closing.is_set():
                self._error = error

    def _publish(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self._options.calibration and (self._info.width, self._info.height) != (width, height):
            raise CameraError(
                f"calibration {self._options.calibration} is of {self._info.width}x{self._info.height} pictures, and "
                f"{self._options.source} gives {width}x{height}; calibrate the camera at this size, or leave "
                "`calibration` empty"
            )
        self._images.publish(array_to_image(frame.image, "rgb8", frame.stamp_ns, CAMERA_FRAME))
        self._on_frame(frame)
        self._health.count("frames", frame.stamp_ns)
        if self._compressed.get_subscription_count():
            self._compressed.publish(jpeg(frame.image, frame.stamp_ns, self._options.jpeg_quality))
        if self._infos.get_subscription_count():
            self._info.header.stamp = to_time(frame.stamp_ns)
            self._info.height, self._info.width = height, width
            self._infos.publish(self._info)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=self._options.timeout_s)
        self._camera.close()


def jpeg(picture: np.ndarray, stamp_ns: int, quality: int) -> CompressedImage:
    """An RGB picture (H, W, 3) uint8 as a JPEG message with the camera's stamp."""
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", data.tobytes()))
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), CAMERA_FRAME
    return message


def make() -> CameraNode:
    from visarl.robot.webcam import open_camera

    options = read("camera_node", Options)
    return CameraNode(open_camera(options.source, rate_hz=options.rate_hz), options)


def main() -> None:
    run("camera_node", make)
