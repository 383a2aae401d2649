"""What the messages of a run say about its timing. Stamps in nanoseconds, system clock; no ROS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visarl.contract import CAMERA_RATE_HZ
from visarl.robot.safety import POLICY


@dataclass(frozen=True)
class Executed:
    """One `arm/executed`: what the arm was sent."""

    stamp_ns: int
    observed_ns: int
    """Stamp of the camera frame that it answers; 0 where there was none."""
    source: str
    command: tuple[float, ...]
    """Twist [m/s, rad/s] and gripper speed."""


def since(executed: Iterable[Executed], began_ns: int) -> list[Executed]:
    """Without what was sent before `began_ns`, and without what answers a frame of before: of the scene before."""
    return [e for e in executed if e.stamp_ns >= began_ns and not 0 < e.observed_ns < began_ns]


def answers(executed: Iterable[Executed]) -> list[Executed]:
    """The first command for each camera frame: the arm repeats it until the next, and repeating is no answer."""
    found: dict[int, Executed] = {}
    for item in sorted(executed, key=lambda e: e.stamp_ns):
        if item.source == POLICY and item.observed_ns:
            found.setdefault(item.observed_ns, item)
    return list(found.values())


def latency_ms(found: Sequence[Executed]) -> NDArray[np.float64]:
    """From the camera frame's stamp to the executed command's, one a command."""
    return np.array([(item.stamp_ns - item.observed_ns) / 1e6 for item in found])


def rate_hz(found: Sequence[Executed]) -> float:
    """Answers a second between the first and the last; 0 for fewer than two."""
    if len(found) < 2:
        return 0.0
    return (len(found) - 1) / ((found[-1].stamp_ns - found[0].stamp_ns) / 1e9)


def missing(stamps_ns: Sequence[int], began_ns: int, ended_ns: int, nominal_hz: float = CAMERA_RATE_HZ) -> int:
    """Frames that a stream of this rate should have had from `began_ns` to `ended_ns`, and had not, by their stamps.

    A frame at each end is let pass: the first may be due only a period after the beginning, the last is on its way.
    """
    stamps = np.sort(np.asarray(stamps_ns, dtype=np.int64))
    periods = np.diff(np.concatenate([[began_ns], stamps, [ended_ns]])) / 1e9 * nominal_hz
    periods = np.concatenate([np.floor(periods[:1]), np.rint(periods[1:-1]), np.floor(periods[1:][-1:])])
    return int(np.maximum(periods - 1, 0).sum())
