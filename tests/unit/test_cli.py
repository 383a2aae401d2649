"""The command line: finds verbs, answers quickly, and turns mistakes into one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visarl import cli
from visarl.errors import ConfigError, DataError

HEAVY = ("torch", "cv2", "mujoco", "openvino", "rclpy", "h5py", "timm", "fastapi")


def visarl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visarl.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_explains_its_options_and_loads_nothing_heavy(name: str) -> None:
    code = (
        "import sys\nfrom visarl.cli import main\n"
        f"try:\n    main({[*name.split(), '--help']!r})\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert f"usage: visarl {name}" in result.stdout
    assert "HEAVY []" in result.stdout


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_has_a_main(name: str) -> None:
    import torch._dynamo  # noqa: F401  before the first verb that loads MuJoCo; beside it, its import crashes

    assert callable(cli.resolve(cli.VERBS[name].main))


def test_an_option_is_explained_in_one_piece_and_without_a_needless_twin() -> None:
    lines = visarl("enable", "--help", COLUMNS="160").stdout
    assert "the demonstrator of `visarl up teleop`, who wins over the policy. (default: policy)" in lines
    assert "--localhost, --no-localhost" in lines and "--off " in lines and "--no-off" not in lines


def test_overview_names_every_verb() -> None:
    result = visarl("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in cli.VERBS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["recrod"], "did you mean 'record'"),
        (["train"], None),
        (["train", "polcy"], "train policy"),
    ],
)
def test_a_mistyped_verb_gets_a_suggestion(arguments: list[str], expected: str | None) -> None:
    result = visarl(*arguments)
    assert "Traceback" not in result.stderr
    if expected is None:
        assert result.returncode == 0 and "visarl train encoder" in result.stdout
    else:
        assert result.returncode == 1 and expected in result.stderr


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    result = visarl("convert", str(tmp_path / "none"), "--out", str(tmp_path / "x.h5"))
    assert result.returncode == 1
    assert result.stderr.startswith("visarl: error: ")
    assert "none" in result.stderr and "Traceback" not in result.stderr


def test_the_traceback_can_be_asked_for(tmp_path: Path) -> None:
    result = visarl("convert", str(tmp_path / "none"), "--out", str(tmp_path / "x.h5"), VISARL_TRACEBACK="1")
    assert result.returncode == 1 and "Traceback" in result.stderr


def test_an_unknown_option_is_refused_by_name() -> None:
    result = visarl("record", "--out", "x", "--episods", "3")
    assert result.returncode == 2 and "--episods" in result.stderr and "Traceback" not in result.stderr


def test_faults_of_ours_keep_their_traceback() -> None:
    assert cli.explain(DataError("text")) == "text"
    assert "tensorboard" in (cli.explain(ModuleNotFoundError("x", name="tensorboard")) or "")
    assert "pip install -e '.[all]'" in (cli.explain(ModuleNotFoundError("x", name="av")) or "")
    assert "make setup" in (cli.explain(ModuleNotFoundError("x", name="rclpy")) or "")
    assert cli.explain(ModuleNotFoundError("x", name="visarl.nothing")) is None
    assert cli.explain(OSError(13, "Permission denied", "/root/x")) == "/root/x: Permission denied"
    assert cli.explain(OSError(5, "Input/output error")) == (
        "Input/output error; set VISARL_TRACEBACK=1 to see where and run this again"
    )
    assert cli.explain(OSError("a bug")) is None
    assert cli.explain(ValueError("a bug")) is None
    with pytest.raises(ValueError, match="a bug"):
        cli.guarded(lambda: (_ for _ in ()).throw(ValueError("a bug")))


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(lambda: Path("/dev/full").write_text("a report")) == 1
    assert capsys.readouterr().err == "visarl: error: No space left on device; make room and run this again\n"


def test_find_takes_the_longest_verb() -> None:
    assert cli.find(["train", "policy", "--out", "x"]) == ("train policy", ["--out", "x"])
    assert cli.find(["record", "--out", "x"]) == ("record", ["--out", "x"])
    with pytest.raises(ConfigError, match="no verb"):
        cli.find(["nothing"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_status_and_no_traceback(number: signal.Signals, status: int, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, sys, threading\nfrom visarl.cli import guarded\n"
        f"def work():\n    pathlib.Path({str(ready)!r}).touch()\n    threading.Event().wait(30)\n"
        "sys.exit(guarded(work))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 20
    while not ready.exists():
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in errors and "stopped" in errors


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m visarl.cli --help | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in result.stderr
