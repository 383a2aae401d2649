"""Ctrl-C or SIGTERM amid a long command: it ends at once and says so, spoils nothing, and the same command then
succeeds; so it does after a kill."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import running
from tests.unit.data.synthetic import Scene, synthetic_bag
from training import train_encoder, train_saliency
from visarl.config import get_preset
from visarl.data.convert import convert

SALIENCY, ENCODER = f"saliency/{train_saliency.PART}", f"encoder/{train_encoder.PART}"
VISARL = "import sys; from visarl.cli import main; sys.exit(main())"
"""The installed command. `python -m visarl.cli` may end by the signal itself, which shells call 130, too: Python does
so where a KeyboardInterrupt has passed an `exec`, of which rosbags has some."""


@dataclass(frozen=True)
class Command:
    """A verb, run in the folder of a run."""

    words: str
    out: str
    """The file that it is there for."""
    sign: Callable[[int, Path], bool]
    """Whether the process of that number, in that folder, is amid its work."""
    signal: int = signal.SIGINT
    """What ends it."""


def reads_a_bag(process: int, folder: Path) -> bool:
    try:
        return any(os.readlink(link).endswith(".mcap") for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:  # it has closed one meanwhile, or ended
        return False


def train(checkpoint: int) -> str:
    """Options with which a second or so passes between the first checkpoint and the next."""
    return f"--out new --threads 1 --checkpoint-every {checkpoint} --iterations {2 * checkpoint}"


def writes(name: str) -> Callable[[int, Path], bool]:
    return lambda process, folder: (folder / name).exists()


COMMANDS = {
    "click": Command("click --bags bags --out new.json --preset preset.json", "new.json", reads_a_bag),
    "convert": Command("convert bags --out new.h5 --every-frame", "new.h5", writes("new.h5.partial"), signal.SIGTERM),
    "label": Command(
        f"label --episodes many.h5 --saliency {SALIENCY} --threads 1", "many.h5", writes("many.h5.partial")
    ),
    "saliency": Command(
        f"train saliency --bags bags --clicks clicks.json --preset preset.json --batch 2 {train(40)}",
        f"new/{train_saliency.PART}",
        writes("new/checkpoint.pt"),
    ),
    "encoder": Command(
        f"train encoder --episodes episodes.hdf5 --preset preset.json --batch 4 {train(100)}",
        f"new/{train_encoder.PART}",
        writes("new/checkpoint.pt"),
    ),
    "policy": Command(
        f"train policy --episodes clear.hdf5 --saliency {SALIENCY} --encoder {ENCODER} --components 4 --no-diagnostics "
        f"{train(100)}",
        "new/bundle/bundle.json",
        writes("new/checkpoint.pt"),
        signal.SIGTERM,
    ),
}


KILLED = {
    "label": COMMANDS["label"],
    "pretraining": Command(
        "train saliency --bags bags --clicks clicks.json --preset preset.json --batch 2 --out new --threads 1 "
        "--pretraining 4 --checkpoint-every 2 --iterations 4",
        COMMANDS["saliency"].out,
        writes("new/pretraining/checkpoint.pt"),
    ),
}


@pytest.fixture(scope="module")
def long_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `run`, with so much in it that no command is done before the signal comes."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("long") / "run"))
    bags = sorted((folder / "bags").iterdir())
    convert([*bags] * 3, folder / "many.h5", get_preset(str(folder / "preset.json")).preprocess)
    for i in range(2, 6):
        synthetic_bag(folder / "bags" / f"demo-{i}", Scene(seconds=2.0, seed=i))
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupt(words: list[str], folder: Path, sign: Callable[[int, Path], bool], number: int) -> tuple[int, str]:
    """Run a command until there is a sign that it works, and send the signal; its exit status and what it said."""
    with (folder.parent / "said").open("w+") as said:
        with running(words, cwd=folder, stdout=said, stderr=subprocess.STDOUT) as process:
            limit = time.monotonic() + 300
            while process.poll() is None and not sign(process.pid, folder):
                assert time.monotonic() < limit, "no sign of life"
                time.sleep(0.005)
            if process.poll() is None:
                os.killpg(process.pid, number)
            process.wait(300)
        said.seek(0)
        return process.returncode, said.read()


def amid(command: Command, number: int, long_run: Path, tmp_path: Path) -> tuple[Path, dict[str, str], int, str]:
    """The folder in which a command was interrupted, what was in it before, its exit status, what it said."""
    words = [sys.executable, "-c", VISARL, *command.words.split()]
    for attempt in range(5):
        folder = Path(shutil.copytree(long_run, tmp_path / str(attempt) / "run"))
        before = contents(folder)
        status, said = interrupt(words, folder, command.sign, number)
        if status != 0:
            break  # otherwise it was done before the signal came: this machine was busy elsewhere
    return folder, before, status, said


def again(command: Command, folder: Path, before: dict[str, str]) -> dict[str, str]:
    """What is in the folder once the same command has succeeded there."""
    words = [sys.executable, "-c", VISARL, *command.words.split()]
    found = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    after = contents(folder)
    assert after[command.out] != before.get(command.out)
    return after


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_signal_spoils_nothing_and_the_same_command_then_succeeds(verb: str, long_run: Path, tmp_path: Path) -> None:
    command = COMMANDS[verb]
    folder, before, status, said = amid(command, command.signal, long_run, tmp_path)
    assert status == {signal.SIGINT: 130, signal.SIGTERM: 143}[command.signal], said
    assert "Traceback" not in said and said.rstrip().endswith("visarl: stopped")
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if name.endswith((".partial", ".tmp"))]
    assert command.out in before or command.out not in after
    again(command, folder, before)


@pytest.mark.parametrize("verb", KILLED)
def test_nothing_half_written_is_taken_for_whole_after_a_kill(verb: str, long_run: Path, tmp_path: Path) -> None:
    command = KILLED[verb]
    folder, before, status, said = amid(command, signal.SIGKILL, long_run, tmp_path)
    assert status == -signal.SIGKILL, said
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    assert command.out in before or command.out not in after
    left = again(command, folder, before)
    assert not [name for name in left if name.endswith(".partial")]
