"""The recorder's real process against real publishers: what is on the disk afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from tests.conftest import running
from tests.ros.conftest import wait_until
from visarl.data.bag_writer import recover
from visarl.data.bags import ARM_STATE, EPISODE, IMAGE, Bag, bag_report, find_bags, read_bag
from visarl.data.labels import load_label
from visarl.data.recorder import TOPICS
from visarl.errors import ConfigError
from visarl.options import Record
from visarl.record import record
from visarl.ros.graph import GraphOptions, NodeSpec, environment
from visarl.ros.stranger import free_domain
from visarl.ros.supervisor import GraphError, Supervisor
from visarl.ros.workspace import activate, child_environment

try:
    activate()
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

from sensor_msgs.msg import CompressedImage  # noqa: E402
from visarl_msgs.msg import ArmState  # noqa: E402

from visarl.ros import qos  # noqa: E402
from visarl.ros.client import ClientError, GraphClient  # noqa: E402
from visarl.ros.convert import now_ns, to_time  # noqa: E402

pytestmark = pytest.mark.ros

TASK = "pick_red_block"
DOMAIN = free_domain()
OPTIONS = GraphOptions(domain=DOMAIN)
READY_S = 120.0
_, JPEG = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))


class Robot:
    """A camera at 30 Hz and an arm at 60 Hz, as far as a recorder can tell; counts what it sent."""

    def __init__(self, client: GraphClient) -> None:
        self.images: list[int] = []
        self._frames = qos.publisher(client.node, qos.COMPRESSED)
        self._states = qos.publisher(client.node, qos.ARM_STATE)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        tick = 0
        while not self._closing.wait(1 / 60):
            stamp = now_ns()
            state = ArmState(arm="jaco2", position=[0.0] * 6, velocity=[0.0] * 6, fingers=[0.0] * 3)
            state.header.stamp = to_time(stamp)
            self._states.publish(state)
            if tick % 2 == 0:
                frame = CompressedImage(format="jpeg", data=JPEG.tobytes())
                frame.header.stamp = to_time(stamp)
                self.images.append(stamp)
                self._frames.publish(frame)
            tick += 1

    def run_for(self, client: GraphClient, frames: int) -> None:
        goal = len(self.images) + frames
        client.wait_for(lambda: len(self.images) >= goal, 120.0, f"{frames} frames")

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


@contextlib.contextmanager
def recorder(root: Path, said: list[str] | None = None, **parameters: object) -> Iterator[Supervisor]:
    spec = NodeSpec("visarl_teleop", "recorder_node", {"root": str(root), **parameters}, environment(OPTIONS))
    with Supervisor([spec], (said if said is not None else []).append) as supervisor:
        yield supervisor


@contextlib.contextmanager
def connected(supervisor: Supervisor, publish: bool = True) -> Iterator[tuple[GraphClient, Robot | None]]:
    with GraphClient(OPTIONS, alive=supervisor.check) as client:
        robot = Robot(client) if publish else None
        try:
            client.wait_for(lambda: client.node.count_publishers(EPISODE) > 0, READY_S, "the recorder")
            if publish:
                heard = client.node.count_subscribers
                client.wait_for(lambda: heard(IMAGE) >= 1, READY_S, "the recorder's ear for the camera")
                client.wait_for(lambda: heard(ARM_STATE) >= 2, READY_S, "the recorder's ear beside the client's")
            yield client, robot
        finally:
            if robot:
                robot.close()


def start(client: GraphClient) -> str:
    """Once the recorder has found the publishers, which may be after they have found it."""
    started: list[str] = []

    def accepted() -> bool:
        try:
            started.append(client.start_recording(TASK))
        except ClientError as error:
            if "nobody publishes" not in str(error):
                raise
        return bool(started)

    wait_until(accepted, READY_S, "the recorder to find the camera and the arm")
    return started[0]


def peer_counts(bag: Path) -> dict[str, int]:
    """Messages a topic as another project's reader decodes them, those without any left out."""
    (path,) = bag.glob("*.mcap")
    with path.open("rb") as stream:
        decoded = make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
        return Counter(channel.topic.strip("/") for _, channel, _, message in decoded if message is not None)


