"""What a node's process says where it cannot start: a sentence and status 1, never silence and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from visarl_arm.arm_node import Options as ArmOptions
from visarl_arm.watchdog_node import Options as WatchdogOptions
from visarl_perception.camera_node import Options as CameraOptions

from visarl.errors import ConfigError
from visarl.ros.graph import GraphOptions, NodeSpec, environment, graph
from visarl.ros.params import declare
from visarl.ros.stranger import free_domain
from visarl.ros.workspace import child_environment, executable

pytestmark = pytest.mark.ros

EMPTY = "from visarl.ros.process import run; run('empty', lambda: [])"


def ended(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    values = child_environment() | environment(GraphOptions(domain=free_domain())) | variables
    return subprocess.run([sys.executable, *command], env=values, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "foo"], "'-p foo'"),
        (["--params-file", "{bench}"], "Sequence should be of same type"),
        (["--bogus"], "--bogus"),
    ],
)
def test_arguments_that_ros_cannot_read_end_in_a_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"  # YAML as YAML goes, but a list that ROS does not take
    bench.write_text('arm_node:\n  ros__parameters:\n    workspace_low: [1, "a", 2.0]\n')
    done = ended(["-c", EMPTY, "--ros-args", *(part.format(bench=bench) for part in arguments)])
    lines = [line for line in done.stderr.splitlines() if line.startswith("empty: error: ")]
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert "/project/src" not in lines[0] and "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_node_is_a_clean_end(number: signal.Signals, status: int) -> None:
    make = f"os.kill(os.getpid(), {int(number)}), [None for _ in iter(rclpy.ok, False)], Node('late')"
    imports = "import os, rclpy; from rclpy.node import Node; from visarl.ros.process import run"
    script = f"{imports}; run('late', lambda: ({make}))"
    done = ended(["-c", script])
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize(("package", "node"), [("visarl_arm", "sim_node"), ("visarl_teleop", "teleop_node")])
def test_a_machine_without_a_renderer_is_told_what_to_install(package: str, node: str) -> None:
    done = ended([str(executable(package, node))], MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent")
    assert done.returncode == 1 and f"{node}: error: " in done.stderr and "libegl1" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


# ---- where a parameter comes from ------------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Callable[[NodeSpec], Any]]:
    """An empty node with the arguments that a process of the graph gets."""
    context, nodes = rclpy.Context(), []

    def start(spec: NodeSpec) -> Node:
        rclpy.init(args=["--ros-args", *spec.arguments()], context=context, domain_id=free_domain())
        nodes.append(Node(spec.name, context=context))
        return nodes[0]

    before = dict(os.environ)
    os.environ.update(environment(GraphOptions()))
    yield start
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("node", "options", "given", "chosen", "expected"),
    [
        ("arm_node", ArmOptions, {"address": "10.0.0.7"}, {}, {"address": "10.0.0.7", "backend": "kortex"}),
        ("arm_node", ArmOptions, {"address": "10.0.0.7"}, {"address": "10.0.0.8"}, {"address": "10.0.0.8"}),
        ("camera_node", CameraOptions, {"source": "3", "width": 800}, {}, {"source": "3", "width": 800}),
        ("camera_node", CameraOptions, {"source": "3"}, {"camera": "4"}, {"source": "4", "width": 640}),
        ("watchdog_node", WatchdogOptions, {"silence_s": 0.4}, {}, {"silence_s": 0.4, "answer_s": 0.5}),
    ],
)  # fmt: skip
def test_a_bench_file_overrides_defaults_and_a_person_overrides_it(
    started: Callable[[NodeSpec], Any],
    tmp_path: Path,
    node: str,
    options: Any,
    given: dict[str, Any],
    chosen: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    bench = tmp_path / "bench.yaml"
    values = "".join(f"    {key}: {value!r}\n".replace("'", '"') for key, value in given.items())
    bench.write_text(f"{node}:\n  ros__parameters:\n{values}")
    spec = next(s for s in graph("real", GraphOptions(config=bench, **chosen)) if s.name == node)
    found = declare(started(spec), options)
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_list_of_whole_numbers_is_told_what_is_expected(started: Callable[[NodeSpec], Any]) -> None:
    node = started(NodeSpec("visarl_arm", "arm_node", {"workspace_low": [0, 0, 0]}))
    with pytest.raises(ConfigError, match=r"expected a list of decimal numbers, as \[0.1, 2.0\], found .*\[0, 0, 0\]"):
        declare(node, ArmOptions)
