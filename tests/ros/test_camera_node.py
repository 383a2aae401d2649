"""camera_node as a process: a video file and a folder of pictures onto real topics, and a source that vanishes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.ros.conftest import wait_until
from visarl.ros import convert, qos
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions, NodeSpec, environment
from visarl.ros.supervisor import GraphError, Supervisor

pytestmark = pytest.mark.ros

PICTURES = 90


def picture(index: int) -> np.ndarray:
    """(480, 640, 3) uint8, one grey that tells which it is."""
    return np.full((480, 640, 3), 40 + 2 * index, np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for index in range(PICTURES):
        cv2.imwrite(str(path / f"{index:04d}.png"), picture(index))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "bench.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (640, 480))
    for index in range(PICTURES):
        writer.write(picture(index))
    writer.release()
    return path


class Seen:
    """Greys and stamps of the pictures that arrived."""

    def __init__(self) -> None:
        self.greys: list[int] = []
        self.stamps: list[int] = []
        self.shapes: set[tuple[int, ...]] = set()

    def add(self, message: Any) -> None:
        image = convert.image_to_rgb(message)
        self.shapes.add(image.shape)
        self.greys.append(int(image.mean()))
        self.stamps.append(convert.from_time(message.header.stamp))


@contextmanager
def camera(source: Path, domain: int, rate_hz: float) -> Iterator[tuple[Supervisor, GraphClient, Seen]]:
    options, seen = GraphOptions(domain=domain), Seen()
    parameters = {"source": str(source), "rate_hz": rate_hz}
    spec = NodeSpec("visarl_perception", "camera_node", parameters, environment(options))
    with GraphClient(options) as client:  # first: it waits for the pictures, not they for it
        client.subscribe(qos.IMAGE, seen.add)
        with Supervisor([spec], say=None) as supervisor:
            yield supervisor, client, seen


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_file_is_shown_in_its_order_and_its_end_is_told(kind: str, domain: int, request: Any) -> None:
    # Slowly: on a busy machine the subscriber may need many seconds to find the camera, which does not wait for it.
    with camera(request.getfixturevalue(kind), domain, rate_hz=3.0) as (supervisor, _, seen):
        with pytest.raises(GraphError, match="camera_node ended .*no more frames"):
            _ended(supervisor, 180)
        assert len(seen.greys) > 10 and seen.shapes == {(480, 640, 3)}
        assert seen.stamps == sorted(seen.stamps) and len(set(seen.stamps)) == len(seen.stamps)
        # A JPEG's greys are off by one at most; the pictures differ by two.
        assert all(later > earlier for earlier, later in zip(seen.greys, seen.greys[1:], strict=False))


def test_a_source_that_vanishes_ends_the_node_with_a_sentence(folder: Path, domain: int, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    pictures = sorted(folder.iterdir())
    for index in range(600):  # a minute of them: they must not be over before the first is seen
        os.link(pictures[index % len(pictures)], taken / f"{index:04d}.png")
    with camera(taken, domain, rate_hz=10.0) as (supervisor, _, seen):
        wait_until(lambda: len(seen.greys) >= 3, 60, "the first pictures")
        for path in taken.iterdir():
            path.unlink()
        with pytest.raises(GraphError) as caught:
            _ended(supervisor, 120)
    assert str(taken) in str(caught.value) and ".png" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def _ended(supervisor: Supervisor, seconds: float) -> None:
    """Raises GraphError with the node's own reason once it has ended."""
    limit = threading.Timer(seconds, supervisor.stop)
    limit.start()
    try:
        supervisor.wait()
    finally:
        limit.cancel()
