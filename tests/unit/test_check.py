"""`visarl check`: every line says what is, and what to do about what is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_bundle
from visarl import check
from visarl.options import Check
from visarl.ros.stranger import free_domain


def test_a_probe_survives_a_crash_and_hides_the_class_of_our_errors() -> None:
    assert check.probe("print('noise'); print('fine')") == (True, "fine")
    assert check.probe("import os; os.abort()")[0] is False
    good, last = check.probe("from visarl.errors import DataError; raise DataError('the reason')")
    assert not good and last == "the reason"


def test_what_is_missing_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "DISK_GB", 1e9)
    assert next(check.check_room()).status == "missing"
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert "Fast DDS" in next(check.check_dds()).detail


@pytest.mark.parametrize("source", ["/dev/video_that_is_not_there", "/dev/null"])  # the second gives no picture
def test_a_camera_is_needed_by_who_asks_for_it(source: str) -> None:
    assert check.check_camera(source, asked=True).status == "missing"
    finding = check.check_camera(source, asked=False)
    assert finding.status == "optional" and finding.detail.startswith(source) and finding.advice


def test_advice_names_a_package_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # Python's own way to say that there is none
    (tmp_path / "av.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for finding, extra in ((check.check_engine(), "openvino"), (check.check_video(), "report")):
        assert finding.status != "ok" and finding.advice.endswith(f"pip install -e '.[{extra}]' in the repository")


def test_what_a_graph_gets_from_dds_is_tried_not_read_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    finding = next(check.check_dds())
    assert finding.status == "ok" and " 8 MiB" in finding.detail
    assert "FASTDDS_BUILTIN_TRANSPORTS do not count" in finding.detail
    # Without the profile the shell would decide: with the switches that keep this node on the machine, too little.
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")  # the same, for Humble
    monkeypatch.setattr(check, "SEGMENT", check.SEGMENT.replace("os.environ.update", "str"))
    finding = next(check.check_dds())
    assert finding.status == "missing" and "do not take effect" in finding.detail


def test_bundles_are_loaded(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "good")
    bad = tiny_bundle(tmp_path / "bad").folder
    (bad / "policy.safetensors").write_bytes(b"damaged")
    found = {finding.detail.split(":")[0].rsplit("/", 1)[-1]: finding for finding in check.check_bundles(tmp_path)}
    assert found["good"].status == "ok" and found["bad"].status == "missing"


def test_the_whole_check_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = check.main(Check(bundles=tmp_path))
    lines = capsys.readouterr().out.splitlines()
    names = {line[10:22].strip() for line in lines if line.startswith(("ok", "missing", "optional"))}
    assert {"Python", "ROS 2", "DDS", "camera", "renderer", "disk", "Kinova Gen3", "Kinova Jaco"} <= names
    assert {"GPU", "torch"} & names
    assert not any(line.startswith("missing") and line[10:16] == "camera" for line in lines), "nobody asked for one"
    asked = check.findings(Check(bundles=tmp_path, camera="/dev/null"))
    assert next(finding for finding in asked if finding.name == "camera").status == "missing"
    assert status == (1 if any(line.startswith("missing  ") for line in lines) else 0)
