"""How a graph ends: Ctrl-C, a dying node, a killed supervisor, a hung arm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.conftest import running
from tests.ros.conftest import wait_until
from visarl.ros import qos
from visarl.ros.client import GraphClient
from visarl.ros.convert import from_time
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
        words = [sys.executable, "-m", "visarl.cli", "up", "sim", "--domain", str(options.domain)]
        with running(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as process:
            yield process, options, log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_every_child_ends_with_it(up, number: signal.Signals) -> None:
    process, options, log = up
    with GraphClient(options) as client:
        client.wait_ready()
    pids = children(process.pid)
    assert len(pids) == len(graph("sim", options))
    process.send_signal(number)
    code = process.wait(60)
    wait_until(lambda: not any(map(alive, pids)), 60.0, "the children to end")
    said = log.read_text()
    assert "Traceback" not in said and "Fatal" not in said and "Warning" not in said
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[number]


def test_one_dying_node_ends_all_and_is_named(up) -> None:
    process, options, log = up
    with GraphClient(options) as client:
        client.wait_ready()
    pids = children(process.pid)
    victim = next(pid for pid in pids if "watchdog_node" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(victim, signal.SIGKILL)
    assert process.wait(60) == 1
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
        heard: list[str] = []
        client.subscribe(
            qos.DIAGNOSTICS,
            lambda m: heard.extend(v.key for s in m.status if s.name == "watchdog_node" for v in s.values),
        )
        client.wait_ready()
        # What it has never heard cannot fall silent.
        client.wait_for(lambda: any("arm states" in key for key in heard), 60.0, "the watchdog to hear the arm")
        os.kill(supervisor.pids["sim_node"], signal.SIGSTOP)
        try:
            with pytest.raises(GraphError, match="watchdog_node ended.*hung"):
                client.wait_for(lambda: False, 60.0, "the watchdog")
        finally:
            os.kill(supervisor.pids["sim_node"], signal.SIGCONT)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What runs in place of a node."""
    path = tmp_path / "node.py"
    monkeypatch.setattr("visarl.ros.supervisor.executable", lambda package, name: path)
    return path


NODE = [NodeSpec("visarl_arm", "arm_node")]


def test_a_full_disk_under_the_log_does_not_hold_up_a_node(script: Path) -> None:
    script.write_text("for _ in range(2000):\n    print('x' * 99)\nprint('the end')\n")

    def say(line: str) -> None:
        raise OSError(28, "No space left on device")

    with Supervisor(NODE, say) as supervisor, pytest.raises(GraphError, match="exit status 0.: the end"):
        wait_until(supervisor.check, 60.0, "the end of a node that prints more than a pipe holds")


ENDS_WITH_WORDS = """
import signal, sys, time
def end(number, frame):
    print("ending", flush=True)
    time.sleep(0.5)
    for line in range(2000):
        print("last words", line)
    sys.exit()
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
signal.pause()
"""


def test_the_last_words_are_said_and_a_second_signal_disturbs_no_end(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text(ENDS_WITH_WORDS)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.endswith("ending"):  # a person who has lost patience, and a service manager too
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    def impatient(number: int, frame: object) -> None:
        raise AssertionError(f"disturbed by {signal.Signals(number).name}")

    before = {number: signal.signal(number, impatient) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Supervisor(NODE, say) as supervisor:
            wait_until(lambda: said, 60.0, "the node")
        assert said[-1] == "[arm_node] last words 1999"
        assert all(signal.getsignal(number) is impatient for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    monkeypatch.setattr(os, "killpg", lambda group, number: pytest.fail(f"{number} to a group that is long gone"))
    supervisor.stop()


def test_nodes_that_still_import_end_without_a_word(bundle: Path) -> None:
    said: list[str] = []
    options = GraphOptions(domain=free_domain(), bundle=bundle)
    with Supervisor(graph("sim", options), said.append) as supervisor:
        pids = [supervisor.pids[name] for name in ("encoder_node", "policy_node")]
        # In the middle of `import torch`, which is far from the end of what a node with models imports.
        wait_until(lambda: any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in pids), 60.0, "torch")
    assert said == []


def test_a_child_that_is_ended_before_it_has_begun_ends_by_the_first_signal(script: Path) -> None:
    script.write_text("import time\ntime.sleep(60)\n")
    said: list[str] = []
    with Supervisor(NODE * 3, said.append) as supervisor:
        pass
    assert [child.process.returncode for child in supervisor._children] == [-signal.SIGINT] * 3
    assert said == []


def test_a_terminated_node_is_told_as_such(script: Path) -> None:
    script.write_text("raise SystemExit(143)")
    with Supervisor(NODE, None) as supervisor, pytest.raises(GraphError, match="arm_node ended .signal SIGTERM."):
        wait_until(supervisor.check, 60.0, "its end")


@pytest.mark.timeout(600)
def test_a_second_graph_in_the_domain_is_refused_and_the_first_lives_on(up) -> None:
    process, options, log = up
    with GraphClient(options) as client:
        client.wait_ready()
        second = subprocess.run(process.args, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert second.returncode == 1
        assert f"another graph runs in ROS domain {options.domain}" in second.stderr and "arm_node" in second.stderr
        asked_ns = time.time_ns()
        client.wait_for(
            lambda: from_time(client.state.header.stamp) > asked_ns, 30.0, "the first graph's arm, as before"
        )
    assert process.poll() is None and "error" not in log.read_text()
