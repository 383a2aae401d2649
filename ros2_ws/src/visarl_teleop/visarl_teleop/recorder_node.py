"""recorder_node: the running graph into one bag an episode. Messages are written as they came, undecoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from visarl_msgs.msg import Episode

from visarl.data.bag_writer import FLUSH_S
from visarl.data.rates import as_table
from visarl.data.recorder import NEEDED, Recorder, summary
from visarl.errors import DataError, VisarlError
from visarl.ros import qos
from visarl.ros.convert import now_ns, to_time
from visarl.ros.health import Health
from visarl.ros.params import declare, parameter
from visarl.ros.process import run

NAME = "recorder_node"
QUEUE = 60  # messages of a topic that may wait here while the disk is slow: two seconds of pictures


@dataclass(frozen=True)
class Options:
    root: str = parameter("runs/recordings", "receives one bag folder an episode")
    models: bool = parameter(False, "also record saliency maps and embeddings")
    min_free_mb: int = parameter(500, "refuse to start with less room than this [MB]", 0, 1_000_000)


class RecorderNode(Node):
    """Services recorder/start, pause (and go on), stop, discard, label; markers on `episode`."""

    def __init__(self) -> None:
        super().__init__(NAME)
        options = declare(self, Options)
        self._recorder = Recorder(Path(options.root), options.models, options.min_free_mb * 1_000_000)
        self._health = Health(self)  # tells on /diagnostics that the recorder lives
        self._markers = qos.publisher(self, qos.EPISODE)
        for name in self._recorder.topics:
            self._listen(qos.TOPICS[name])
        for call in (self._start, self._pause, self._stop, self._discard, self._label):
            qos.serve(self, f"recorder/{call.__name__.strip('_')}", self._answer(call))
        self.create_timer(FLUSH_S, lambda: self._guard(self._recorder.flush))
        if unfinished := self._recorder.unfinished():
            self.get_logger().warning(f"unfinished: {', '.join(unfinished)}; `visarl convert --recover` repairs them")

    def _listen(self, topic: qos.Topic) -> None:
        # Volatile: the markers of earlier episodes are no part of this one.
        deep = QoSProfile(reliability=topic.qos.reliability, durability=DurabilityPolicy.VOLATILE, depth=QUEUE)

        def keep(data: bytes) -> None:
            if topic is qos.EPISODE and deserialize_message(data, Episode).header.frame_id == NAME:
                return  # written when it was made
            self._guard(lambda: self._recorder.write(topic.name, data, now_ns()))

        self.create_subscription(topic.type, topic.name, keep, deep, raw=True)

    def _guard(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except (DataError, OSError) as error:  # the recorder has stopped itself, once; the graph goes on
            self._health.refuse("recording", str(error))
            self._mark("stop", note=str(error))

    def _mark(self, event: str, episode: str = "", label: str = "", note: str = "") -> None:
        marker = Episode(event=event, episode=episode or self._recorder.episode, label=label, note=note)
        marker.task, marker.header.frame_id, marker.header.stamp = self._recorder.task, NAME, to_time(now_ns())
        self._guard(lambda: self._recorder.write(qos.EPISODE.name, serialize_message(marker), now_ns()))
        self._markers.publish(marker)

    def _answer(self, call: Callable[[Any, Any], str]) -> Callable[[Any, Any], Any]:
        def answer(request: Any, response: Any) -> Any:
            try:
                response.success, response.message = True, call(request, response)
            except (VisarlError, OSError) as error:  # OSError: the disk is gone, or someone removed the folder
                response.success, response.message = False, str(error)
                self.get_logger().error(str(error))
            return response

        return answer

    def _start(self, request: Any, response: Any) -> str:
        if silent := [name for name in NEEDED if not self.count_publishers(name)]:
            raise DataError(f"nobody publishes {', '.join(silent)}; start the camera and the arm first")
        response.episode = self._recorder.start(request.task)
        self._mark("start")
        return f"recording {response.episode}"

    def _pause(self, request: Any, response: Any) -> str:
        self._mark("pause" if (state := self._recorder.pause()) == "paused" else "resume")
        return state

    def _stop(self, request: Any, response: Any) -> str:
        if self._recorder.state != "idle":
            self._mark("stop")
        path, report = self._recorder.stop()
        self.get_logger().info(f"{self._recorder.episode}:\n{as_table(report)}")
        return f"{path}: {summary(report)}"

    def _discard(self, request: Any, response: Any) -> str:
        episode = self._recorder.discard()
        self._mark("discard")
        return f"{episode} deleted"

    def _label(self, request: Any, response: Any) -> str:
        episode = self._recorder.label(request.label, request.episode)
        self._mark("label", episode, request.label)
        return f"{episode} is a {request.label}"

    def close(self) -> None:
        self._guard(self._recorder.close)


def main() -> None:
    run(NAME, RecorderNode)
