"""perception_node: saliency and encoder fused in one process; the picture crosses no border between them."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import Image

from visarl.bundle import load_bundle
from visarl.errors import ContractError
from visarl.estimators import load_estimators
from visarl.inference import Perception
from visarl.ros import qos
from visarl.ros.convert import from_time, image_to_rgb
from visarl.ros.health import Health
from visarl.ros.pacing import Pacer
from visarl.ros.params import declare, parameter
from visarl.ros.process import run
from visarl_perception import saliency_node
from visarl_perception.encoder_node import ESTIMATORS, embedding_message
from visarl_perception.saliency_node import MapPublisher


@dataclass(frozen=True)
class Options(saliency_node.Options):
    estimators: str = parameter("", ESTIMATORS)


class PerceptionNode(Node):
    """Publishes what the saliency and the encoder node do, the embedding first."""

    def __init__(self) -> None:
        super().__init__("perception_node")
        options = declare(self, Options)
        bundle = load_bundle(options.bundle)
        self._bundle_id = bundle.id
        estimators = load_estimators(options.estimators.split())
        self._model = Perception(bundle, options.engine, options.threads, estimators, options.smoothing)
        self._preprocess = bundle.config.preprocess
        self._pacer = Pacer(options.rate_hz)
        self._health = Health(self)
        self._embeddings = qos.publisher(self, qos.EMBEDDING)
        self._maps = MapPublisher(self, options)
        qos.subscribe(self, qos.IMAGE, self._look)

    def _look(self, message: Image) -> None:
        stamp_ns = from_time(message.header.stamp)
        if not self._pacer.accept(stamp_ns):
            return
        try:
            image = image_to_rgb(message)
            embedding, maps = self._model.perceive(image)
        except ContractError as error:
            self._health.refuse("camera frame", str(error))
            return
        self._embeddings.publish(embedding_message(embedding, stamp_ns, self._bundle_id))
        self._health.count("embeddings", stamp_ns)
        if maps is not None:
            self._maps.publish(image, maps, stamp_ns, self._preprocess)


def main() -> None:
    run("perception_node", PerceptionNode)
