"""Pictures of a study's figures, to be read at 800 pixels' width, in colours that everybody tells apart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.study.arms import OURS, PAPER, PAPER_STARTS
from training.study.verdict import Rate, pooled, tasks_of, with_distractors

BLUE, ORANGE, GREY, SKY = "#0072B2", "#D55E00", "#999999", "#56B4E9"
"""Of Okabe and Ito's palette."""
GROUPS = {
    "rgb": GREY, "rgb_softmax": GREY, "pretraining_only": GREY, "shuffled": ORANGE, "oracle": ORANGE, "state": ORANGE,
}  # fmt: skip
"""Arms that see RGB alone, and the controls; the others see saliency."""
WIDTH, DPI = 10.0, 160


def colour(arm: str) -> str:
    """Ours stands out; what sees no saliency and what is a control is told apart."""
    return BLUE if arm == OURS else GROUPS.get(arm, SKY)


def bars(table: Mapping[str, Any], titles: Mapping[str, str], path: Path) -> None:
    """A panel a task and one for the sum, a bar an arm with its 95 % interval (Wilson), and the paper's rates.

    Args:
        table: `results["table5"]`.
        titles: of the arms.
        path: receives a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tasks, arms = tasks_of(table), list(table)
    hard = with_distractors(tasks)
    panels = [([task], task.replace("_", " ") + ("\nunseen distractors" if task in hard else "\n")) for task in tasks]
    panels += [(tasks, "sum\n")] if len(tasks) > 1 else []
    figure = Figure(figsize=(WIDTH, 1.9 + 0.5 * len(arms)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (of, title) in zip(axes, panels, strict=True):
        for row, arm in enumerate(arms):
            if (rate := pooled(table, arm, of)) is not None:
                _bar(axis, row, rate, colour(arm))
            if (paper := _paper(arm, of)) is not None:
                axis.plot(paper, row + 0.3, marker="D", ms=6.5, mfc="white", mec="black", ls="none", zorder=4)
        axis.set_title(title, fontsize=11)
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "50", "100"], fontsize=10)
        axis.grid(axis="x", color="#DDDDDD", zorder=0)
        axis.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    axes[0].set_yticks(range(len(arms)), [textwrap.fill(titles.get(arm, arm), 27) for arm in arms], fontsize=10)
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    known = {BLUE: "ours", SKY: "with saliency", GREY: "RGB alone in use", ORANGE: "control"}
    axes[len(axes) // 2].set_xlabel("success, %", fontsize=10)
    handles: list[Any] = [Patch(color=c, label=text) for c, text in known.items() if c in map(colour, arms)]
    handles.append(Line2D([], [], color="black", lw=1.5, label="95 % interval"))
    if any(_paper(arm, tasks) is not None for arm in arms):
        marker = {"marker": "D", "mfc": "white", "mec": "black", "ls": "none"}
        handles.append(Line2D([], [], label="the paper, real arm", **marker))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _bar(axis: Any, row: int, rate: Rate, fill: str) -> None:
    low, high = rate.interval
    axis.barh(row, rate.share, height=0.72, color=fill, zorder=2)
    axis.plot([low, high], [row, row], color="black", lw=1.5, zorder=3)
    inside = rate.share > 0.35
    axis.text(
        0.03 if inside else high + 0.04, row, f"{100 * rate.share:.0f}", va="center", fontsize=9.5, zorder=5,
        color="white" if inside and fill != SKY else "black",
    )  # fmt: skip


def _paper(arm: str, tasks: Sequence[str]) -> float | None:
    known = PAPER.get(arm, {})
    if not all(task in known for task in tasks):
        return None
    return sum(known[task] for task in tasks) / (PAPER_STARTS * len(tasks))
