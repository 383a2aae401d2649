"""Whether the targets of Table V are met, and what the controls say about the reason: by rules, from the figures alone.

A table is `results["table5"]`: {arm: {task: {n, success, ...}}}, see `training.study.results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.study.arms import OURS, PAPER, PAPER_CLAIM, PAPER_STARTS, PAPER_TASKS, RGB_ARMS, WHERE_IT_HELPS
from visarl.sim.tasks import get_task
from visarl.stats import wilson

Table = Mapping[str, Mapping[str, Mapping[str, Any]]]

ALL, DISTRACTORS, TIMES = 0.85, 0.80, 2.0
"""Targets: of our arm over all tasks, on those with unseen distractors, and there as a multiple of the best RGB arm."""

TELLING = 0.10
"""A control that differs by less says nothing: with 51 starts a rate of 0.8 is known to about that."""


@dataclass(frozen=True)
class Rate:
    """Successes over the starts of some tasks."""

    success: int
    n: int

    @property
    def share(self) -> float:
        return self.success / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.success, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.0f} % ({self.success} of {self.n}, {100 * low:.0f} to {100 * high:.0f} %)"


@dataclass(frozen=True)
class Verdict:
    """One target, and how it went."""

    target: str
    measured: str
    met: bool | None
    """None: not measured."""
    by: str
    """How far above or below."""


def pooled(table: Table, arm: str, tasks: Sequence[str]) -> Rate | None:
    """An arm over `tasks`; None where one of them is missing or none is asked for."""
    cells = [table.get(arm, {}).get(task) for task in tasks]
    if not cells or any(cell is None for cell in cells):
        return None
    return Rate(sum(cell["success"] for cell in cells if cell), sum(cell["n"] for cell in cells if cell))


def tasks_of(table: Table) -> list[str]:
    """The tasks that any arm was tried on, the paper's in its order."""
    known = {task: None for of in table.values() for task in of}
    return [task for task in PAPER_TASKS if task in known] + [task for task in known if task not in PAPER_TASKS]


def with_distractors(tasks: Sequence[str]) -> list[str]:
    """Those whose evaluation scenes show distractors that training did not."""
    return [task for task in tasks if get_task(task).distractors]


def best(table: Table, arms: Sequence[str], tasks: Sequence[str]) -> tuple[str, Rate] | None:
    """The arm of `arms` with most successes over `tasks`; of equal ones the first."""
    found = [(arm, rate) for arm in arms if (rate := pooled(table, arm, tasks)) is not None]
    return max(found, key=lambda pair: pair[1].share) if found else None


def points(difference: float) -> str:
    """Of a difference of two shares."""
    return f"{100 * difference:+.1f} points"


def targets(table: Table) -> list[Verdict]:
    """The study's four targets, each met, missed or not measured."""
    tasks = tasks_of(table)
    hard = with_distractors(tasks)
    missing = [task for task in PAPER_TASKS if task not in tasks]
    note = f"; without {', '.join(missing)}" if missing else ""
    ours, ours_hard = pooled(table, OURS, tasks), pooled(table, OURS, hard)
    return [
        _level(f"at least {100 * ALL:.0f} % over the four tasks", ours, ALL, note),
        _level(f"at least {100 * DISTRACTORS:.0f} % on the tasks with unseen distractors", ours_hard, DISTRACTORS, ""),
        _multiple(ours_hard, best(table, RGB_ARMS, hard), pooled(table, "pretraining_only", hard)),
        _apart(ours, pooled(table, "shuffled", tasks)),
    ]


def _level(target: str, rate: Rate | None, level: float, note: str) -> Verdict:
    if rate is None:
        return Verdict(target, "not measured", None, "")
    return Verdict(target, f"{rate}{note}", rate.share >= level, points(rate.share - level))


def _multiple(ours: Rate | None, other: tuple[str, Rate] | None, pretrained: Rate | None) -> Verdict:
    target = f"there at least {TIMES:g} times the best RGB arm"
    if ours is None or other is None:
        return Verdict(target, "not measured", None, "")
    arm, rate = other
    measured = f"{100 * ours.share:.0f} % beside {100 * rate.share:.0f} % of `{arm}`"
    if rate.success == 0:
        return Verdict(target, f"{measured}, which never succeeds", ours.success > 0, "")
    times = ours.share / rate.share
    measured += f", {times:.2f} times"
    if TIMES * rate.share > 1:
        measured += f"; {TIMES:g} times its rate would be more than 100 %"
    if pretrained is not None and pretrained.success > 0:
        measured += (
            f" ({ours.share / pretrained.share:.2f} times `pretraining_only`, which saw saliency in pretraining)"
        )
    return Verdict(target, measured, times >= TIMES, f"{times - TIMES:+.2f} times")


def _apart(ours: Rate | None, shuffled: Rate | None) -> Verdict:
    target = "above shuffled saliency, intervals apart on the sum"
    if ours is None or shuffled is None:
        return Verdict(target, "not measured", None, "")
    gap = ours.interval[0] - shuffled.interval[1]
    measured = f"{100 * ours.share:.0f} % beside {100 * shuffled.share:.0f} %"
    return Verdict(target, measured, gap > 0, f"{points(gap)} between the intervals")


