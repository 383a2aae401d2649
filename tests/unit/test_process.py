"""What the commands do alike, where it is not seen in one of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from visarl.process import uninterrupted

INTERRUPTED = """
import os, signal
from visarl.process import uninterrupted

number = signal.Signals({number})

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(number, interrupt)
done = []
try:
    with uninterrupted():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        done.append("all of it")
    raise SystemExit("the interrupt was lost")
except KeyboardInterrupt:
    pass
assert done and signal.getsignal(number) is interrupt
with uninterrupted():
    pass  # an interrupt comes once
try:
    os.kill(os.getpid(), number)
    raise SystemExit("interrupts stay away")
except KeyboardInterrupt:
    print("as it should be")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    """In a process of its own: in this one, other tests' renderers have had their hands on the signals' stack."""
    command = [sys.executable, "-c", INTERRUPTED.format(number=int(number))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout == "as it should be\n", result.stderr


def test_an_error_in_the_block_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="a bug"), uninterrupted():
        raise ValueError("a bug")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_the_signals_alone() -> None:
    found = []

    def work() -> None:
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
