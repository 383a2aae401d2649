"""All that `visarl diagnose` found: as a page for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from training.cloning import Demonstration
from training.findings import AT_BOUND, JITTER_MAX_MS, PAUSE_MAX_S, Finding, Recorded, short
from training.policy_findings import KNOWS_MOST, Scored, spread, trusted_share
from visarl.bundle import Bundle
from visarl.contract import ArmContract

EDGES = (0, 5, 95, 100)
"""Percentiles of the actions that are told."""


@dataclass(frozen=True)
class Judged:
    """A bundle's policy on the file's demonstrations."""

    bundle: Bundle
    scored: Scored
    demos: list[Demonstration]
    """As training takes them, without failed tries."""
    actions: list[NDArray[np.float64]]
    """What the policy does in their moments, (T, A) physical"""
    roles: tuple[str, ...]
    """Of the keypoints that begin the embedding, where it has any."""


@dataclass(frozen=True)
class Diagnosis:
    """All that was found."""

    contract: ArmContract
    task: str
    file: Path
    episodes: list[Recorded]
    findings: list[Finding]
    judged: Judged | None

    @property
    def off(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.advice]


def page(found: Diagnosis) -> Group:
    """For a person's terminal of 80 columns or more."""
    tables = (demo_table(found), action_table(found), finding_table(found.findings))
    parts = [part for shown in (Text(_title(found)), *tables) for part in (shown, Text())]
    todo = Table.grid(padding=(0, 1))
    for finding in found.off:
        todo.add_row(Text("!", "red"), Text.assemble((f"{finding.name}: ", "bold"), finding.advice))
    if not found.off:
        todo.add_row("", "Nothing stands out. Next: `visarl demo` shows what the policy looks at, start by start.")
    return Group(*parts, todo)


def _title(found: Diagnosis) -> str:
    steps = sum(len(episode.stamps) for episode in found.episodes)
    lines = [f"{found.file}: {len(found.episodes)} demos of {found.task}, {steps} steps"]
    if found.judged is not None:
        bundle, seen = found.judged.bundle, found.judged.scored.seen
        made = ", ".join(str(bundle.provenance[key]) for key in ("command", "made") if key in bundle.provenance)
        lines.append(f"{bundle.folder} ({bundle.id})" + (f": {made}" if made else ""))
        if seen == len(found.episodes):
            lines.append(
                "It was trained on these very demos: its losses say how well it knows them, not what it does "
                "elsewhere. Give others, as `visarl record --seed 400` makes them."
            )
        elif seen:
            lines.append(f"It was trained on the first {seen} of these demos; its losses are those on the others.")
        else:
            own = bundle.metrics.get("policy_losses", {}).get("train")
            known = "" if own is None else f" On those that it was trained on its loss was {own:.4f}."
            lines.append("As far as the bundle tells, these are not the demos that it was trained on." + known)
    return "\n".join(lines)


def demo_table(found: Diagnosis) -> Table:
    """One row a demo; red is what stands out."""
    judged = found.judged
    roles = () if judged is None else judged.roles
    heads = ["demo", "steps", "idle\n%", "pause\ns", "closes", "jitter\np95 ms", "frame\np95 ms"]
    heads += [] if judged is None else ["loss\nown", "loss\nother"]
    shown = _table([*heads, *(f"{role}\n%" for role in roles)])
    usual = np.median([episode.closings for episode in found.episodes])
    for episode in found.episodes:
        pause, jitter = episode.pause_s(found.contract), float(np.percentile(episode.jitter_ms, 95))
        row = [
            episode.name,
            str(len(episode.stamps)),
            f"{100 * episode.idle(found.contract).mean():.0f}",
            _marked(f"{pause:.1f}", pause > PAUSE_MAX_S),
            _marked(str(episode.closings), episode.closings != usual),
            _marked(f"{jitter:.0f}", jitter > JITTER_MAX_MS),
            f"{np.percentile(episode.age_ms, 95):.0f}",
        ]
        if judged is not None:
            own = judged.scored.each[episode.name]
            row += [_marked(f"{own:.4f}", own > KNOWS_MOST * judged.scored.mean_action)]
            row += [f"{judged.scored.each_other[episode.name]:.4f}"]
        shares = [trusted_share(episode, k) for k in range(len(roles))]
        shown.add_row(*row, *(_marked(f"{100 * share:.0f}", share == 0) for share in shares))
    return shown


