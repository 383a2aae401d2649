"""Ctrl-C on the benchmark ends what it has started, in each of its phases."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import running
from tests.ros.conftest import wait_until

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(("frames", "phase"), [(3000, "bench.hop"), (1, "policy_node")])
def test_ctrl_c_leaves_no_process_behind(bundle: Path, tmp_path: Path, frames: int, phase: str) -> None:
    command = [sys.executable, "-m", "bench", "--bundle", str(bundle), "--out", str(tmp_path), "--frames", str(frames)]
    # A group of its own, as a terminal makes one: Ctrl-C goes to all of it, the hop's processes included.
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        started: list[psutil.Process] = []

        def reached() -> bool:
            if process.poll() is not None:
                return True
            with contextlib.suppress(psutil.NoSuchProcess):  # one that ended meanwhile
                started[:] = psutil.Process(process.pid).children(recursive=True)
                return any(phase in " ".join(child.cmdline()) for child in started)
            return False

        wait_until(reached, 200, phase)
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130, errors
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive
