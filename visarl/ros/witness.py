"""Watches a running graph episode by episode, and keeps what a report needs."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl import trace
from visarl.report import EpisodeRecord, Look
from visarl.ros import qos
from visarl.ros.client import GraphClient
from visarl.ros.convert import from_time, image_to_array, stamp_of
from visarl.ros.pacing import Pacer

COMMAND = 7
"""Numbers of an executed command: ArmAction's twist and its gripper speed."""

WAITING = 10
"""Camera frames that may wait while this process is busy: what is counted is the transport's loss, not its own."""


class Witness:
    """Subscribes to `client`'s graph. `pictures` costs the machine a JPEG a camera frame; benchmarks go without.

    Its frames are those of `camera/image_raw` that arrive here: whole pictures, best effort, over the transport that
    the perception gets them by. Smaller or reliable messages would arrive where a picture is lost.
    """

    def __init__(self, client: GraphClient, pictures: bool = True, control_rate_hz: float = 10.0) -> None:
        self._lock = threading.Lock()
        self._watching = False
        self._control_rate_hz = control_rate_hz
        self._clear()
        client.subscribe(qos.EXECUTED, self._on_executed)
        qos.subscribe(client.node, qos.IMAGE, self._on_frame, depth=WAITING, raw=True)
        if pictures:
            client.subscribe(qos.COMPRESSED, self._on_picture)
            client.subscribe(qos.SALIENCY, self._on_maps)

    def _clear(self) -> None:
        self._executed: list[trace.Executed] = []
        self._frames: list[int] = []
        self._pictures: dict[int, bytes] = {}
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._began_ns = time.time_ns()

    def _on_executed(self, message: Any) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        command = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z, message.gripper)
        item = trace.Executed(from_time(message.header.stamp), from_time(message.observed), message.source, command)
        with self._lock:
            if self._watching:
                self._executed.append(item)

    def _on_frame(self, message: bytes) -> None:
        stamp_ns = stamp_of(message)
        with self._lock:
            if self._watching:
                self._frames.append(stamp_ns)

    def _on_picture(self, message: Any) -> None:
        with self._lock:
            if self._watching:
                self._pictures[from_time(message.header.stamp)] = bytes(message.data)

    def _on_maps(self, message: Any) -> None:
        maps = np.moveaxis(image_to_array(message), -1, 0)
        small = np.clip(maps * 255, 0, 255).astype(np.uint8)
        with self._lock:
            if self._watching:
                self._maps[from_time(message.header.stamp)] = small

    def begin(self) -> None:
        """An episode begins now."""
        with self._lock:
            self._clear()
            self._watching = True

    def end(self, seed: int, success: bool) -> EpisodeRecord:
        """The episode ends now; what was seen of it."""
        with self._lock:
            self._watching = False
            began_ns, ended_ns = self._began_ns, time.time_ns()
            executed = trace.since(self._executed, began_ns)
            frames = [stamp_ns for stamp_ns in self._frames if stamp_ns >= began_ns]
            looks = self._looks()
        found = trace.answers(executed)
        return EpisodeRecord(
            seed=seed,
            success=success,
            seconds=(ended_ns - began_ns) / 1e9,
            times_s=np.array([(item.stamp_ns - began_ns) / 1e9 for item in executed]),
            commands=np.array([item.command for item in executed]).reshape(len(executed), COMMAND),
            latency_ms=trace.latency_ms(found),
            rate_hz=trace.rate_hz(found),
            frames=len(frames),
            dropped=trace.missing(frames, began_ns, ended_ns),
            looks=looks,
        )

    def _looks(self) -> list[Look]:
        """Pictures with their maps; without saliency in the graph, pictures at the control rate."""
        nothing = np.zeros((0, 1, 1), np.uint8)
        if self._maps:
            stamps = sorted(self._maps.keys() & self._pictures.keys())
        else:
            pacer = Pacer(self._control_rate_hz)
            stamps = [stamp for stamp in sorted(self._pictures) if pacer.accept(stamp)]
        return [
            Look((stamp - self._began_ns) / 1e9, self._pictures[stamp], self._maps.get(stamp, nothing))
            for stamp in stamps
        ]