def action_table(found: Diagnosis) -> Table:
    """One row an action, of a control period: what is allowed, taught and done."""
    judged = found.judged
    heads = ["action", "bound", *([] if judged is None else ["scale"]), "least", "5 %", "95 %", "most", "at\nbound"]
    shown = _table([*heads, *([] if judged is None else ["policy\n5 %", "policy\n95 %", "policy\nmoves"])])
    for told in actions_of(found):
        row = [told["bound"], *([] if judged is None else [told["scale"]]), *told["demos"]]
        policy = [] if judged is None else [*(f"{x:.1f}" for x in told["policy"][1:3]), _percent(told["moves"])]
        shown.add_row(
            f"{told['action']} {told['unit']}".strip(), *(f"{x:.1f}" for x in row), _percent(told["at_bound"]), *policy
        )
    return shown


def actions_of(found: Diagnosis) -> list[dict[str, Any]]:
    """By action, in mm and mrad a control period: its bound, percentiles of the demos at `EDGES`, share of the steps at
    the bound; with a bundle the most that the policy can say, percentiles of what it does, and its deviation as a share
    of the demos'."""
    judged, contract = found.judged, found.contract
    demos = np.concatenate([episode.demo.actions for episode in found.episodes])
    factors = np.array([1e3 if item.unit in ("m", "rad") else 1.0 for item in contract.action.fields])
    told: list[dict[str, Any]] = [
        {
            "action": short(contract, i),
            "unit": {"m": "mm", "rad": "mrad"}.get(item.unit, ""),
            "bound": factors[i] * item.high,
            "demos": _edges(factors[i] * demos[:, i]),
            "at_bound": float((np.abs(demos[:, i]) >= AT_BOUND * item.high).mean()),
        }
        for i, item in enumerate(contract.action.fields)
    ]
    if judged is not None:
        taken, done = np.concatenate([demo.actions for demo in judged.demos]), np.concatenate(judged.actions)
        scale, ratios = factors * judged.bundle.normalisation.action_scale, spread(taken, done, contract)
        for i, one in enumerate(told):
            one |= {"scale": float(scale[i]), "policy": _edges(factors[i] * done[:, i])}
            one["moves"] = float(ratios[i]) if np.isfinite(ratios[i]) else None
    return told


def finding_table(findings: Iterable[Finding]) -> Table:
    """What was found, and what is usual."""
    shown = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    for head in ("", "finding", "found", "usual"):
        shown.add_column(head)
    for finding in findings:
        shown.add_row(_marked("!", True) if finding.advice else "", finding.name, finding.found, finding.usual)
    return shown


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The same for a program, with the figures as numbers."""
    judged = found.judged
    return {
        "episodes": found.file.name,
        "task": found.task,
        "bundle": None if judged is None else judged.bundle.id,
        "trained_on": None if judged is None else judged.scored.seen,
        "demos": [{"demo": e.name, "bag": e.bag, **_figures(found, e)} for e in found.episodes],
        "actions": actions_of(found),
        "findings": [
            {
                "name": finding.name,
                "off": bool(finding.advice),
                "found": finding.found,
                "usual": finding.usual,
                "advice": finding.advice,
                "figures": dict(finding.figures),
            }
            for finding in found.findings
        ],
    }


def _figures(found: Diagnosis, episode: Recorded) -> dict[str, Any]:
    judged = found.judged
    figures: dict[str, Any] = {
        "steps": len(episode.stamps),
        "idle": float(episode.idle(found.contract).mean()),
        "pause_s": episode.pause_s(found.contract),
        "closings": episode.closings,
        "jitter_ms_p95": float(np.percentile(episode.jitter_ms, 95)),
        "frame_age_ms_p95": float(np.percentile(episode.age_ms, 95)),
    }
    if judged is not None:
        figures["loss"] = judged.scored.each[episode.name]
        figures["loss_shuffled"] = judged.scored.each_other[episode.name]
        figures["trusted"] = {role: trusted_share(episode, k) for k, role in enumerate(judged.roles)}
    return figures


def _edges(values: NDArray[np.floating]) -> list[float]:
    return [float(value) for value in np.percentile(values, EDGES)]


def _table(heads: Sequence[str]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for i, head in enumerate(heads):
        shown.add_column(head, justify="right" if i else "left", no_wrap=True)
    return shown


def _marked(text: str, off: bool) -> str:
    return f"[red]{text}[/]" if off else text


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