def our_counts(bag: Path) -> dict[str, int]:
    return {report.topic: report.count for report in bag_report(bag) if report.count}


def test_an_episode_from_start_to_label(tmp_path: Path) -> None:
    markers = []
    with recorder(tmp_path) as supervisor, connected(supervisor) as (client, robot):
        assert robot is not None
        with pytest.raises(ClientError, match="nothing is being recorded"):
            client.stop_recording()
        episode = start(client)
        first = len(robot.images)
        robot.run_for(client, 45)
        with pytest.raises(ClientError, match=f"already recording {episode}"):
            client.start_recording(TASK)
        last = len(robot.images)
        robot.run_for(client, 5)
        answer = client.stop_recording()
        client.label_recording("success")
        with pytest.raises(ClientError, match="found 'perfect'"):
            client.label_recording("perfect")
        # Only now: markers are kept for those who come late.
        client.subscribe(qos.EPISODE, markers.append)
        client.wait_for(lambda: len(markers) >= 3, 60.0, "the markers")

    assert [(marker.event, marker.episode) for marker in markers[:3]] == [
        ("start", episode), ("stop", episode), ("label", episode)
    ]  # fmt: skip
    bag = tmp_path / episode
    assert episode in answer and "Hz" in answer and find_bags(tmp_path) == [bag]
    assert load_label(bag).label == "success"
    with Bag(bag) as opened:
        assert opened.topics == TOPICS
    kept = {stamp for _, stamp, _ in read_bag(bag, [IMAGE])}
    sent = robot.images[first + 1 : last]
    # What the bag has is what was sent. Best effort on a busy machine may lose some of it.
    print(f"{len(kept & set(sent))} of {len(sent)} pictures were kept")
    assert kept <= set(robot.images) and len(kept & set(sent)) >= 0.5 * len(sent)
    assert [message.event for _, _, message in read_bag(bag, [EPISODE])] == ["start", "stop"]
    counts = our_counts(bag)
    assert counts[IMAGE] == len(kept) and counts[ARM_STATE] > 40 and counts[EPISODE] == 2
    assert peer_counts(bag) == counts


def test_nothing_to_record_is_refused_at_the_start(tmp_path: Path) -> None:
    refusal = pytest.raises(ClientError, match=f"nobody publishes {IMAGE}, {ARM_STATE}")
    with recorder(tmp_path) as supervisor, connected(supervisor, publish=False) as (client, _), refusal:
        client.start_recording(TASK)
    assert not list(tmp_path.iterdir())


def test_pause_and_discard(tmp_path: Path) -> None:
    with recorder(tmp_path) as supervisor, connected(supervisor) as (client, robot):
        assert robot is not None
        start(client)
        robot.run_for(client, 5)
        client.discard_recording()
        assert not list(tmp_path.iterdir())
        episode = start(client)
        robot.run_for(client, 30)
        client.pause_recording()
        robot.run_for(client, 90)
        client.pause_recording()
        robot.run_for(client, 30)
        client.stop_recording()
    events = [message.event for _, _, message in read_bag(tmp_path / episode, [EPISODE])]
    assert events == ["start", "pause", "resume", "stop"]
    report = {topic.topic: topic for topic in bag_report(tmp_path / episode)}
    assert report[IMAGE].max_gap_ms > 400


