"""For every test."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background (`nohup make test &`), where shells ignore Ctrl-C: the processes that the tests start
    # would inherit that, and the tests of Ctrl-C would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
