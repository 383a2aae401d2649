"""One image between two processes: its age when it arrives, with the DDS settings that the graph ships and without."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visarl.contract import CAMERA_HEIGHT, CAMERA_RATE_HZ, CAMERA_WIDTH
from visarl.errors import VisarlError
from visarl.timing import summary

DEFAULT = Path(__file__).with_name("fastdds_default.xml")
"""Fast DDS's default transports, on the loopback alone."""

FRAMES = 240
WARM_UP = 30
"""First frames that do not count: discovery and the first touch of every buffer."""
LIMIT_S = 30.0
SILENCE_S = 2.0
"""So long after the last frame the listener gives up: best effort may lose any frame, the last one too."""


@dataclass(frozen=True)
class Hop:
    """What a listener saw of the frames that count."""

    ages_ms: list[float]
    arrived: float
    """Share of the frames that were sent."""

    def figures(self) -> dict[str, float | None]:
        """The ages' percentiles and the share that arrived."""
        return {**summary(self.ages_ms), "arrived": round(self.arrived, 3)}


def talk(frames: int) -> None:
    """Publish `frames` numbered pictures at the camera's rate once a listener has appeared."""
    import rclpy

    from visarl.ros import qos
    from visarl.ros.convert import array_to_image, now_ns

    rclpy.init()
    node = rclpy.create_node("bench_talker")
    publisher = qos.publisher(node, qos.IMAGE)
    picture = np.random.default_rng(0).integers(0, 256, (CAMERA_HEIGHT, CAMERA_WIDTH, 3), dtype=np.uint8)
    end = time.monotonic() + LIMIT_S
    while publisher.get_subscription_count() == 0:
        if time.monotonic() > end:
            raise VisarlError(f"hop: no listener within {LIMIT_S:g} s; does another program hold this ROS domain?")
        time.sleep(0.05)
    due = time.monotonic()
    for index in range(frames):
        due += 1 / CAMERA_RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        publisher.publish(array_to_image(picture, "rgb8", now_ns(), str(index)))
    node.destroy_node()
    rclpy.shutdown()


def listen(frames: int) -> None:
    """Print (number, age in ms) of each picture that arrives as one line of JSON."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from visarl.ros import qos
    from visarl.ros.convert import from_time, image_to_array, now_ns

    rclpy.init()
    node = rclpy.create_node("bench_listener")
    seen: list[tuple[int, float]] = []

    def arrived(message: Any) -> None:
        image_to_array(message)
        seen.append((int(message.header.frame_id), (now_ns() - from_time(message.header.stamp)) / 1e6))

    qos.subscribe(node, qos.IMAGE, arrived)
    executor = SingleThreadedExecutor()  # as in every node of the graph
    executor.add_node(node)
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and not (seen and seen[-1][0] == frames - 1):
        before = len(seen)
        executor.spin_once(timeout_sec=0.1)
        if len(seen) > before:
            end = time.monotonic() + max(SILENCE_S, (frames - seen[-1][0]) / CAMERA_RATE_HZ)
    print(json.dumps(seen))
    node.destroy_node()
    rclpy.shutdown()


def measure(environment: dict[str, str], frames: int = FRAMES) -> Hop:
    """Send `frames` pictures between two processes with this environment."""
    command = [sys.executable, "-m", "bench.hop"]
    count = str(WARM_UP + frames)
    listener = subprocess.Popen([*command, "listen", count], env=environment, stdout=subprocess.PIPE, text=True)
    talker = subprocess.Popen([*command, "talk", count], env=environment)
    try:
        output, _ = listener.communicate(timeout=3 * LIMIT_S)
        sent = talker.poll() == 0
    finally:
        for process in (listener, talker):
            process.terminate()
            process.wait()
    if listener.returncode:
        raise VisarlError(f"hop: the listener ended with status {listener.returncode}; `visarl check` looks at ROS")
    if not sent and not json.loads(output.strip().splitlines()[-1]):
        raise VisarlError("hop: the two processes did not find each other, so that nothing was sent")
    seen = [(number, age) for number, age in json.loads(output.strip().splitlines()[-1]) if number >= WARM_UP]
    return Hop([float(age) for _, age in seen], len(seen) / frames)


def environments(domain: int) -> dict[str, dict[str, str]]:
    """The processes' environment with the DDS settings that every graph gets, and with Fast DDS's own.

    The latter has neither a discovery range, which would replace the transports, nor any setting of theirs; its profile
    only keeps the default ones off the network.
    """
    from visarl.ros.graph import PROFILE, GraphOptions, environment
    from visarl.ros.workspace import child_environment

    shipped = child_environment() | environment(GraphOptions(domain=domain))
    default = {key: str(DEFAULT) if value == str(PROFILE) else value for key, value in shipped.items()}
    for key in ("FASTDDS_BUILTIN_TRANSPORTS", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"):
        default.pop(key, None)
    return {"shipped": shipped, "default": default}


if __name__ == "__main__":
    from visarl.ros.workspace import activate

    activate()
    {"talk": talk, "listen": listen}[sys.argv[1]](int(sys.argv[2]))
