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
from collections.abc import Callable, Sequence
from types import TracebackType

from visarl.errors import VisarlError
from visarl.ros.graph import NodeSpec
from visarl.ros.workspace import child_environment, executable

GRACE_S = (5.0, 3.0, 2.0)
"""How long the children have after SIGINT, after SIGTERM and after SIGKILL."""

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
            [sys.executable, str(script), "--ros-args", *spec.arguments()],
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
            say(f"[{self.spec.name:<{width}}] {line.rstrip()}")

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.killpg(self.process.pid, number)

    def reason(self) -> str:
        self._reader.join(timeout=1.0)
        code = self.process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        said = [line for line in self.lines if line.strip()]
        errors = [line for line in said if "error: " in line] or said[-1:]
        return f"{self.spec.name} ended ({how}){': ' + errors[-1] if errors else ''}"


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

    def start(self) -> None:
        """Start every process; returns at once."""
        width = max((len(spec.name) for spec in self._nodes), default=0)
        for spec in self._nodes:
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
        """End every child: SIGINT, SIGTERM, SIGKILL, each to its whole process group. Safe to call twice."""
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
        # A second Ctrl-C while stopping must not leave children behind.
        before = signal.getsignal(signal.SIGINT)
        main_thread = threading.current_thread() is threading.main_thread()
        if main_thread:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            if main_thread:
                signal.signal(signal.SIGINT, before)
