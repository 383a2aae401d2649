"""scripts/setup.sh where it must stop: a sentence that says what to do, and no stamp of a step that did not succeed.

The way where everything succeeds is how this test suite came to run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "ros2_ws" / "src").mkdir(parents=True)
    (folder / "launch").mkdir()
    return folder


def setup(
    checkout: Path, programs: dict[str, str] | None = None, *parts: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it for `parts` with `programs` (name to shell script) in front of the machine's own."""
    tools = checkout / "tools"
    tools.mkdir(exist_ok=True)
    for name, body in (programs or {}).items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ROS_", "AMENT_", "PYTHON"))}
    return subprocess.run(
        [str(checkout / "scripts" / "setup.sh"), *parts],
        capture_output=True,
        text=True,
        timeout=60,
        env={**inherited, "PATH": f"{tools}:{os.environ['PATH']}", **environment},
    )


def stamps(checkout: Path) -> list[str]:
    return sorted(path.name for path in (checkout / ".venv" / ".visarl").glob("*"))


def test_without_rights_it_prints_the_one_line_to_run(checkout: Path) -> None:
    result = setup(checkout, {"dpkg-query": "exit 1", "id": "echo 1000", "sudo": "exit 1"})
    assert result.returncode == 1
    line = next(line for line in result.stderr.splitlines() if "apt-get install" in line)
    assert line.strip().startswith("sudo apt-get install -y ") and "libegl1" in line and "g++" in line
    assert not stamps(checkout)


def test_a_browser_is_installed_for_the_tests_only(checkout: Path) -> None:
    programs = {"dpkg-query": "exit 1", "id": "echo 1000", "sudo": "exit 1"}
    assert "chromium" not in setup(checkout, programs).stderr
    debian = "ID=debian" in Path("/etc/os-release").read_text().splitlines()
    assert (" chromium chromium-driver" in setup(checkout, programs, "browser").stderr) == debian
    for target, expected in (("demo", "setup.sh"), ("test", "setup.sh browser"), ("setup", "setup.sh")):
        steps = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout
        assert steps.splitlines()[0].rstrip().endswith(expected)


def test_another_processor_without_ros_is_told_to_install_ros(checkout: Path) -> None:
    result = setup(checkout, {"uname": "echo Linux aarch64"})
    assert result.returncode == 1
    assert "x86-64" in result.stderr and "source its setup.bash" in result.stderr


def test_a_sourced_ros_of_another_python_is_named(checkout: Path) -> None:
    python = "case $2 in *rclpy*) exit 1 ;; *) echo 3.11 ;; esac"
    result = setup(checkout, {"python3": python}, ROS_DISTRO="humble", AMENT_PREFIX_PATH="/opt/ros/humble")
    assert result.returncode == 1
    assert "humble is sourced" in result.stderr and "PYTHON" in result.stderr


def test_no_room_is_said_before_anything_is_downloaded(checkout: Path) -> None:
    df = "echo 'Filesystem 1024-blocks Used Available Capacity Mounted'; echo '/dev/x 100 0 2097152 0% /'"
    dpkg = 'shift 2; for name; do echo "installed $name"; done'
    result = setup(checkout, {"df": df, "dpkg-query": dpkg})
    assert result.returncode == 1 and "has 2 GB free" in result.stderr
    assert not stamps(checkout)


def test_a_failed_step_shows_its_end_and_leaves_no_stamp(checkout: Path) -> None:
    programs = {
        "dpkg-query": 'shift 2; for name; do echo "installed $name"; done',
        "df": "printf '\\n/ 1 0 99999999 0\\n'",
    }
    pip = checkout / ".venv" / "bin"
    pip.mkdir(parents=True)
    for name, body in (("pip", "exit 0"), ("python", "echo the reason >&2; exit 3")):
        (pip / name).write_text(f"#!/bin/sh\n{body}\n")
        (pip / name).chmod(0o755)
    for _ in range(2):  # the second run tries again
        result = setup(checkout, programs)
        assert result.returncode == 1
        assert "the reason" in result.stderr and "Python packages" in result.stderr
        assert not stamps(checkout)
    assert "the reason" in (checkout / "runs" / "setup.log").read_text()


def test_an_environment_of_another_ros_is_not_mixed(checkout: Path) -> None:
    folder = checkout / ".venv" / ".visarl"
    folder.mkdir(parents=True)
    (folder / "environment").write_text("jazzy 3.12\n")
    result = setup(checkout, {"dpkg-query": 'shift 2; for name; do echo "installed $name"; done'})
    assert result.returncode == 1 and "jazzy 3.12" in result.stderr and "make clean" in result.stderr


def test_make_explains_its_targets() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert all(f"make {name}" in result.stdout for name in ("demo", "test", "lint", "bench", "setup", "clean"))


def test_ci_runs_the_readme_s_test_command() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
