"""For every test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch._dynamo  # noqa: F401 - before whichever test imports the simulator first, or the process crashes
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background (`nohup make test &`), where shells ignore Ctrl-C: the processes that the tests start
    # would inherit that, and the tests of Ctrl-C would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples everywhere, however long one takes: a busy machine is no failure, and a failure comes again.
settings.register_profile(
    "visarl", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("visarl")


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of its own, as a terminal starts it. When the block is left, however that happens, it gets
    a Ctrl-C, time to end what it has started, and then nothing of it is left."""
    family: list[psutil.Process] = []
    with subprocess.Popen(command, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, subprocess.TimeoutExpired):
                    family = psutil.Process(process.pid).children(recursive=True)
                    os.killpg(process.pid, signal.SIGINT)
                    process.communicate(timeout=60)
            process.kill()
            for left in psutil.wait_procs(family, timeout=20)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub of weights that nobody reaches, and an empty cache of it: without the wait for its answer."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