def bottleneck(ours: Rate, oracle: Rate | None, state: Rate | None, target: float) -> str:
    """What holds our arm back, by its controls: each is told more of the truth, so the first big step tells where it
    is lost.

    Args:
        oracle, state: the same policy on true maps, and on true positions; None if they were left out.
    """
    if ours.share >= target:
        return "target met"
    if oracle is None or state is None:
        return "below the target; the controls `oracle` and `state`, which would tell the reason, were left out"
    if oracle.share - ours.share >= TELLING:
        return f"saliency: true maps give {points(oracle.share - ours.share)}"
    if state.share - max(oracle.share, ours.share) >= TELLING:
        return (
            f"readout, or what the policy makes of it: true positions give {points(state.share - ours.share)}, "
            f"true maps {points(oracle.share - ours.share)}"
        )
    if state.share < target:
        return f"demonstrations or policy: even true positions reach {100 * state.share:.0f} % only"
    return f"nothing that {ours.n} starts can tell: no control differs by {100 * TELLING:.0f} points"


def readings(results: Mapping[str, Any]) -> list[str]:
    """Sentences on what the controls say of our arm over all tasks."""
    table: Table = results["table5"]
    tasks = tasks_of(table)
    ours = pooled(table, OURS, tasks)
    if ours is None:
        return [f"The arm `{OURS}` was left out, so the controls have nothing to be compared with."]
    oracle, state = pooled(table, "oracle", tasks), pooled(table, "state", tasks)
    found = [f"What holds it back over all tasks: {bottleneck(ours, oracle, state, ALL)}."]
    if oracle is not None and oracle.share > ours.share:
        found.append(
            f"Perfect saliency would succeed in {100 * oracle.share:.0f} %: the predicted maps cost "
            f"{100 * (oracle.share - ours.share):.1f} points{_beyond_chance(results, OURS, 'oracle')}."
        )
    elif oracle is not None:
        found.append(
            f"Perfect saliency succeeds in {100 * oracle.share:.0f} %, no more than the predicted maps: better maps "
            "would not help."
        )
    if (alone := pooled(table, "keypoints", tasks)) is not None:
        difference = ours.share - alone.share
        found.append(
            f"The encoder's embedding beside the keypoints is worth {points(difference)}"
            f"{_beyond_chance(results, OURS, 'keypoints')}: keypoints alone succeed in {100 * alone.share:.0f} %."
        )
    if (shuffled := pooled(table, "shuffled", tasks)) is not None:
        found.append(
            f"What the maps say is worth {points(ours.share - shuffled.share)}"
            f"{_beyond_chance(results, OURS, 'shuffled')}: with maps of other pictures the same arm succeeds in "
            f"{100 * shuffled.share:.0f} %."
        )
    return found + _papers_claim(results) + _losses(results)


def _papers_claim(results: Mapping[str, Any]) -> list[str]:
    table: Table = results["table5"]
    with_saliency, without = (pooled(table, arm, tasks_of(table)) for arm in PAPER_CLAIM)
    if with_saliency is None or without is None:
        return []
    theirs = [sum(PAPER[arm].values()) / PAPER_STARTS / len(PAPER[arm]) for arm in PAPER_CLAIM]
    found = [
        f"What the paper compares, its own readout with saliency and without, differs by "
        f"{points(with_saliency.share - without.share)}{_beyond_chance(results, *PAPER_CLAIM)}: "
        f"{100 * with_saliency.share:.0f} % beside {100 * without.share:.0f} %, on the paper's real arm "
        f"{100 * theirs[0]:.0f} % beside {100 * theirs[1]:.0f} %."
    ]
    halves = [_difference(results, *pair) for pair in WHERE_IT_HELPS]
    if all(halves):
        found.append(
            f"Of that, saliency in pretraining alone, the robot seeing RGB only, is worth {halves[0]}; maps that the "
            f"robot sees too, {halves[1]}."
        )
    return found


def _difference(results: Mapping[str, Any], one: str, other: str) -> str:
    """In points, and whether chance gives it; nothing where an arm is missing."""
    table: Table = results["table5"]
    mine, theirs = (pooled(table, arm, tasks_of(table)) for arm in (one, other))
    if mine is None or theirs is None:
        return ""
    return f"{points(mine.share - theirs.share)}{_beyond_chance(results, one, other)}"


def _beyond_chance(results: Mapping[str, Any], one: str, other: str) -> str:
    for test in results.get("table5_tests", []):
        if test["arms"] == [one, other]:
            return f" (paired, {p_value(test['p'])}{'' if test['p'] < 0.05 else ': no more than chance gives'})"
    return ""


def p_value(p: float) -> str:
    """In words."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


LOOKS = 2.0
"""A policy whose loss with another episode's embeddings is less than so many times its own hardly looks at them."""


def _losses(results: Mapping[str, Any]) -> list[str]:
    held_out = results.get("table5_about", {}).get("held_out", {})
    blind = [task for task, of in held_out.items() if OURS in of and look(of[OURS]) < LOOKS]
    if not blind:
        return []
    return [f"On {', '.join(blind)} the policy hardly looks at the picture: its loss is about the same with another's."]


def look(losses: Mapping[str, float]) -> float:
    """How many times larger the loss is with another episode's embeddings (`other`) than with its `own`."""
    return losses["other"] / max(losses["own"], 1e-12)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of several tests, raised by Holm's method so that any of them may be read as if it were the only one."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    raised, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        raised[i] = highest
    return raised
