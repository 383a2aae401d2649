"""scripts/setup.sh where it must stop: a sentence that says what to do, and no stamp of a step that did not succeed.

And where everything is done: it does nothing. The way where everything succeeds is how this test suite came to run.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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


def install(folder: Path, programs: dict[str, str]) -> None:
    """Make programs of shell scripts, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)


def environment(checkout: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ROS_", "AMENT_", "PYTHON"))}
    return {**inherited, "PATH": f"{checkout / 'tools'}:{os.environ['PATH']}"}


def setup(
    checkout: Path, programs: dict[str, str] | None = None, *parts: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it for `parts` with `programs` in front of the machine's own."""
    install(checkout / "tools", programs or {})
    return subprocess.run(
        [str(checkout / "scripts" / "setup.sh"), *parts],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(checkout) | variables,
    )


def stamps(checkout: Path) -> list[str]:
    return sorted(path.name for path in (checkout / ".venv" / ".visarl").glob("*"))


READY = {
    "dpkg-query": 'shift 2; for name; do echo "installed $name"; done',
    "df": "printf '\\n/ 1 0 99999999 0\\n'",
}
"""A machine with all system packages and enough room."""


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
        steps = subprocess.run(
            ["make", "--no-print-directory", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30
        ).stdout
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
    result = setup(checkout, READY | {"df": df})
    assert result.returncode == 1 and "has 2 GB free" in result.stderr
    assert not stamps(checkout)


def test_a_failed_step_shows_its_end_and_leaves_no_stamp(checkout: Path) -> None:
    install(checkout / ".venv" / "bin", {"pip": "exit 0", "python": "echo the reason >&2; exit 3"})
    for _ in range(2):  # the second run tries again
        result = setup(checkout, READY)
        assert result.returncode == 1
        assert "the reason" in result.stderr and "Python packages" in result.stderr
        assert not stamps(checkout)
    assert "the reason" in (checkout / "runs" / "setup.log").read_text()


@pytest.fixture
def installable(checkout: Path) -> Path:
    """A checkout where each step succeeds at once."""
    install(checkout / ".venv" / "bin", {"pip": "exit 0", "python": "exit 0"})
    install(checkout / "scripts", {"build_ws.sh": "exec build_the_workspace"})
    install(checkout / "tools", {**READY, "build_the_workspace": "mkdir -p ros2_ws/install"})
    return checkout


def test_a_second_run_sets_nothing_up_again(installable: Path) -> None:
    first = setup(installable)
    assert first.returncode == 0 and "Python packages" in first.stderr and "ROS 2 workspace" in first.stderr
    assert stamps(installable) == ["environment", "packages", "workspace"]
    install(installable / ".venv" / "bin", {"pip": "exit 9", "python": "exit 9"})
    broken = dict.fromkeys(["build_the_workspace", "apt-get", "sudo", "pip", "colcon"], "exit 9")
    second = setup(installable, broken)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    # What is installed follows from pyproject.toml: only another one is a reason to install again.
    project = installable / "pyproject.toml"
    project.write_text(project.read_text() + "# a setting of a tool\n")
    assert setup(installable).returncode == 0
    project.write_text("# another dependency\n" + project.read_text())
    assert "Python packages (7 GB, some minutes the first time) failed" in setup(installable).stderr


@contextlib.contextmanager
def at_a_terminal(checkout: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """setup.sh in a group of its own, as a shell starts it, with a terminal for its progress; and what that shows."""
    screen, terminal = os.openpty()
    command = [str(checkout / "scripts" / "setup.sh")]
    with subprocess.Popen(command, stderr=terminal, env=environment(checkout), start_new_session=True) as process:
        os.close(terminal)
        try:
            yield process, screen
        finally:
            process.kill()
            os.close(screen)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def read_to_the_end(screen: int) -> str:
    """What is written to a terminal, until nobody is left who could write."""
    found, limit = b"", time.monotonic() + 60
    with contextlib.suppress(OSError):  # EIO, once the last process has closed it
        while select.select([screen], [], [], 60)[0] and time.monotonic() < limit:
            found += os.read(screen, 4096)
        raise AssertionError(f"somebody still writes: {found.decode()}")
    return found.decode()


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked about does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_stopped_amid_a_step_it_leaves_no_stamp_and_the_next_run_proceeds(
    installable: Path, number: signal.Signals, status: int
) -> None:
    pid = installable / "pid"
    install(installable / ".venv" / "bin", {"python": f"echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 100"})
    with at_a_terminal(installable) as (process, screen):
        until(lambda: pid.exists() or process.poll() is not None)
        step = int(pid.read_text())
        try:
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # Ctrl-C
            else:
                process.send_signal(number)  # to the script alone
            assert process.wait(60) == status
            if number != signal.SIGKILL:  # which nobody can pass on
                until(lambda: not alive(step))
            said = read_to_the_end(screen)  # no end comes while the progress goes on
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(step, signal.SIGKILL)
    assert ("setup: stopped; run the same make again" in said) == (number != signal.SIGKILL)
    assert "Terminated" not in said and not stamps(installable)

    install(installable / ".venv" / "bin", {"python": "exit 0"})
    again = setup(installable)
    assert again.returncode == 0 and "waiting for another setup" not in again.stderr
    assert stamps(installable) == ["environment", "packages", "workspace"]


def test_an_environment_of_another_ros_is_not_mixed(checkout: Path) -> None:
    folder = checkout / ".venv" / ".visarl"
    folder.mkdir(parents=True)
    (folder / "environment").write_text("jazzy 3.12\n")
    result = setup(checkout, READY)
    assert result.returncode == 1 and "jazzy 3.12" in result.stderr and "make clean" in result.stderr


def test_make_explains_its_targets() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert all(f"make {name}" in result.stdout for name in ("demo", "test", "lint", "bench", "setup", "clean"))


def test_ci_runs_the_readme_s_test_command() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
