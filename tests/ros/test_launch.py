"""The launch files under ROS's own launch system, where there is one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import running
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions
from visarl.ros.stranger import free_domain
from visarl.ros.workspace import ROOT, child_environment

pytestmark = pytest.mark.ros
pytest.importorskip("launch_ros", reason="launch_ros is not importable here: only a ROS installation has it")

RUN = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [argument.split(":=") for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(
    IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
)
sys.exit(service.run())
"""


@contextmanager
def started(name: str, log: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    path = str(ROOT / "launch" / f"{name}.launch.py")
    environment = child_environment()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    words = [sys.executable, "-c", RUN, path, *arguments]
    with (
        log.open("w") as output,
        running(words, cwd=log.parent, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        yield process


@pytest.mark.parametrize(("name", "nodes"), [("sim", set()), ("teleop", {"teleop_node"})])
def test_nodes_and_topics_come_up_and_ctrl_c_ends_them_cleanly(name: str, nodes: set[str], tmp_path: Path) -> None:
    options = GraphOptions(domain=free_domain())
    with started(name, tmp_path / "log", f"domain:={options.domain}") as process:
        with GraphClient(options) as client:
            client.wait_ready()
            wanted = {"sim_node", "arm_node", "camera_node", "watchdog_node"} | nodes
            client.wait_for(lambda: wanted <= set(client.node.get_node_names()), 60.0, f"the nodes {wanted}")
            topics = {topic for topic, _ in client.node.get_topic_names_and_types()}
            assert {"/camera/image_raw", "/arm/state", "/arm/executed", "/sim/truth"} <= topics
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert said.count("process has finished cleanly") == said.count("process started with pid")


def test_a_second_launch_in_the_domain_is_refused(tmp_path: Path) -> None:
    options = GraphOptions(domain=free_domain())
    with started("sim", tmp_path / "log", f"domain:={options.domain}"):
        with GraphClient(options) as client:
            client.wait_ready()
        with started("sim", tmp_path / "second", f"domain:={options.domain}") as second:
            assert second.wait(120) != 0
        assert f"another graph runs in ROS domain {options.domain}" in (tmp_path / "second").read_text()


def test_a_dying_node_fails_the_launch_with_its_reason(tmp_path: Path) -> None:
    with started("sim", tmp_path / "log", f"domain:={free_domain()}", "task:=pick_aple") as process:
        assert process.wait(120) != 0
    said = (tmp_path / "log").read_text()
    assert "did you mean 'pick_apple'" in said and "sim_node ended (exit status 1)" in said


def test_the_real_graph_says_which_part_is_missing(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "0.png"), np.zeros((480, 640, 3), np.uint8))
    arguments = (f"domain:={free_domain()}", f"camera:={pictures}", "arm:=kortex", "address:=127.0.0.1")
    with started("real", tmp_path / "log", *arguments) as process:
        assert process.wait(120) != 0
    said = (tmp_path / "log").read_text()
    assert "kortex" in said and "arm_node ended (exit status 1)" in said and "Traceback" not in said