def test_kill_9_while_recording(tmp_path: Path) -> None:
    """The file is recovered, with all but the last moment; the next recorder says that it is there."""
    with recorder(tmp_path) as supervisor, connected(supervisor) as (client, robot):
        assert robot is not None
        episode = start(client)
        robot.run_for(client, 90)
        killed = now_ns()
        os.kill(supervisor.pids["recorder_node"], signal.SIGKILL)
        with pytest.raises(GraphError, match="SIGKILL"):
            client.wait_for(lambda: False, 60.0, "the end")
    said: list[str] = []
    with recorder(tmp_path, said) as supervisor, connected(supervisor, publish=False) as (client, _):
        client.wait_for(lambda: any("unfinished" in line for line in said), 60.0, "the warning")
    assert any(f"{episode}.partial" in line and "visarl convert --recover" in line for line in said)

    found = recover(tmp_path / f"{episode}.partial")
    stamps = [stamp for _, stamp, _ in read_bag(found.path, [IMAGE])]
    print(f"kill -9 of the recorder left {len(stamps)} pictures and lost {(killed - stamps[-1]) / 1e9:.3f} s")
    assert len(stamps) > 30
    assert peer_counts(found.path) == our_counts(found.path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recorder_that_is_ended_finishes_its_bag(tmp_path: Path, number: signal.Signals) -> None:
    with recorder(tmp_path) as supervisor, connected(supervisor) as (client, robot):
        assert robot is not None
        episode = start(client)
        robot.run_for(client, 60)
        os.kill(supervisor.pids["recorder_node"], number)
        with pytest.raises(GraphError, match="exit status 0" if number == signal.SIGINT else "signal SIGTERM"):
            client.wait_for(lambda: False, 60.0, "the end")
    assert sum(1 for _ in read_bag(tmp_path / episode, [IMAGE])) >= 5
    assert load_label(tmp_path / episode).label == ""


def test_a_full_disk_ends_the_recording_and_not_the_recorder(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "visarl", str(disk)], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        refusal = pytest.raises(ClientError, match="MB free, expected at least 500")
        with recorder(disk) as supervisor, connected(supervisor) as (client, _), refusal:
            client.start_recording(TASK)
        markers = []
        with recorder(disk, min_free_mb=0) as supervisor, connected(supervisor) as (client, robot):
            assert robot is not None
            client.subscribe(qos.EPISODE, markers.append)
            episode = start(client)
            client.wait_for(lambda: any(m.event == "stop" for m in markers), 120.0, "the full disk")
            with pytest.raises(ClientError, match="nothing is being recorded"):
                client.stop_recording()
        assert "No space left on device" in markers[-1].note
        subprocess.run(["cp", "-r", str(disk / f"{episode}.partial"), str(tmp_path)], check=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert recover(tmp_path / f"{episode}.partial").messages > 20


@pytest.mark.timeout(900)
def test_record_is_interrupted_and_resumed(tmp_path: Path) -> None:
    """The whole graph: the expert demonstrates, a person presses Ctrl-C, and a second run does what is left."""
    command = ["record", "--out", str(tmp_path), "--task", TASK, "--episodes", "1", "--seed", "3"]
    words = [sys.executable, "-m", "visarl.cli", *command, "--domain", str(DOMAIN)]
    with running(words, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_until(
            lambda: list(tmp_path.glob("*.partial")) or process.poll() is not None, 300, "the first episode to begin"
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert [path.name for path in tmp_path.iterdir()] == ["graph.log"]  # half an episode teaches nothing

    wanted = Record(out=tmp_path, task=TASK, episodes=1, seed=3, domain=DOMAIN)
    first = record(wanted)
    assert first["episodes"] == 1 and first["image_hz"] > 0
    log = (tmp_path / "graph.log").read_bytes()
    again = record(wanted)
    assert again["attempts"] == first["attempts"] and again["episodes"] == 1
    assert (tmp_path / "graph.log").read_bytes() == log  # no graph was started
    bag = find_bags(tmp_path)[-1]
    assert load_label(bag).label == "success" and load_label(bag).seed == 2 + first["attempts"]


def test_evaluation_scenes_are_never_recorded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kept for validation and evaluation"):
        record(Record(out=tmp_path, task=TASK, episodes=5, seed=498))


def test_a_folder_that_vanishes_does_not_end_the_node(tmp_path: Path) -> None:
    with recorder(tmp_path) as supervisor, connected(supervisor) as (client, robot):
        assert robot is not None
        episode = start(client)
        shutil.rmtree(tmp_path / f"{episode}.partial")
        with pytest.raises(ClientError, match="recorder/discard"):
            client.discard_recording()
        assert start(client) != ""
        client.discard_recording()
