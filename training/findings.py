"""What a person should know of demonstrations before training on them or recording more. Pure.

Each finding is a figure, what is usual, and, where it is off, what to do. The bounds are rules of thumb, wide enough
for the simulator's demonstrations, which are good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.cloning import GRASP, Demonstration, gripper_turns
from visarl.contract import CONTROL_RATE_HZ, ArmContract
from visarl.data.align import IDLE_SHARE, MAX_FRAME_AGE_S
from visarl.data.rates import TopicReport

PERIOD_MS = 1e3 / CONTROL_RATE_HZ

FINGERS_MOVE = 0.01
"""Share of a finger's way in a control period from which it moves. The gripper's command does not tell: it may press a
closed hand on and on."""
IDLE_MAX, PAUSE_MAX_S = 0.1, 1.0
"""Share of idle steps, and the longest pause, that teach a policy to wait."""
LENGTHS_MAX = 2.0
"""From a demo's length to the median one."""
AT_BOUND, AT_BOUND_MAX = 0.99, 0.05
"""Share of its bound from which an action is cut or nearly so; of how many steps that may be said."""
JITTER_MAX_MS, AGE_MAX_MS, HOLES_MAX = 25.0, PERIOD_MS, 0.01
"""Of 95 % of the control periods; of 95 % of the frames; share of steps that are missing or have no new frame."""
LOST_MAX = 0.03
"""Share of a topic's messages that are missing, or so late that they count as missing (`TopicReport.drops`)."""


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    name: str
    found: str
    usual: str
    advice: str = ""
    """What to do; empty where nothing is off."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The same in plain JSON values."""


