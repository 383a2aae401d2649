"""The ROS workspace as `make setup` built it."""

from __future__ import annotations

import pytest

from visarl.ros.workspace import ROOT

pytestmark = pytest.mark.ros


def test_every_package_and_launch_file_is_built() -> None:
    packages = {path.parent.name for path in (ROOT / "ros2_ws" / "src").glob("*/package.xml")} | {"visarl_bringup"}
    share = ROOT / "ros2_ws" / "install" / "share"
    assert packages <= {path.parent.name for path in share.glob("*/package.xml")}
    ours = {path.name for path in (ROOT / "launch").glob("*.launch.py")}
    assert ours == {path.name for path in (share / "visarl_bringup" / "launch").iterdir()}
