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

from visarl.contract import CAMERA_FRAME, CAMERA_HEIGHT, CAMERA_RATE_HZ, CAMERA_WIDTH
from visarl.errors import CameraError
from visarl.robot.interfaces import Camera, Frame
from visarl.ros import qos
from visarl.ros.calibration import check_size, load_calibration
from visarl.ros.convert import array_to_image, to_time
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter, read
from visarl.ros.process import run


@dataclass(frozen=True)
class Options:
    source: str = parameter("/dev/video0", "device, video file, folder of images, or bag")
    rate_hz: float = parameter(CAMERA_RATE_HZ, "frames a second asked of the source", 1.0, 240.0)
    width: int = parameter(CAMERA_WIDTH, "of every frame [pixels]; another is an error", 16, 8192)
    height: int = parameter(CAMERA_HEIGHT, "of every frame [pixels]; another is an error", 16, 8192)
    loop: bool = parameter(False, "begin a file, a folder or a bag again at its end")
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
                    raise CameraError(
                        f"camera source {self._options.source}: no more frames; set camera_node's `loop: true` in the "
                        "bench file to begin it again, or name a device"
                    )
                if not self._closing.is_set():
                    self._publish(frame)
        except Exception as error:  # handed to the executor's thread, which ends the process with it
            if not self._closing.is_set():
                self._error = error

    def _publish(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self._options.calibration:
            check_size(self._info, self._options.calibration, self._options.source, width, height)
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
        self._camera.close()  # first: it wakes the thread, which would wait for a frame that does not come
        self._thread.join(timeout=self._options.timeout_s)


def jpeg(picture: np.ndarray, stamp_ns: int, quality: int) -> CompressedImage:
    """An RGB picture (H, W, 3) uint8 as a JPEG message with the camera's stamp."""
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", data.tobytes()))
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), CAMERA_FRAME
    return message


def make() -> CameraNode:
    from visarl.robot.webcam import open_camera

    own = read("camera_node", Options)
    return CameraNode(open_camera(own.source, own.width, own.height, own.rate_hz, own.loop), own)


def main() -> None:
    run("camera_node", make)