@dataclass(frozen=True)
class Recorded:
    """One episode of the file, but its pictures."""

    demo: Demonstration
    """`embedding`: what the bundle makes of the pictures; (T, 0) without a bundle."""
    bag: str
    stamps: NDArray[np.int64]
    """(T,) of the actions [ns]"""
    frame_stamps: NDArray[np.int64]
    stale: int
    """Actions without a fresh frame or arm state, left out by the conversion."""

    @property
    def name(self) -> str:
        return self.demo.name

    @property
    def jitter_ms(self) -> NDArray[np.float64]:
        """(T - 1,) how far each control period is from the contract's."""
        return np.abs(np.diff(self.stamps) / 1e6 - PERIOD_MS)

    @property
    def age_ms(self) -> NDArray[np.float64]:
        """(T,) from the frame to its action."""
        return (self.stamps - self.frame_stamps) / 1e6

    @property
    def closings(self) -> int:
        return len(gripper_turns(self.demo, GRASP))

    def idle(self, contract: ArmContract) -> NDArray[np.bool_]:
        """(T,) whether neither arm nor fingers are told to move, or do."""
        still = (np.abs(self.demo.actions[:, :-1] / contract.action.high[:-1]) <= IDLE_SHARE).all(axis=1)
        fingers = self.demo.proprioception[:, -contract.fingers :]
        moved = np.abs(np.diff(fingers, axis=0, append=fingers[-1:])).max(axis=1)
        return np.asarray(still & (moved < FINGERS_MOVE))

    def pause_s(self, contract: ArmContract) -> float:
        """The longest row of idle steps."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.idle(contract), [False]]).astype(int)))
        return float((edges[1::2] - edges[::2]).max(initial=0)) / CONTROL_RATE_HZ


# ---- the demonstrations ----------------------------------------------------------------------------------------------


def of_demonstrations(episodes: Sequence[Recorded], contract: ArmContract) -> list[Finding]:
    """What the episode file alone tells."""
    return [
        _lengths(episodes),
        _idle(episodes, contract),
        _closings(episodes),
        _at_bound(episodes, contract),
        _still(episodes, contract),
        _jitter(episodes),
        _age(episodes),
    ]


def _lengths(episodes: Sequence[Recorded]) -> Finding:
    steps = [len(e.stamps) for e in episodes]
    usual = float(np.median(steps))
    odd = [e.name for e, n in zip(episodes, steps, strict=True) if not 1 / LENGTHS_MAX <= n / usual <= LENGTHS_MAX]
    return Finding(
        "lengths",
        f"{min(steps)} to {max(steps)} steps, median {usual:.0f}",
        f"within {LENGTHS_MAX:g} times the median",
        f"look at {listed(odd)}: cut short, or done in another manner? Record anew what stands out" if odd else "",
        {"steps": steps, "odd": odd},
    )


def _idle(episodes: Sequence[Recorded], contract: ArmContract) -> Finding:
    share = float(np.concatenate([e.idle(contract) for e in episodes]).mean())
    pauses = [e.pause_s(contract) for e in episodes]
    worst = episodes[int(np.argmax(pauses))].name
    long = [e.name for e, pause in zip(episodes, pauses, strict=True) if pause > PAUSE_MAX_S]
    advice = ""
    if long or share > IDLE_MAX:
        advice = (
            f"the hand waits in {listed(long) or worst}; a clone that has learnt to wait does not start again: record "
            "without pauses"
        )
    return Finding(
        "idle steps",
        f"{share:.1%}; longest pause {max(pauses):.1f} s" + (f" ({worst})" if max(pauses) else ""),
        f"at most {IDLE_MAX:.0%} and {PAUSE_MAX_S:g} s",
        advice,
        {"share": share, "longest_s": max(pauses), "in": worst},
    )


def _closings(episodes: Sequence[Recorded]) -> Finding:
    closings = [e.closings for e in episodes]
    usual = int(np.median(closings))
    more = [e.name for e, n in zip(episodes, closings, strict=True) if n > usual]
    fewer = [e.name for e, n in zip(episodes, closings, strict=True) if n < usual]
    advice = []
    if more:
        left_out = "training leaves out what comes before the last try; " if usual else ""
        advice.append(f"{listed(more)}: a grasp that failed at first? {left_out}record it anew")
    if fewer:
        advice.append(f"{listed(fewer)}: the hand closes less often than in the others; is the demo whole?")
    found = f"{min(closings)} to {max(closings)} a demo" if len(set(closings)) > 1 else f"{usual} in each demo"
    return Finding(
        "closings of the hand", found, "as many in each", "; ".join(advice), {"closings": closings, "usual": usual}
    )


def _at_bound(episodes: Sequence[Recorded], contract: ArmContract) -> Finding:
    shares = _shares(episodes, contract)[:, :-1]
    pressed = (shares >= AT_BOUND).mean(axis=0)
    some, worst = float((shares >= AT_BOUND).any(axis=1).mean()), short(contract, int(pressed.argmax()))
    fastest = shares.max()
    return Finding(
        "steps at a bound",
        f"{some:.1%}" + (f", mostly of {worst}" if some else f"; fastest at {fastest:.0%} of its bound"),
        f"at most {AT_BOUND_MAX:.0%}",
        f"{worst} is driven against its bound, and what lies beyond is cut: teach more slowly"
        if some > AT_BOUND_MAX
        else "",
        {"share": some, "fastest": float(fastest)},
    )


def _still(episodes: Sequence[Recorded], contract: ArmContract) -> Finding:
    still = [short(contract, i) for i in np.flatnonzero(_shares(episodes, contract).max(axis=0) <= IDLE_SHARE)]
    return Finding(
        "never moved",
        listed(still) or "nothing",
        "nothing that the task needs",
        f"no demo moves {listed(still)}, so no clone will: show it, if the task needs it" if still else "",
        {"actions": still},
    )


def _shares(episodes: Sequence[Recorded], contract: ArmContract) -> NDArray[np.float64]:
    """All actions, absolute, as shares of their bounds, (N, A)."""
    return np.asarray(np.abs(np.concatenate([e.demo.actions for e in episodes])) / contract.action.high)


# ---- their timing ----------------------------------------------------------------------------------------------------


def _jitter(episodes: Sequence[Recorded]) -> Finding:
    off = np.concatenate([e.jitter_ms for e in episodes])
    p50, p95 = (float(value) for value in np.percentile(off, [50, 95]))
    worst = max(episodes, key=lambda e: float(e.jitter_ms.max()))
    gaps = sum(int((np.diff(e.stamps) > 1.5e6 * PERIOD_MS).sum()) for e in episodes)
    stale = sum(e.stale for e in episodes)
    holes = (gaps + stale) / len(off)
    return Finding(
        "control period",
        f"off {PERIOD_MS:.0f} ms by p50 {p50:.0f}, p95 {p95:.0f}, most {off.max():.0f} ({worst.name}); {gaps} gaps, "
        f"{stale} stale steps left out",
        f"p95 at most {JITTER_MAX_MS:.0f} ms; gaps and stale steps {HOLES_MAX:.0%}",
        "the demonstrator's commands came unevenly: record with less load on the machine, and look at the teleop's rate"
        if p95 > JITTER_MAX_MS or holes > HOLES_MAX
        else "",
        {"p50_ms": p50, "p95_ms": p95, "max_ms": float(off.max()), "gaps": gaps, "stale": stale},
    )


def _age(episodes: Sequence[Recorded]) -> Finding:
    age = np.concatenate([e.age_ms for e in episodes])
    p50, p95 = (float(value) for value in np.percentile(age, [50, 95]))
    again = float(np.concatenate([np.diff(e.frame_stamps) == 0 for e in episodes]).mean())
    worst = max(episodes, key=lambda e: float(e.age_ms.max()))
    return Finding(
        "age of frames",
        f"p50 {p50:.0f} ms, p95 {p95:.0f}, most {age.max():.0f} ({worst.name}); none new in {again:.1%} of the steps",
        f"p95 at most {AGE_MAX_MS:.0f} ms; in {HOLES_MAX:.0%}",
        f"the pictures come late or hang (over {1e3 * MAX_FRAME_AGE_S:.0f} ms the conversion leaves a step out): a "
        "faster or nearer camera, fewer pixels, no other load on its cable"
        if p95 > AGE_MAX_MS or again > HOLES_MAX
        else "",
        {"p50_ms": p50, "p95_ms": p95, "max_ms": float(age.max()), "without_new": again},
    )


def lost(reports: Mapping[str, Sequence[TopicReport]], missing: Sequence[str]) -> Finding:
    """What was lost on the way into the recordings.

    Args:
        reports: by demo, of the topics that training reads.
        missing: demos whose recording is not there.
    """
    shares: dict[str, float] = {}
    told = []
    for topic in dict.fromkeys(report.topic for found in reports.values() for report in found):
        those = [report for found in reports.values() for report in found if report.topic == topic]
        dropped, count = sum(report.drops for report in those), sum(report.count for report in those)
        shares[topic] = dropped / (dropped + count)
        gap = max(report.max_gap_ms for report in those)
        told.append(f"{topic.split('/')[0]} {dropped} of {dropped + count}, longest gap {gap:.0f} ms")
    bad = [topic for topic, share in shares.items() if share > LOST_MAX]
    return Finding(
        "lost on the way",
        "; ".join(told) + (f"; no bag of {listed(missing)}" if missing else ""),
        f"at most {LOST_MAX:.0%} of each",
        f"{listed(bad)} lost messages: a full disk, a busy machine or a bad cable; record anew" if bad else "",
        {"lost": shares, "missing": list(missing)},
    )


def short(contract: ArmContract, action: int) -> str:
    return contract.action.names[action].removeprefix("delta_")


def listed(names: Sequence[str]) -> str:
    return ", ".join(names)
