"""saliency_node: camera frames to saliency maps, at the control rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from visarl.bundle import load_bundle
from visarl.contract import CAMERA_FRAME, CONTROL_RATE_HZ
from visarl.errors import ContractError
from visarl.inference import SaliencyModel
from visarl.overlay import overlay
from visarl.preprocess import crop
from visarl.ros import qos
from visarl.ros.convert import array_to_image, from_time, image_to_rgb
from visarl.ros.health import Health
from visarl.ros.pacing import Pacer
from visarl.ros.params import declare, parameter
from visarl.ros.process import run
from visarl_perception.camera_node import jpeg


@dataclass(frozen=True)
class Options:
    bundle: str = parameter("", "folder with the trained models")
    engine: str = parameter("auto", "what runs the models: auto, torch or openvino")
    threads: int = parameter(1, "of the engine; a second busy process on the same cores slows both", 1, 64)
    rate_hz: float = parameter(CONTROL_RATE_HZ, "frames a second that are looked at", 0.1, 120.0)
    smoothing: float = parameter(0.0, "share of the maps before that is kept: steadier, and late", 0.0, 0.95)
    overlay_quality: int = parameter(80, "JPEG quality of saliency/overlay/compressed", 10, 100)


class MapPublisher:
    """saliency/map and its overlay, which is drawn only while someone listens."""

    def __init__(self, node: Node, options: Options) -> None:
        self._maps = qos.publisher(node, qos.SALIENCY)
        self._overlays = qos.publisher(node, qos.OVERLAY)
        self._quality = options.overlay_quality

    def publish(self, image: NDArray[np.uint8], maps: NDArray[np.float32], stamp_ns: int, config: object) -> None:
        """`maps` (R, S, S) of the camera frame `image`, cropped by `config`."""
        channels = np.ascontiguousarray(np.moveaxis(maps, 0, -1), dtype=np.float32)
        self._maps.publish(array_to_image(channels, f"32FC{len(maps)}", stamp_ns, CAMERA_FRAME))
        if self._overlays.get_subscription_count():
            self._overlays.publish(jpeg(overlay(crop(image, config), maps), stamp_ns, self._quality))


class SaliencyNode(Node):
    """Answers the first camera frame of every control period with its maps, under the frame's own stamp."""

    def __init__(self) -> None:
        super().__init__("saliency_node")
        options = declare(self, Options)
        bundle = load_bundle(options.bundle)
        self._model = SaliencyModel(bundle, options.engine, options.threads, options.smoothing)
        self._preprocess = bundle.config.preprocess
        self._pacer = Pacer(options.rate_hz)
        self._health = Health(self)
        self._publisher = MapPublisher(self, options)
        qos.subscribe(self, qos.IMAGE, self._look)

    def _look(self, message: Image) -> None:
        stamp_ns = from_time(message.header.stamp)
        if not self._pacer.accept(stamp_ns):
            return
        try:
            image = image_to_rgb(message)
            maps = self._model.saliency(image)
        except ContractError as error:
            self._health.refuse("camera frame", str(error))
            return
        self._publisher.publish(image, maps, stamp_ns, self._preprocess)
        self._health.count("maps", stamp_ns)


def main() -> None:
    run("saliency_node", SaliencyNode)
