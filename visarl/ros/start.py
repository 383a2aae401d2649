"""Runs a node's script, so that a signal that comes while it still imports ends it at once and without a word.

Run by its path, before anything is imported that takes time: `python start.py SCRIPT ARGUMENTS`. The supervisor holds
Ctrl-C back from a child until this has decided what it does. `visarl.ros.process.run` takes over, once there is
something to close.
"""

import runpy
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as SIGTERM: no traceback of whichever import it met
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)  # as if it had been run itself; not our folder, with a graph.py
    runpy.run_path(sys.argv[0], run_name="__main__")
