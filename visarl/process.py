"""What the commands do alike: end as one process, and tell which commit they are."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]

INTERRUPTED, TERMINATED = int(128 + signal.SIGINT), int(128 + signal.SIGTERM)
"""Exit statuses after Ctrl-C and after SIGTERM, as shells count them."""


def terminate_like_ctrl_c() -> None:
    """From now on SIGTERM, which a service manager or `timeout` sends, ends what this process has started, too."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number))  # told apart by this alone: all that ends on Ctrl-C ends on both


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status of a process that `stop` ended."""
    return TERMINATED if signal.SIGTERM in stop.args else INTERRUPTED


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block has ended.

    For short work with HDF5: h5py runs Python code where it frees what it opened, and Python drops an interrupt that
    begins there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        signal.raise_signal(caught[0])


def commit() -> str:
    """The checkout's commit, with `-dirty` where the tree differs from it; `unknown` outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()
