"""Real nodes in processes of their own, each test's graph alone in a domain on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from visarl.errors import ConfigError
from visarl.ros.workspace import ROOT, activate

try:
    activate()
    MISSING = ""
except ConfigError as error:
    MISSING = str(error)


class _Missing(pytest.Module):
    """A file of tests that cannot even be imported without the workspace."""

    def collect(self) -> NoReturn:
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return _Missing.from_parent(parent, path=module_path) if MISSING else None


PUBLISHES = """
import sys
import rclpy
from std_msgs.msg import Header
rclpy.init()
node = rclpy.create_node(sys.argv[1])
publisher = node.create_publisher(Header, sys.argv[2], 1)
print("up", flush=True)
sys.stdin.read()
"""


def publishing(node: str, topic: str) -> list[str]:
    """Command of a process that is none of ours: it publishes on `topic`, and says `up` once it does."""
    return [sys.executable, "-c", PUBLISHES, node, topic]


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """What a graph's client changes in this process is put back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def domain() -> int:
    from visarl.ros.stranger import free_domain

    return free_domain()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real models of the smallest size with random weights."""
    from tests.tiny import tiny_bundle

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    tiny_bundle(folder)
    return folder


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds:g} s for {what} in vain"
        time.sleep(0.02)


def enable(who: str, domain: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`visarl enable` as a person types it."""
    command = [sys.executable, "-m", "visarl.cli", "enable", who, "--domain", str(domain), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
