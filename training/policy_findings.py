"""What a person should know of a policy on demonstrations. Pure; the bounds are rules of thumb, as in `findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.cloning import Demonstration
from training.findings import Finding, Recorded, listed, short
from visarl.aim import FADE_FROM, project
from visarl.contract import ArmContract
from visarl.normalisation import Normalisation
from visarl.robot.kinematics import tool_position

LOOKS_LEAST = 2.0
"""The loss with another demo's pictures, as a multiple of that with its own."""
KNOWS_MOST = 0.5
"""The loss, as a share of that of always doing the mean action."""
MOVES_LEAST = 0.5
"""Deviation of the policy's actions, as a share of the demonstrator's."""
ALIKE = 0.005
"""Deviation up to which an action is always the same [its bound]."""
BEYOND, BEYOND_MAX = 1.05, 0.01
"""How far an action may exceed what the policy can say, and of how many steps."""
TRUSTED_LEAST = 0.5
"""Share of the steps in which a role's keypoint is trusted."""
CAMERA_MAX = 0.04
"""From the hand's keypoint to where the joints put it in the picture, median [side of the picture]."""
CLEAR, CLEAR_LEAST = 0.4, 10
"""Confidence from which a keypoint tells where the camera stands, and how many of them are needed."""


@dataclass(frozen=True)
class Scored:
    """The policy's losses on the demos, as training reports them."""

    own: float
    other: float
    """With another demo's embeddings."""
    mean_action: float
    """Of always doing the mean action of these demos."""
    each: Mapping[str, float]
    """`own` by demo"""
    each_other: Mapping[str, float]
    seen: int
    """So many of the demos, the first ones, were trained on; `own` and `other` are of the rest, where there is one."""

    @property
    def unseen(self) -> int:
        return len(self.each) - self.seen


def looks(scored: Scored) -> Finding:
    """Told by the median demo: one that the policy does not follow at all is as bad with any picture."""
    times = float(np.median([scored.each_other[name] / max(own, 1e-12) for name, own in scored.each.items()]))
    other = "another demo's pictures" if len(scored.each) > 1 else "its own pictures backwards"
    return Finding(
        "looks at the picture",
        f"loss {scored.own:.4f}, with {other} {scored.other:.4f}; {times:.1f} times in the median demo",
        f"at least {LOOKS_LEAST:g} times",
        "it does much the same whatever it sees: look at the saliency (the pictures of `visarl demo`, `visarl score "
        "saliency`), and put the object in other places while you record"
        if times < LOOKS_LEAST
        else "",
        {"own": scored.own, "other": scored.other, "median_ratio": times},
    )


def knows(scored: Scored) -> Finding:
    worst = max(scored.each, key=lambda name: scored.each[name])
    bad = [name for name, loss in scored.each.items() if loss > KNOWS_MOST * scored.mean_action]
    advice = ""
    if bad and scored.unseen:
        advice = (
            f"it does not follow {listed(bad)}: record more of the kind, the object in that place, done in that manner"
        )
    elif bad:
        advice = f"it has not even learnt {listed(bad)}, which it was trained on: longer training (--iterations)"
    return Finding(
        "follows the demos" if scored.unseen else "knows its own demos",
        f"loss {scored.own:.4f}, worst {scored.each[worst]:.4f} ({worst}); always the mean action "
        f"{scored.mean_action:.4f}",
        f"each at most {KNOWS_MOST:g} of the mean action's",
        advice,
        {"own": scored.own, "mean_action": scored.mean_action, "each": dict(scored.each), "seen": scored.seen},
    )


def spread(demos: NDArray[Any], policy: NDArray[Any], contract: ArmContract) -> NDArray[np.float64]:
    """The policy's deviation as a share of the demonstrator's, (A,); NaN of what is always done alike.

    Args:
        demos: (N, A), and what the policy does in the same moments.
    """
    taught = demos.std(axis=0)
    ratio = policy.std(axis=0) / np.maximum(taught, 1e-9)
    return np.asarray(np.where(taught > ALIKE * contract.action.high, ratio, np.nan))


