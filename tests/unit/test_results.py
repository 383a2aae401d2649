"""The published results are consistent: the page says what the figures say, and nobody typed on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.study import page, results
from visarl.bundle import load_bundle
from visarl.ros.workspace import ROOT
from visarl.sim.seeds import EVALUATION_SEEDS
from visarl.stats import wilson

DOCS = ROOT / "docs"
FOUND = json.loads((DOCS / results.FILE).read_text()) if (DOCS / results.FILE).exists() else {}

published = pytest.mark.skipif("table5" not in FOUND, reason="docs/results.json holds no study of Table V")


@pytest.mark.skipif(not FOUND, reason="no results are published")
def test_the_page_is_what_the_figures_give(tmp_path: Path) -> None:
    assert (DOCS / results.PAGE).read_text() == page.render(FOUND, tmp_path), (
        'python -c "from pathlib import Path; from training.study import results; '
        "results.publish(Path('docs'), {})\" writes it anew"
    )


@published
def test_counts_and_intervals_follow_from_the_starts() -> None:
    for arm, tasks in FOUND["table5"].items():
        for task, cell in tasks.items():
            starts = FOUND["table5_starts"][arm][task]
            assert {key: cell[key] for key in results.rate(starts)} == results.rate(starts)
            assert cell["interval"] == pytest.approx(wilson(cell["success"], cell["n"]), abs=1e-3)
            assert sum(cell["by_training_seed"]) == cell["success"]
            scenes = [start[0] for start in starts]
            assert set(scenes) <= set(EVALUATION_SEEDS) and len(set(scenes)) == len(scenes)


@published
def test_what_is_shipped_is_what_was_measured() -> None:
    for task, shown in FOUND.get("table5_showcase", {}).get("bundles", {}).items():
        bundle = load_bundle(ROOT / "bundles" / task)
        assert (bundle.id, bundle.task) == (shown["id"], task)
        assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 30e6
