"""Where ROS or the workspace is missing, its tests are seen to be skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys
import pytest
from visarl.errors import ConfigError
from visarl.ros import workspace

def activate():
    raise ConfigError("the ROS workspace is not built")

workspace.activate = activate
sys.exit(pytest.main(["-rs", "-p", "no:cacheprovider", "tests/ros/test_convert.py", "tests/ros/test_recorder.py"]))
"""


def test_the_ros_tests_are_skipped_with_a_reason() -> None:
    result = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "2 skipped" in result.stdout, result.stdout + result.stderr
    assert "the ROS workspace is not built" in result.stdout
