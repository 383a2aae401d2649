"""Scenes are what they were when the shipped bundles were trained: a seed names its scene for ever.

`python -m tests.unit.sim.test_same_scenes` prints the figures anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visarl.sim.tabletop import Simulator

SCENES = {"pick_apple": (3, 600, 1003), "pick_red_block": (3, 600, 1003), "bread_to_plate": (3,), "apple_to_bowl": (3,)}
STORED = Path(__file__).with_name("same_scenes.json")


def figures(simulator: Simulator, task: str, seed: int) -> dict[str, Any]:
    """Where everything stands [m], how it is seen and lit, a coarse picture, and where two seconds of motion lead."""
    truth = simulator.reset(task, seed)
    model, data = simulator._model, simulator._data
    found: dict[str, Any] = {
        "layout": data.qpos.copy(),
        "goal": truth.positions.get("goal", np.zeros(0)),
        "camera": np.concatenate([model.cam_pos.ravel(), model.cam_quat.ravel()]),
        "light": np.concatenate([model.light_dir.ravel(), model.light_diffuse.ravel()]),
        "picture": simulator.render(640, 480).reshape(6, 80, 8, 80, 3).mean(axis=(1, 3)).round().astype(int),
    }
    for _ in range(20):
        simulator.command(np.array([0.03, -0.02, -0.04, 0, 0, 0.2]), 0.6)
        simulator.advance(0.1)
    found["after"] = np.concatenate([data.qpos[:9], simulator.truth().positions["effector"]])
    return found


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.close()


@pytest.mark.parametrize(("task", "seed"), [(task, seed) for task, seeds in SCENES.items() for seed in seeds])
def test_a_seed_is_the_same_scene_for_ever(simulator: Simulator, task: str, seed: int) -> None:
    stored, found = json.loads(STORED.read_text())[f"{task} {seed}"], figures(simulator, task, seed)
    for name, tolerance in (("layout", 1e-6), ("goal", 1e-9), ("camera", 1e-9), ("light", 1e-6)):
        assert found[name].ravel() == pytest.approx(stored[name], abs=tolerance), name
    # Between versions of MuJoCo and of OpenGL the last digits may differ, the scene may not.
    assert np.abs(found["picture"].ravel() - stored["picture"]).max() <= 3
    assert found["after"] == pytest.approx(stored["after"], abs=2e-3)


if __name__ == "__main__":
    bench = Simulator()
    print(
        json.dumps(
            {
                f"{task} {seed}": {
                    name: np.round(value, 9).ravel().tolist() for name, value in figures(bench, task, seed).items()
                }
                for task, seeds in SCENES.items()
                for seed in seeds
            }
        )
    )
    bench.close()
