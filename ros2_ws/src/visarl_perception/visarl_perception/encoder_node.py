"""encoder_node: a camera frame and its saliency maps to an embedding."""

from __future__ import annotations

import array
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from visarl_msgs.msg import Embedding

from visarl.bundle import load_bundle
from visarl.contract import CAMERA_FRAME, CONTROL_RATE_HZ
from visarl.errors import ContractError
from visarl.estimators import load_estimators
from visarl.inference import EncoderModel
from visarl.ros import qos
from visarl.ros.convert import from_time, image_to_array, image_to_rgb, to_time
from visarl.ros.health import Health
from visarl.ros.pacing import Pacer
from visarl.ros.params import declare, parameter
from visarl.ros.process import run

KEPT = 15
"""Frames kept for the maps that answer them: half a second at 30 Hz."""

ESTIMATORS = "what makes modalities of the picture: depth=package.module:function, several separated by spaces"


@dataclass(frozen=True)
class Options:
    bundle: str = parameter("", "folder with the trained models")
    engine: str = parameter("auto", "what runs the models: auto, torch or openvino")
    threads: int = parameter(1, "of the engine; a second busy process on the same cores slows both", 1, 64)
    rate_hz: float = parameter(CONTROL_RATE_HZ, "frames a second, where no saliency node sets the rhythm", 0.1, 120.0)
    estimators: str = parameter("", ESTIMATORS)


class EncoderNode(Node):
    """Encodes as soon as both a frame and its maps are here; a bundle without saliency needs the frame alone."""

    def __init__(self) -> None:
        super().__init__("encoder_node")
        options = declare(self, Options)
        bundle = load_bundle(options.bundle)
        self._bundle_id = bundle.id
        estimators = load_estimators(options.estimators.split())
        self._model = EncoderModel(bundle, options.engine, options.threads, estimators)
        self._pacer = Pacer(options.rate_hz)
        self._frames: OrderedDict[int, Image] = OrderedDict()
        self._maps: tuple[int, Image] | None = None
        self._health = Health(self)
        self._embeddings = qos.publisher(self, qos.EMBEDDING)
        if bundle.config.needs_saliency:
            # While one frame is encoded, the one that the next maps answer must not be overwritten.
            qos.subscribe(self, qos.IMAGE, self._keep_frame, depth=KEPT)
            qos.subscribe(self, qos.SALIENCY, self._take_maps)
        else:
            qos.subscribe(self, qos.IMAGE, self._take_frame)

    def _take_frame(self, message: Image) -> None:
        stamp_ns = from_time(message.header.stamp)
        if self._pacer.accept(stamp_ns):
            self._encode(stamp_ns, message, None)

    def _keep_frame(self, message: Image) -> None:
        self._frames[from_time(message.header.stamp)] = message
        while len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        self._pair()

    def _take_maps(self, message: Image) -> None:
        if self._maps is not None:
            self._health.refuse("saliency map", "its camera frame did not arrive before the next map")
        self._maps = (from_time(message.header.stamp), message)
        self._pair()

    def _pair(self) -> None:
        if self._maps is None or self._maps[0] not in self._frames:
            return
        (stamp_ns, maps), self._maps = self._maps, None
        self._encode(stamp_ns, self._frames[stamp_ns], maps)

    def _encode(self, stamp_ns: int, frame: Image, maps: Image | None) -> None:
        try:
            image = image_to_rgb(frame)
            embedding = self._model.embed(image, None if maps is None else message_to_maps(maps))
        except ContractError as error:
            self._health.refuse("camera frame", str(error))
            return
        self._embeddings.publish(embedding_message(embedding, stamp_ns, self._bundle_id))
        self._health.count("embeddings", stamp_ns)


def message_to_maps(message: Image) -> NDArray[np.float32]:
    """saliency/map as (R, S, S)."""
    maps = image_to_array(message)
    if maps.dtype != np.float32:
        raise ContractError(f"saliency map: expected 32FC<roles>, found {message.encoding}")
    return np.ascontiguousarray(np.moveaxis(maps, -1, 0))


def embedding_message(embedding: NDArray[np.float32], stamp_ns: int, bundle_id: str) -> Embedding:
    """(dim,) under the camera frame's stamp."""
    message = Embedding(data=array.array("f", embedding.tolist()), bundle=bundle_id)
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), CAMERA_FRAME
    return message


def main() -> None:
    run("encoder_node", EncoderNode)
