"""The whole graph with a bundle: camera, saliency, encoder, policy and arm as processes; and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from visarl_msgs.msg import ArmAction, Embedding

from tests.ros.conftest import enable, wait_until
from visarl.bundle import load_bundle
from visarl.ros import convert, qos
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions, graph
from visarl.ros.supervisor import Supervisor

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module", params=[False, True], ids=["two processes", "fused"])
def client(request: pytest.FixtureRequest, domain: int, bundle: Path) -> Iterator[GraphClient]:
    options = GraphOptions(bundle=bundle, domain=domain, fused=request.param, engine="torch")
    with Supervisor(graph("sim", options)) as supervisor, GraphClient(options, supervisor.check) as client:
        client.wait_ready(perception=True)
        client.subscribe(qos.EXECUTED)
        client.subscribe(qos.SALIENCY)
        yield client


def complaints(client: GraphClient, node: str) -> list[str]:
    said: list[str] = []
    client.subscribe(qos.DIAGNOSTICS, lambda m: said.extend(s.message for s in m.status if s.name == node))
    return said


def driving(client: GraphClient) -> list[ArmAction]:
    """Every command of a policy that the arm executes from now on."""
    executed: list[ArmAction] = []
    client.subscribe(qos.EXECUTED, lambda m: executed.append(m) if m.bundle else None)
    return executed


def test_frames_become_motion_only_while_the_gate_is_open(client: GraphClient, bundle: Path) -> None:
    driven = driving(client)
    client.reset("pick_red_block", 1000)
    assert not driven
    client.enable()
    try:
        client.wait_for(lambda: driven, 120.0, "the policy to drive")
    finally:
        client.enable(False)
    client.wait_for(lambda: client.state.source == "none", 30.0, "the arm to rest")
    first = driven[0]
    assert first.source == "policy" and first.bundle == load_bundle(bundle).id
    # Of a frame that it can have seen; the arm refuses old ones, and how old they are is measured in bench/.
    assert 0 < convert.from_time(first.observed) < convert.from_time(first.header.stamp)


def test_frames_from_before_the_gate_opened_are_not_acted_on(client: GraphClient) -> None:
    driven = driving(client)
    for _ in range(5):
        asked_ns = convert.now_ns()

        def answered(since_ns: int = asked_ns) -> list[int]:
            """Stamps of the frames that were acted on since: what was executed before may still be on its way here."""
            return [convert.from_time(m.observed) for m in driven if convert.from_time(m.header.stamp) >= since_ns]

        client.enable()
        client.wait_for(answered, 60.0, "the policy to drive")
        client.enable(False)
        client.wait_for(lambda: client.state.source == "none", 30.0, "the arm to rest")
        assert min(answered()) >= asked_ns


def test_a_new_scene_closes_the_gate(client: GraphClient) -> None:
    client.enable()
    client.reset("pick_red_block", 1001)
    client.wait_for(lambda: not client.state.policy_enabled, 30.0, "the gate to close")


def test_the_verb_opens_and_closes_the_gate(client: GraphClient, domain: int) -> None:
    opened = enable("policy", domain)
    hint = f"`visarl enable policy --off --domain {domain}` takes it away"
    assert (opened.returncode, opened.stdout) == (0, f"policy enabled: the policy drives; {hint}\n"), opened
    client.wait_for(lambda: client.state.policy_enabled, 30.0, "the open gate")
    assert enable("policy", domain, "--off").stdout == "policy disabled: nobody drives\n"
    client.wait_for(lambda: not client.state.policy_enabled, 30.0, "the closed gate")


def test_the_verb_finds_no_demonstrator_here(client: GraphClient, domain: int) -> None:
    result = enable("teleop", domain)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "no demonstrator runs in this graph" in result.stderr and "`visarl up teleop`" in result.stderr


def test_derived_topics_carry_the_cameras_stamp(client: GraphClient) -> None:
    frames: set[int] = set()
    client.subscribe(qos.TRUTH, lambda m: frames.add(convert.from_time(m.header.stamp)))
    client.wait_for(lambda: len(frames) > 5, 60.0, "frames")

    def matched() -> bool:
        return all(
            client.newest(topic) is not None and convert.from_time(client.newest(topic).header.stamp) in frames
            for topic in (qos.EMBEDDING, qos.SALIENCY)
        )

    client.wait_for(matched, 60.0, "an embedding and maps of a known frame")
    maps = convert.image_to_array(client.newest(qos.SALIENCY))
    assert maps.shape[2] == 2 and maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize("wrong", ["nan", "foreign", "short"])
def test_an_embedding_that_cannot_be_right_is_refused(client: GraphClient, bundle: Path, wrong: str) -> None:
    made = load_bundle(bundle)
    size = len(made.normalisation.embedding_mean)
    data = np.full(size, np.nan if wrong == "nan" else 0.0, np.float32)[: size - 1 if wrong == "short" else size]
    identity = "another" if wrong == "foreign" else made.id
    publisher = qos.publisher(client.node, qos.EMBEDDING)
    said = complaints(client, "policy_node")
    expected = {"nan": "NaN", "foreign": "'another'", "short": f"({size - 1},)"}[wrong]
    client.enable()
    try:

        def refused() -> bool:
            message = Embedding(data=data.tolist(), bundle=identity)
            message.header.stamp = convert.to_time(convert.now_ns())
            publisher.publish(message)
            return any(expected in text for text in said)

        wait_until(refused, 60.0, f"the policy to refuse it for {expected}")
    finally:
        client.enable(False)
        client.node.destroy_publisher(publisher)


@pytest.mark.parametrize("wrong", ["size", "encoding"])
def test_a_frame_of_another_kind_is_refused_and_the_node_lives(client: GraphClient, wrong: str) -> None:
    publisher = qos.publisher(client.node, qos.IMAGE)
    names = client.node.get_node_names()
    said = complaints(client, "perception_node" if "perception_node" in names else "saliency_node")
    picture = np.zeros((480, 480, 3) if wrong == "size" else (480, 640, 3), np.uint8)

    def refused() -> bool:
        message = convert.array_to_image(picture, "rgb8", convert.now_ns(), "camera")
        if wrong == "encoding":
            message.encoding = "bayer_rggb8"
        publisher.publish(message)
        return any(("480x480" if wrong == "size" else "bayer_rggb8") in text for text in said)

    wait_until(refused, 60.0, "the frame to be refused")
    client.node.destroy_publisher(publisher)
    client._newest.pop(qos.EMBEDDING.name)
    client.wait_for(lambda: client.newest(qos.EMBEDDING) is not None, 60.0, "embeddings to go on")


def test_a_command_of_another_bundle_does_not_reach_the_arm(client: GraphClient) -> None:
    publisher = qos.publisher(client.node, qos.POLICY_ACTION)
    said = complaints(client, "arm_node")
    sequence = 10**6

    def refused() -> bool:
        nonlocal sequence
        sequence += 1
        now = convert.now_ns()
        message = ArmAction(sequence=sequence, source="policy", bundle="another", observed=convert.to_time(now))
        message.header.stamp, message.header.frame_id = convert.to_time(now), "base_link"
        message.twist.linear.x = 0.1
        publisher.publish(message)
        return any("'another'" in text for text in said)

    wait_until(refused, 60.0, "the arm to refuse it")
    assert client.state.source == "none"
    client.node.destroy_publisher(publisher)
