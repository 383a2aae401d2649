"""What really arrived: rate, gaps and drops of a topic, from the stamps of its messages."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

GAP_FACTOR = 1.5
"""A pause longer than this many median periods counts as a gap; jitter of half a period does not."""


@dataclass(frozen=True)
class TopicReport:
    """One topic of one episode."""

    topic: str
    msgtype: str
    count: int
    rate_hz: float
    """Messages a second between the first and the last stamp; 0 with fewer than two messages."""
    median_gap_ms: float
    max_gap_ms: float
    gaps: int
    """Pauses longer than `GAP_FACTOR` median periods."""
    drops: int
    """Messages that are missing in those gaps, had the topic kept its median period."""
    disordered: int
    """Messages whose stamp is not after the one before."""
    age_ms_p50: float
    """From the stamp to the recording of the message."""
    age_ms_max: float


@dataclass
class TopicStats:
    """Collects stamps while messages pass by. All in ns since the epoch."""

    topic: str
    msgtype: str
    stamps: list[int] = field(default_factory=list)
    log_times: list[int] = field(default_factory=list)

    def add(self, stamp_ns: int, log_time_ns: int) -> None:
        self.stamps.append(stamp_ns)
        self.log_times.append(log_time_ns)

    def report(self) -> TopicReport:
        arrived = np.array(self.stamps, dtype=np.int64)
        ages = (np.array(self.log_times, dtype=np.int64) - arrived) / 1e6
        steps = np.diff(arrived)
        gaps = np.diff(np.sort(arrived)) / 1e6
        median = float(np.median(gaps)) if gaps.size else 0.0
        wide = gaps[gaps > GAP_FACTOR * median] if median > 0 else gaps[:0]
        span_s = float(arrived.max() - arrived.min()) / 1e9 if arrived.size else 0.0
        return TopicReport(
            topic=self.topic,
            msgtype=self.msgtype,
            count=len(arrived),
            rate_hz=round((len(arrived) - 1) / span_s, 3) if span_s > 0 else 0.0,
            median_gap_ms=round(median, 3),
            max_gap_ms=round(float(gaps.max()), 3) if gaps.size else 0.0,
            gaps=int(wide.size),
            drops=int(np.sum(np.round(wide / median) - 1)) if wide.size else 0,
            disordered=int(np.sum(steps <= 0)),
            age_ms_p50=round(float(np.median(ages)), 3) if ages.size else 0.0,
            age_ms_max=round(float(ages.max()), 3) if ages.size else 0.0,
        )


def as_table(reports: list[TopicReport]) -> str:
    """The reports for a person, one line a topic."""
    width = max((len(r.topic) for r in reports), default=5)
    lines = [f"{'topic':<{width}}  {'count':>6} {'Hz':>6} {'max gap ms':>10} {'drops':>5} {'age ms':>7}"]
    for r in reports:
        lines.append(
            f"{r.topic:<{width}}  {r.count:>6} {r.rate_hz:>6.1f} {r.max_gap_ms:>10.0f} {r.drops:>5} "
            f"{r.age_ms_p50:>7.1f}"
        )
    return "\n".join(lines)


def as_json(reports: list[TopicReport]) -> list[dict[str, Any]]:
    return [asdict(report) for report in reports]
