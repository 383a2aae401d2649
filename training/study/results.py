"""Figures of the studies, and their page: `results.json` holds everything, `results.md` is written from it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from training.closed_loop import STAY_S
from training.common import write_json
from training.study import page
from training.study.arms import ARMS, OURS, PAPER_CLAIM, WHERE_IT_HELPS
from training.study.jobs import Figures, Plan
from visarl.data.files import write_text
from visarl.sim.seeds import EVALUATION_SEEDS, VALIDATION_SEEDS
from visarl.stats import wilson
from visarl.training_options import Table5

FILE, PAGE = "results.json", "results.md"


def table5(
    options: Table5,
    figures: Figures,
    recorded: dict[str, Any],
    graph: dict[str, Any],
    origin: dict[str, Any],
    plan: Plan,
) -> dict[str, Any]:
    """The study's part of `results.json`.

    Keys: `table5` {arm: {task: rate}}, `table5_sums` {arm: rate} over the tasks, `table5_starts` {arm: {task: [[seed,
    success, success_final, seconds]]}}, `table5_tests` [paired tests, see `tests`],
    `table5_about`.
    A rate is {n, success, interval, success_final, by_training_seed}; success is at any time.
    """
    starts = {
        arm: {
            task: [
                [start["seed"], start["success"], start["success_final"], start["seconds"]]
                for seed in range(options.seeds)
                for start in figures[f"starts/{arm}/{task}-{seed}"]["starts"]
            ]
            for task in options.tasks
        }
        for arm in options.arms
    }
    by_seed = {
        arm: {
            task: [
                sum(start["success"] for start in figures[f"starts/{arm}/{task}-{seed}"]["starts"])
                for seed in range(options.seeds)
            ]
            for task in options.tasks
        }
        for arm in options.arms
    }
    table = {
        arm: {task: rate(rows) | {"by_training_seed": by_seed[arm][task]} for task, rows in of.items()}
        for arm, of in starts.items()
    }
    markers = [stage.done() for stage in plan.stages.values()]
    spent = sum(marker["seconds"] for marker in markers if marker is not None)
    commits = dict.fromkeys(one for marker in markers if marker is not None for one in marker["commits"])
    return {
        "table5": table,
        "table5_sums": {arm: rate([row for rows in of.values() for row in rows]) for arm, of in starts.items()},
        "table5_tests": tests(starts),
        "table5_starts": starts,
        "table5_about": {
            **origin,
            "seeds": {
                "training": list(range(options.seeds)),
                "validation": list(VALIDATION_SEEDS[: options.select]),
                "evaluation": [EVALUATION_SEEDS.start, EVALUATION_SEEDS.start + options.rollouts],
            },
            "commit": ", ".join(commits) or origin["commit"],
            "core_seconds": round(spent, 1),
            "stay_s": STAY_S,
            "titles": {arm: ARMS[arm].title for arm in options.arms},
            "demonstrations": {
                task: {
                    "demos": found["recording"].get("episodes"),
                    "seconds": found["recording"].get("seconds"),
                    "steps": found["conversion"].get("steps"),
                    **found["annotation"],
                }
                for task, found in recorded.items()
            },
            "held_out": {task: figures[f"held_out/{task}"] for task in options.tasks if f"held_out/{task}" in figures},
            "probe": {task: figures[f"probe/{task}"] for task in options.tasks if f"probe/{task}" in figures},
            "saliency": {task: figures[f"score/{task}"] for task in options.tasks if f"score/{task}" in figures},
            "graph": graph,
        },
    }


def rate(rows: list[list[Any]]) -> dict[str, Any]:
    """Successes of starts [seed, success, success_final, seconds], with Wilson's 95 % interval."""
    success = sum(bool(row[1]) for row in rows)
    low, high = wilson(success, len(rows))
    return {
        "n": len(rows),
        "success": success,
        "interval": [round(low, 3), round(high, 3)],
        "success_final": sum(bool(row[2]) for row in rows),
    }


def tests(starts: dict[str, dict[str, list[list[Any]]]]) -> list[dict[str, Any]]:
    """Our arm against each other one, what the paper compares, and the two halves of that."""
    pairs = [(OURS, arm) for arm in starts if arm != OURS] + [PAPER_CLAIM, *WHERE_IT_HELPS]
    return [paired(one, other, starts) for one, other in pairs if one in starts and other in starts]


def paired(one: str, other: str, starts: dict[str, dict[str, list[list[Any]]]]) -> dict[str, Any]:
    """McNemar's exact test of two arms over the same scenes of the same tasks."""
    pairs = [
        (bool(a[1]), bool(b[1]))
        for task in starts[one]
        for a, b in zip(starts[one][task], starts[other][task], strict=True)
    ]
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return {"arms": [one, other], "n": len(pairs), "only_first": won, "only_second": lost, "p": p}


def publish(folder: Path, found: dict[str, Any]) -> Path:
    """Put one study's keys into the folder's `results.json`, beside those of others, and write the page anew; its
    path."""
    path = folder / FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, {**known, **found})
    write_text(folder / PAGE, page.render({**known, **found}, folder))
    return folder / PAGE