def moves(demos: NDArray[Any], policy: NDArray[Any], contract: ArmContract) -> Finding:
    """Whether the policy moves as much as the demonstrator; arguments as of `spread`."""
    told = {short(contract, i): float(r) for i, r in enumerate(spread(demos, policy, contract)) if np.isfinite(r)}
    timid = [name for name, ratio in told.items() if ratio < MOVES_LEAST]
    least = min(told, key=lambda name: told[name], default="")
    return Finding(
        "moves as much",
        f"{told[least]:.0%} of the demonstrator's spread or more, least in {least}"
        if told
        else "the demonstrator always does the same",
        f"at least {MOVES_LEAST:.0%}",
        f"{listed(timid)}: it does the mean of what was shown; show one way of doing it, or more often"
        if timid
        else "",
        {"ratio": told},
    )


def beyond(demos: NDArray[Any], n: Normalisation, contract: ArmContract) -> Finding:
    """Whether the demonstrator (N, A) is faster than the policy can be."""
    over = np.abs(demos) > BEYOND * n.action_scale
    share, which = float(over.any(axis=1).mean()), [short(contract, i) for i in np.flatnonzero(over.any(axis=0))]
    return Finding(
        "faster than it can",
        f"{share:.1%} of the steps" + (f" ({listed(which)})" if which else ""),
        f"at most {BEYOND_MAX:.0%}",
        "these demos are faster than those it was trained on: teach at one pace, or train it on these"
        if share > BEYOND_MAX
        else "",
        {"share": share},
    )


def trusted(episodes: Sequence[Recorded], roles: Sequence[str]) -> list[Finding]:
    """How often each role's keypoint, (x, y, confidence) at the embedding's beginning, is trusted."""
    findings = []
    for k, role in enumerate(roles):
        shares = {e.name: trusted_share(e, k) for e in episodes}
        whole = float((np.concatenate([e.demo.embedding[:, 3 * k + 2] for e in episodes]) >= FADE_FROM).mean())
        worst = min(shares, key=lambda name: shares[name])
        never = [name for name, share in shares.items() if share == 0]
        advice = ""
        if never or whole < TRUSTED_LEAST:
            where = f"in {listed(never)} it is never found" if never else f"least in {worst}"
            advice = f"the saliency model does not find the {role} ({where}): click it there, and train saliency again"
        findings.append(
            Finding(
                f"sees the {role}",
                f"in {whole:.0%} of the steps"
                + (f"; least in {worst}, {shares[worst]:.0%}" if shares[worst] < whole else ""),
                f"at least {TRUSTED_LEAST:.0%}, in each demo some",
                advice,
                {"share": whole, "each": shares},
            )
        )
    return findings


def trusted_share(episode: Recorded, role: int) -> float:
    return float((episode.demo.embedding[:, 3 * role + 2] >= FADE_FROM).mean())


def camera(episodes: Sequence[Recorded], n: Normalisation, contract: ArmContract) -> Finding | None:
    """Whether the camera stands where it stood in training; None where too few keypoints of the hand tell."""
    seen = np.concatenate([e.demo.embedding[:, :3] for e in episodes])
    tool = tool_position(contract, np.concatenate([e.demo.proprioception for e in episodes]))
    sure = seen[:, 2] >= CLEAR
    if sure.sum() < CLEAR_LEAST:
        return None
    off = float(np.median(np.linalg.norm(project(n.camera, tool[sure]) - seen[sure, :2], axis=1))) / 2
    return Finding(
        "camera's place",
        f"the hand is seen {off:.1%} of the picture's side from where the joints put it",
        f"at most {CAMERA_MAX:.0%}",
        "the camera has moved since training, or the saliency takes something else for the hand: put it back where it "
        "was, or train on demonstrations from its new place"
        if off > CAMERA_MAX
        else "",
        {"median": off},
    )


def seen_in_training(n: Normalisation, variants: Sequence[Sequence[Demonstration]]) -> int:
    """How many of the first demos the normalisation was fitted to: it keeps the mean of their proprioception, which no
    other demonstrations have. 0 where it was fitted to others.

    Args:
        variants: the demos as training may have taken them.
    """
    for demos in variants:
        for count in range(len(demos), 0, -1):
            mean = np.concatenate([demo.proprioception for demo in demos[:count]]).mean(axis=0)
            if (np.abs(mean - n.proprioception_mean) <= 1e-4 * n.proprioception_std).all():
                return count
    return 0
