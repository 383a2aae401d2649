"""The bundle that the repository ships does its task: over the real graph, and in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from visarl.ros.stranger import free_domain
from visarl.ros.workspace import ROOT
from visarl.training_options import Evaluate

BUNDLE = ROOT / "bundles" / "pick_red_block"
SEED = 1000
"""A scene of `make demo`."""

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not (BUNDLE / "bundle.json").is_file(), reason=f"{BUNDLE.relative_to(ROOT)} is not in the tree"),
]


def outcome(out: Path, graph: bool) -> dict[str, object]:
    from training.evaluate import evaluate

    wanted = Evaluate(
        bundle=BUNDLE, seeds=f"{SEED}:{SEED + 1}", graph=graph, domain=free_domain(), workers=1, out=out / "result.json"
    )
    result = evaluate(wanted)
    assert (out / "result.json").is_file()
    return {key: result[key] for key in ("task", "n", "success", "success_ever")}


def test_the_graph_picks_the_block_up_and_so_does_the_same_bundle_in_process(tmp_path: Path) -> None:
    driven = outcome(tmp_path, graph=True)
    assert driven == {"task": "pick_red_block", "n": 1, "success": 1, "success_ever": 1}
    assert outcome(tmp_path, graph=False) == driven
