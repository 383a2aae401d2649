"""How the nodes of one process end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import running
from tests.ros.conftest import publishing
from visarl.errors import ArmError
from visarl.ros.graph import GraphOptions, environment
from visarl.ros.process import close
from visarl.ros.stranger import free_domain

pytestmark = pytest.mark.ros


class Ending:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.done = error, []

    def close(self) -> None:
        self.done.append("close")
        if self.error:
            raise self.error

    def destroy_node(self) -> None:
        self.done.append("destroy")


def test_a_node_that_cannot_close_keeps_no_other_from_it(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [Ending(ArmError("the cable is unplugged")), Ending(RuntimeError("torn")), Ending()]
    assert not close("sim_node", nodes)
    assert all(node.done == ["close", "destroy"] for node in nodes)
    said = capsys.readouterr().err
    assert "sim_node: error: Ending.close: ArmError: the cable is unplugged" in said and "torn" in said
    assert close("sim_node", [Ending()])


ENDS_BENEATH_A_CALL = """
import os, signal
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from std_msgs.msg import Header
from visarl.ros.process import run

def ended():
    os.kill(os.getpid(), signal.SIGTERM)
    while rclpy.ok():
        pass

def broken():
    raise rclpy_implementation.RCLError("no memory")

def make():
    node = rclpy.create_node("ending")

    def tick():
        {what}()
        node.create_publisher(Header, "ending", 1)

    node.create_timer(0.01, tick)
    node.close = lambda: print("closed", flush=True)
    return node

run("ending", make)
"""


@pytest.mark.parametrize(("what", "status", "said"), [("ended", 143, ""), ("broken", 1, "no memory")])
def test_a_context_that_a_signal_ends_beneath_a_call_is_a_clean_end(what: str, status: int, said: str) -> None:
    script = ENDS_BENEATH_A_CALL.format(what=what)
    alone = os.environ | environment(GraphOptions(domain=free_domain()))
    ended = subprocess.run([sys.executable, "-c", script], env=alone, capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stdout.strip()) == (status, "closed"), ended.stderr
    assert said in ended.stderr and (said or not ended.stderr)


def memberships() -> set[tuple[str, str]]:
    """(network device, multicast group) that somebody on this machine listens to."""
    found, device = set(), ""
    for line in Path("/proc/net/igmp").read_text().splitlines()[1:]:
        words = line.split()
        if line.startswith("\t"):
            found.add((device, words[0]))
        else:
            device = words[1]
    return found


@pytest.mark.skipif(
    "fastrtps" not in os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"), reason="the profile is Fast DDS's"
)
def test_a_graph_uses_the_loopback_alone() -> None:
    alone = os.environ | environment(GraphOptions(domain=free_domain()))
    before = memberships()
    with running(publishing("staying", "staying"), env=alone, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        sockets = psutil.Process(process.pid).net_connections("inet")
        joined = memberships() - before
    hosts = {item.laddr.ip for item in sockets}
    assert "127.0.0.1" in hosts and hosts <= {"127.0.0.1", "239.255.0.1"}, sockets  # the latter: DDS's discovery
    assert {device for device, _ in joined} <= {"lo"}, joined
