"""The simulated graph with the scripted expert: camera to truth to teleop to arm, real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ros.conftest import enable
from visarl.ros import qos
from visarl.ros.client import ClientError, GraphClient
from visarl.ros.graph import GraphOptions, graph
from visarl.ros.stranger import StrangerError, refuse_strangers
from visarl.ros.supervisor import Supervisor

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def client(domain: int) -> Iterator[GraphClient]:
    options = GraphOptions(domain=domain)
    with Supervisor(graph("teleop", options)) as supervisor, GraphClient(options, supervisor.check) as client:
        client.wait_ready()
        client.subscribe(qos.EXECUTED)
        client.subscribe(qos.IMAGE)
        client.subscribe(qos.DIAGNOSTICS)
        yield client


def sources(client: GraphClient, topic: qos.Topic) -> set[str]:
    """Who drives, by every message of `topic` from now on: a set-point that expires between two frames is no end."""
    seen: set[str] = set()
    client.subscribe(topic, lambda message: seen.add(message.source))
    return seen


def test_the_expert_picks_the_block_through_the_graph(client: GraphClient) -> None:
    observed: list[int] = []
    client.subscribe(qos.EXECUTED, lambda m: observed.append(m.observed.sec) if m.source == "teleop" else None)
    client.reset("pick_red_block", 4)
    states = sources(client, qos.ARM_STATE)
    client.teleop(True)
    try:
        client.wait_for(lambda: client.truth.success, 150.0, "the block in the hand")
        client.wait_for(lambda: observed and "teleop" in states, 30.0, "the expert's commands at the arm")
        assert min(observed) > 0
    finally:
        client.teleop(False)
    client.wait_for(lambda: client.state.source == "none", 30.0, "the arm to rest after the hands came off")


def test_the_verb_gives_the_demonstrator_the_arm_and_finds_no_policy(client: GraphClient, domain: int) -> None:
    client.reset("pick_red_block", 5)
    opened = enable("teleop", domain)
    assert opened.returncode == 0 and opened.stdout.startswith("teleop enabled: the demonstrator drives; `"), opened
    assert client.state.source == "teleop"
    assert enable("teleop", domain, "--off").stdout == "teleop disabled: nobody drives\n"
    refused = enable("policy", domain)
    assert refused.returncode == 1 and "no policy runs in this graph" in refused.stderr, refused
    assert "`visarl up sim --bundle" in refused.stderr and not client.state.policy_enabled
    client.stop()
    try:  # it may, but a stopped arm follows nobody
        refused = enable("teleop", domain)
        assert refused.returncode == 1 and "no command of it, 10 s later: asked for by arm/stop" in refused.stderr
    finally:
        client.teleop(False)
        client.clear()


def test_the_camera_streams_what_the_contract_says(client: GraphClient) -> None:
    client.wait_for(lambda: client.newest(qos.IMAGE) is not None, 30.0, "a frame")
    image = client.newest(qos.IMAGE)
    assert (image.width, image.height, image.encoding) == (640, 480, "rgb8")


def test_a_scene_shows_after_a_reset_and_the_task_can_change(client: GraphClient) -> None:
    client.reset("pick_apple", 11)
    assert client.truth.names == ["effector", "object"] and not client.truth.success_ever
    with pytest.raises(ClientError, match="pick_apple"):
        client.reset("pick_aple", 1)


def test_a_stop_holds_against_the_demonstrator_until_cleared(client: GraphClient) -> None:
    client.reset("pick_red_block", 5)
    driving = sources(client, qos.EXECUTED)
    client.teleop(True)
    client.wait_for(lambda: "teleop" in driving, 30.0, "the expert to drive")
    client.stop()
    client.wait_for(lambda: client.state.mode == client.state.STOPPED, 30.0, "the stop")
    assert client.state.source == "none"
    with pytest.raises(ClientError, match="stopped"):
        client.enable()
    client.teleop(False)
    client.clear()
    client.wait_for(lambda: client.state.mode == client.state.READY, 30.0, "the clear")


def test_every_node_reports_its_health(client: GraphClient) -> None:
    heard: dict[str, str] = {}
    client.subscribe(qos.DIAGNOSTICS, lambda m: heard.update({s.name: s.message for s in m.status}))
    wanted = {"arm_node", "camera_node", "teleop_node", "watchdog_node"}
    client.wait_for(lambda: wanted <= set(heard), 30.0, "diagnostics of all nodes")


def test_a_second_graph_in_the_domain_is_noticed(client: GraphClient, domain: int) -> None:
    with pytest.raises(StrangerError, match=f"domain {domain}.*--domain"):
        refuse_strangers(GraphOptions(domain=domain))
