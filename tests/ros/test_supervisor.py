"""How a graph ends: Ctrl-C, a dying node, a killed supervisor, a hung arm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.ros.conftest import wait_until
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions, NodeSpec, environment, graph
from visarl.ros.stranger import free_domain
from visarl.ros.supervisor import GraphError, Supervisor
from visarl.ros.workspace import ROOT

pytestmark = pytest.mark.ros


def alive(pid: int) -> bool:
    """Running, not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], GraphOptions, Path]]:
    """`visarl up sim` as a person starts it."""
    options = GraphOptions(domain=free_domain())
    log = tmp_path / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "visarl.cli", "up", "sim", "--domain", str(options.domain)],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        yield process, options, log
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_every_child_ends_with_it(up, number: signal.Signals) -> None:
    process, options, log = up
    with GraphClient(options) as client:
        client.wait_ready(60.0)
    pids = children(process.pid)
    assert len(pids) == len(graph("sim", options))
    process.send_signal(number)
    code = process.wait(30)
    wait_until(lambda: not any(map(alive, pids)), 30.0, "the children to end")
    said = log.read_text()
    assert "Traceback" not in said and "Fatal" not in said and "Warning" not in said
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130


def test_one_dying_node_ends_all_and_is_named(up) -> None:
    process, options, log = up
    with GraphClient(options) as client:
        client.wait_ready(60.0)
    pids = children(process.pid)
    victim = next(pid for pid in pids if "watchdog_node" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(victim, signal.SIGKILL)
    assert process.wait(30) == 1
    assert "error: watchdog_node ended (signal SIGKILL)" in log.read_text()
    assert not any(map(alive, pids))


def test_a_refusing_node_gives_the_graph_its_reason() -> None:
    nodes = graph("real", GraphOptions(domain=free_domain(), arm="kortex"))
    with pytest.raises(GraphError, match="arm_node ended.*comes in a later release"), Supervisor(nodes[:1], None) as s:
        s.wait()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (NodeSpec("visarl_arm", "sim_node", {"task": "pick_aple"}), "pick_apple"),
        (NodeSpec("visarl_arm", "sim_node", {"taks": "pick_apple"}), "did you mean 'task'"),
        (NodeSpec("visarl_arm", "sim_node", {"disturbance": 5.0}), "in 0 .. 0.1, found 5"),
        (NodeSpec("visarl_arm", "sim_node", {"seed": "one"}), "expected int"),
        (NodeSpec("visarl_perception", "camera_node", {"source": "/dev/video99"}), "/dev/video99"),
        (NodeSpec("visarl_perception", "saliency_node", {"bundle": "/nowhere"}), "/nowhere"),
        (NodeSpec("visarl_teleop", "teleop_node", {"source": "exprt"}), "did you mean 'expert'"),
    ],
)
def test_a_wrong_parameter_ends_with_a_sentence(spec: NodeSpec, said: str) -> None:
    spec = NodeSpec(spec.package, spec.executable, spec.parameters, environment(GraphOptions(domain=free_domain())))
    with pytest.raises(GraphError, match="error: ") as caught, Supervisor([spec], None) as supervisor:
        supervisor.wait()
    assert said in str(caught.value)


def test_limits_of_a_bench_may_not_be_loosened(tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("arm_node:\n  ros__parameters:\n    linear_speed: 5.0\n")
    nodes = graph("real", GraphOptions(domain=free_domain(), config=bench))
    with pytest.raises(GraphError, match="only tighten"), Supervisor(nodes[:1], None) as supervisor:
        supervisor.wait()


def test_limits_of_a_bench_hold_in_simulation(tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("arm_node:\n  ros__parameters:\n    linear_speed: 5.0\n")
    nodes = graph("sim", GraphOptions(domain=free_domain(), config=bench))
    with pytest.raises(GraphError, match="sim_node ended.*only tighten"), Supervisor(nodes[:1], None) as supervisor:
        supervisor.wait()


def test_a_calibration_of_another_size_is_refused(tmp_path: Path) -> None:
    picture = tmp_path / "frames" / "0.png"
    picture.parent.mkdir()
    cv2.imwrite(str(picture), np.zeros((480, 640, 3), np.uint8))
    square = {"data": [1.0, 0, 0, 0, 1, 0, 0, 0, 1]}
    calibration = tmp_path / "camera.yaml"
    calibration.write_text(
        yaml.safe_dump(
            {
                "image_width": 1280, "image_height": 720, "distortion_model": "plumb_bob",
                "distortion_coefficients": {"data": [0.0] * 5}, "camera_matrix": square,
                "rectification_matrix": square, "projection_matrix": {"data": [0.0] * 12},
            }
        )
    )  # fmt: skip
    parameters = {"source": str(picture.parent), "calibration": str(calibration)}
    spec = NodeSpec("visarl_perception", "camera_node", parameters, environment(GraphOptions(domain=free_domain())))
    with pytest.raises(GraphError, match="1280x720 pictures.*640x480"), Supervisor([spec], None) as supervisor:
        supervisor.wait()


def test_a_bad_parameter_elsewhere_in_the_bench_is_named(tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text("watchdog_node:\n  ros__parameters:\n    silense_s: 0.4\n")
    nodes = graph("sim", GraphOptions(domain=free_domain(), config=bench))
    with pytest.raises(GraphError, match="did you mean 'silence_s'"), Supervisor(nodes[1:2], None) as supervisor:
        supervisor.wait()


def test_a_hung_arm_ends_the_graph() -> None:
    options = GraphOptions(domain=free_domain())
    with Supervisor(graph("sim", options), None) as supervisor, GraphClient(options, supervisor.check) as client:
        client.wait_ready()
        os.kill(supervisor.pids["sim_node"], signal.SIGSTOP)
        with pytest.raises(GraphError, match="watchdog_node ended.*hung"):
            client.wait_for(lambda: False, 30.0, "the watchdog")
        os.kill(supervisor.pids["sim_node"], signal.SIGCONT)
