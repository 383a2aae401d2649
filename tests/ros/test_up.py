"""`visarl up` as a person starts it: which scene, and what it says once the graph is ready."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import running
from tests.ros.conftest import enable, wait_until
from visarl.ros.client import GraphClient
from visarl.ros.graph import GraphOptions
from visarl.ros.stranger import free_domain
from visarl.ros.workspace import ROOT

pytestmark = pytest.mark.ros


def test_it_says_when_it_is_ready_and_what_comes_next(bundle: Path, tmp_path: Path) -> None:
    options = GraphOptions(domain=free_domain())
    words = [sys.executable, "-m", "visarl.cli", "up", "teleop", "--bundle", str(bundle), "--task", "pick_apple"]
    words += ["--record", str(tmp_path / "bags"), "--domain", str(options.domain), "--engine", "torch"]
    log = tmp_path / "log"

    def said(what: str) -> str:
        return next((line for line in log.read_text().splitlines() if line.startswith(what)), "")

    with log.open("w") as output, running(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as process:
        wait_until(lambda: process.poll() is not None or said("ready after"), 240.0, "the graph to be ready")
        for who in ("policy", "teleop"):
            assert f"`visarl enable {who} --domain {options.domain}` lets the" in said("ready after"), log.read_text()
        drives = enable("policy", options.domain)  # at once: it is ready
        assert drives.returncode == 0 and "the policy drives" in drives.stdout, drives
        with GraphClient(options) as client:
            client.wait_for(lambda: client.truth is not None, 60.0, "the scene")
            assert client.truth.task == "pick_apple"
            client.wait_for(lambda: client.serves("recorder/start"), 30.0, "the recorder")
    assert "the scene is pick_apple, but" in said("warning: ") and "has learned pick_red_block" in said("warning: ")
