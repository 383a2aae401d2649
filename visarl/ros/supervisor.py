"""Runs the processes of a graph: starts them, prefixes their output, and ends all of them when one ends.

For machines without ROS's launch system; it starts the same description.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from visarl.errors import VisarlError
from visarl.process import TERMINATED
from visarl.ros.graph import NodeSpec
from visarl.ros.workspace import child_environment, executable

GRACE_S = (5.0, 3.0, 2.0)
"""How long the children have after SIGINT, after SIGTERM and after SIGKILL."""

_READ_S = 5.0
"""How long the last words of a child that has ended may take to be read."""

_START = Path(__file__).with_name("start.py")

_REASON_LINES = 20
"""Last lines of a child's output that are kept to tell why it ended."""


class GraphError(VisarlError):
    """A process of the graph ended by itself."""


class _Child:
    def __init__(self, spec: NodeSpec, width: int, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.lines: deque[str] = deque(maxlen=_REASON_LINES)
        script = executable(spec.package, spec.executable)
        self.process = subprocess.Popen(
            # This interpreter, whatever the script's first line finds on the path.
            [sys.executable, str(_START), str(script), "--ros-args", *spec.arguments()],
            env=child_environment() | spec.environment | {"VISARL_SUPERVISED": "1"},
            stdin=subprocess.PIPE,  # never written to: it closes when the supervisor is killed, and the child ends
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Its own group: a terminal's Ctrl-C reaches only the supervisor, which ends the children in order; and a
            # child's own children can be ended with it.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(width, say), daemon=True)
        self._reader.start()

    def _read(self, width: int, say: Callable[[str], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            # A log on a full disk (OSError), or one that is closed by now (ValueError): a child whose output nobody
            # reads would stand still at its next line.
            with contextlib.suppress(OSError, ValueError):
                say(f"[{self.spec.name:<{width}}] {line.rstrip()}")

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.killpg(self.process.pid, number)

    def reason(self) -> str:
        self._reader.join(_READ_S)
        code = self.process.returncode
        number = -code if code < 0 else signal.SIGTERM if code == TERMINATED else None
        how = f"exit status {code}" if number is None else f"signal {signal.Signals(number).name}"
        said = [line for line in self.lines if line.strip()]
        errors = [line for line in said if "error: " in line] or said[-1:]
        return f"{self.spec.name} ended ({how}){': ' + errors[-1] if errors else ''}"

    def close(self) -> None:
        """Hear it out, and free its pipes. Only once it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self._reader.join(_READ_S)
        self.process.stdin.close()
        if not self._reader.is_alive():  # whom a process that left the group keeps waiting: closing would wait, too
            self.process.stdout.close()


class Supervisor:
    """Children of one graph. Use as a context manager: leaving it ends them all, whatever happens.

    Args:
        nodes: what to start.
        say: receives each line that a child prints, with its name in front; None for silence.
    """

    def __init__(self, nodes: Sequence[NodeSpec], say: Callable[[str], None] | None = print) -> None:
        self._nodes = nodes
        self._say = say or (lambda line: None)
        self._children: list[_Child] = []
        self._stopped = False

    def start(self) -> None:
        """Start every process; returns at once."""
        width = max((len(spec.name) for spec in self._nodes), default=0)
        for spec in self._nodes:
            with _held_back():
                self._children.append(_Child(spec, width, self._say))

    def check(self) -> None:
        """Raises GraphError, with the node's own reason, if a process has ended."""
        for child in self._children:
            if child.process.poll() is not None:
                raise GraphError(child.reason())

    def wait(self) -> None:
        """Until a process ends, which raises GraphError."""
        while True:
            self.check()
            time.sleep(0.1)

    @property
    def pids(self) -> dict[str, int]:
        return {child.spec.name: child.process.pid for child in self._children}

    def stop(self) -> None:
        """End every child: SIGINT, SIGTERM, SIGKILL, each to its whole process group. Safe to call twice.

        Their last words have been said when it returns. A second Ctrl-C or SIGTERM must not leave children behind: both
        are ignored meanwhile.
        """
        if self._stopped:
            return  # their numbers may be other processes' by now
        with _undisturbed():
            for number, grace_s in zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), GRACE_S, strict=True):
                alive = [child for child in self._children if child.process.poll() is None]
                if not alive:
                    break
                for child in alive:
                    child.signal(number)
                limit_s = time.monotonic() + grace_s
                for child in alive:
                    with contextlib.suppress(subprocess.TimeoutExpired):  # the next, harder signal follows
                        child.process.wait(max(limit_s - time.monotonic(), 0.0))
            for child in self._children:
                child.signal(signal.SIGKILL)  # what a child left behind in its group
            for child in self._children:
                child.close()
            self._stopped = True

    def __enter__(self) -> Supervisor:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM are ignored; outside the main thread, which alone may choose that, nothing changes."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C waits: for this thread, until a child that was made is known; for the child, which inherits it, until
    `start.py` lets it through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
