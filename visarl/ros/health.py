"""What a node tells on /diagnostics: rates, ages, drops and what is wrong, once a second."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from visarl.ros import qos
from visarl.ros.convert import now_ns, to_time

_REPEAT_S = 5.0
"""The same complaint goes to the log at most this often; /diagnostics counts every one."""


class Health:
    """Counters of one node. Every method may be called from any thread."""

    def __init__(self, node: Any, period_s: float = 1.0) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._ages_ms: dict[str, deque[float]] = {}
        self._drops: Counter[str] = Counter()
        self._problem = ""
        self._logged: dict[str, float] = {}
        self._since_s = time.monotonic()
        self._publisher = qos.publisher(node, qos.DIAGNOSTICS)
        self._timer = node.create_timer(period_s, self._publish)

    def count(self, what: str, age_of_ns: int | None = None) -> None:
        """One more of `what`; with the stamp that it answers, its age too."""
        with self._lock:
            self._counts[what] += 1
            if age_of_ns:
                self._ages_ms.setdefault(what, deque(maxlen=100)).append((now_ns() - age_of_ns) / 1e6)

    def refuse(self, what: str, reason: str) -> None:
        """One of `what` was not used: counted, told on /diagnostics, and logged without flooding."""
        with self._lock:
            self._drops[what] += 1
        self.warn(what, f"{what} refused: {reason}")

    def warn(self, what: str, problem: str, log: bool = True) -> None:
        """Tell of `problem` on /diagnostics and, with `log`, in the log, where each `what` floods nobody."""
        now_s = time.monotonic()
        with self._lock:
            self._problem = problem
            silent = not log or now_s - self._logged.get(what, -_REPEAT_S) < _REPEAT_S
            if not silent:
                self._logged[what] = now_s
        if not silent:
            self._node.get_logger().warning(problem)

    def _publish(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            span, self._since_s = max(now_s - self._since_s, 1e-3), now_s
            values = {f"{name} [Hz]": f"{count / span:.1f}" for name, count in self._counts.items()}
            for name, ages in self._ages_ms.items():
                if ages:
                    ordered = sorted(ages)
                    values[f"{name} age p50 [ms]"] = f"{ordered[len(ordered) // 2]:.1f}"
                    values[f"{name} age max [ms]"] = f"{ordered[-1]:.1f}"
                    ages.clear()
            values.update({f"{name} refused": str(count) for name, count in self._drops.items()})
            problem, self._problem = self._problem, ""
            self._counts = Counter(dict.fromkeys(self._counts, 0))
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if problem else DiagnosticStatus.OK,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=problem or "ok",
            values=[KeyValue(key=key, value=value) for key, value in sorted(values.items())],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = to_time(now_ns())
        self._publisher.publish(message)
