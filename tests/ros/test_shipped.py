"""The bundles that the repository ships do their tasks: in this process, and one of them over the real graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from visarl.bundle import load_bundle
from visarl.ros.stranger import free_domain
from visarl.ros.workspace import ROOT
from visarl.training_options import Evaluate

BUNDLES = sorted(path.parent for path in ROOT.glob("bundles/*/bundle.json"))
DEMO = ROOT / "bundles" / "pick_red_block"
SEED = 1000
"""The first scene of `make demo`."""

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]


def outcome(bundle: Path, out: Path, **options: object) -> dict[str, object]:
    from training.evaluate import evaluate

    result = evaluate(Evaluate(bundle=bundle, workers=1, out=out / "result.json", **options))
    assert (out / "result.json").is_file() and result["task"] == load_bundle(bundle).task
    return result


@pytest.mark.skipif(not BUNDLES, reason="no bundle is in the tree")
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_bundle_does_its_task_in_process(bundle: Path, tmp_path: Path) -> None:
    done = outcome(bundle, tmp_path, seeds=f"{SEED}:{SEED + 1}")
    assert {key: done[key] for key in ("n", "success", "success_final")} == {"n": 1, "success": 1, "success_final": 1}


@pytest.mark.skipif(DEMO not in BUNDLES, reason=f"{DEMO.relative_to(ROOT)} is not in the tree")
def test_the_shipped_bundle_does_its_task_over_the_graph(tmp_path: Path) -> None:
    # In real time: a machine that is too slow for it here and there may lose a scene, not all of them.
    for seed in range(SEED, SEED + 3):
        done = outcome(DEMO, tmp_path, seeds=f"{seed}:{seed + 1}", graph=True, domain=free_domain(), limit_s=60.0)
        print({key: value for key, value in done.items() if key != "starts"})
        (start,) = done["starts"]
        assert start["steps"] > 0, "the policy did not drive"
        if done["success"]:
            return
    pytest.fail(f"none of the scenes {SEED} to {SEED + 2} succeeded")
