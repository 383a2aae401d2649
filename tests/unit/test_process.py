"""What the commands do alike, where it is not seen in one of them."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from visarl.process import uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    done = []
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            done.append("all of it")
        assert done and signal.getsignal(number) is interrupt
        with uninterrupted():
            pass  # an interrupt comes once
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)


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
