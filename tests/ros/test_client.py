"""What a tool hears of a graph that answers late, or of its own mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rclpy.task import Future
from std_srvs.srv import Trigger
from visarl_msgs.msg import SceneTruth

from visarl.ros import client as module
from visarl.ros import convert, qos
from visarl.ros.client import ClientError, GraphClient
from visarl.ros.graph import GraphOptions

pytestmark = pytest.mark.ros


class Server:
    """Stands in for a service: `answers` tells after how many requests which of them is answered."""

    def __init__(self, answers: dict[int, list[int]]) -> None:
        self.answers, self.asked = answers, []

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, request: Any) -> Future:
        self.asked.append(Future())
        for index in self.answers.get(len(self.asked), []):
            self.asked[index].set_result(Trigger.Response(success=True, message=f"answer {index}"))
        return self.asked[-1]


@pytest.fixture
def client(domain: int) -> Iterator[GraphClient]:
    with GraphClient(GraphOptions(domain=domain)) as client:
        yield client


def test_what_may_be_asked_twice_is_asked_again(client: GraphClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.AGAIN_S, "arm/stop", 0.1)
    server = client._clients["arm/stop"] = Server({3: [2]})  # the first two answers are lost
    assert client.call("arm/stop", Trigger.Request()).message == "answer 2"
    assert len(server.asked) == 3


def test_nothing_that_was_asked_happens_after_the_answer(client: GraphClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.AGAIN_S, "arm/stop", 0.1)
    server = client._clients["arm/stop"] = Server({2: [0]})  # slow: the second is still on its way
    with pytest.raises(ClientError, match="arm/stop: no answer within 1 s"):
        client.call("arm/stop", Trigger.Request(), timeout_s=1.0)
    assert len(server.asked) == 2  # it answers, and is left in peace


def test_what_may_happen_once_is_asked_once(client: GraphClient) -> None:
    server = client._clients["recorder/pause"] = Server({})
    with pytest.raises(ClientError, match="recorder/pause: no answer within 0.5 s"):
        client.call("recorder/pause", Trigger.Request(), timeout_s=0.5)
    assert len(server.asked) == 1


def test_a_callback_that_fails_is_told_to_whoever_waits(client: GraphClient) -> None:
    def wrong(message: Any) -> None:
        raise ZeroDivisionError("a mistake of ours")

    client.subscribe(qos.TRUTH, wrong)
    publisher = qos.publisher(client.node, qos.TRUTH)
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        client.wait_for(lambda: publisher.publish(SceneTruth()), 30.0, "the mistake")
    client._clients["arm/stop"] = Server({})
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        client.stop()


def test_a_frame_of_before_the_answer_is_not_the_new_scene(client: GraphClient) -> None:
    server = client._clients["sim/reset"] = Server({1: [0]})
    publisher = qos.publisher(client.node, qos.TRUTH)
    old = SceneTruth(task="pick_apple", seed=3)
    old.header.stamp = convert.to_time(convert.now_ns())
    client.wait_for(lambda: publisher.publish(old) or client.truth is not None, 30.0, "the frame")
    with pytest.raises(ClientError, match="the scene pick_apple with seed 3"):
        client.reset("pick_apple", 3, timeout_s=0.5)
    assert len(server.asked) == 1


def test_nobody_there_is_told_with_what_to_look_at(client: GraphClient) -> None:
    with pytest.raises(ClientError, match="waited 0.2 s for arm/state .*graph.log.*visarl check"):
        client.wait_ready(0.2)
