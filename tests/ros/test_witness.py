"""What a report says of a run's frames and commands, from real messages."""

from __future__ import annotations

import time

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from visarl_msgs.msg import ArmAction

from tests.ros.conftest import wait_until
from visarl.ros import convert, qos
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions
from visarl.ros.witness import Witness

pytestmark = pytest.mark.ros

PERIOD_NS = round(1e9 / 30)


def picture(stamp_ns: int) -> object:
    return convert.array_to_image(np.zeros((480, 640, 3), np.uint8), "rgb8", stamp_ns, "camera")


def test_a_stamp_is_read_from_the_bytes() -> None:
    assert convert.stamp_of(serialize_message(picture(1_700_000_000_123_456_789))) == 1_700_000_000_123_456_789


def test_an_episode_in_which_nothing_came_is_told_too(domain: int) -> None:
    with GraphClient(GraphOptions(domain=domain)) as client:
        witness = Witness(client)
        witness.begin()
        record = witness.end(seed=1, success=False)
    assert record.frames == 0 and record.commands.shape == (0, 7) and record.looks == []


def test_pictures_and_commands_of_the_graph_arrive(domain: int) -> None:
    with GraphClient(GraphOptions(domain=domain)) as client:
        images, executed = qos.publisher(client.node, qos.IMAGE), qos.publisher(client.node, qos.EXECUTED)
        witness = Witness(client, pictures=False)
        witness.begin()

        def seen() -> bool:
            images.publish(picture(convert.now_ns()))
            executed.publish(ArmAction(source="policy"))
            return bool(witness._frames and witness._executed)

        wait_until(seen, 60, "a picture and a command")


def test_lost_pictures_and_answers_to_the_scene_before_are_told(domain: int) -> None:
    # Handed over as DDS hands them over, one by one: which of a stream of pictures arrive is the machine's business.
    with GraphClient(GraphOptions(domain=domain)) as client:
        witness = Witness(client, pictures=False)
        witness.begin()
        began_ns = time.time_ns()

        def command(observed_ns: int) -> None:
            message = ArmAction(source="policy", observed=convert.to_time(observed_ns))
            message.header.stamp = convert.to_time(convert.now_ns())
            witness._on_executed(message)

        command(began_ns - PERIOD_NS)  # sent in the episode, seen before it
        for index in range(30):
            stamp_ns = began_ns + index * PERIOD_NS
            wait_until(lambda due=stamp_ns: time.time_ns() >= due, 5, "the frame's time")
            if not 10 <= index < 15:
                witness._on_frame(serialize_message(picture(stamp_ns)))
            if index == 20:
                command(stamp_ns)
        record = witness.end(seed=1, success=False)
    assert record.frames == 25
    assert record.dropped >= 5  # a busy machine may end late
    assert len(record.latency_ms) == 1 and record.latency_ms[0] >= 0
