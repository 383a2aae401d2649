"""The simulated arm answers while another task's scene is compiled: a watchdog would stop a silent one."""

from __future__ import annotations

import threading

import pytest

from visarl.errors import SimulationError
from visarl.sim import scene
from visarl.sim.tabletop import Simulator


def test_the_arm_answers_while_another_scene_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator("pick_red_block", 3)
    build, answered = scene.build_model, []

    def slowly(*scene_of):
        def live() -> None:
            simulator.advance(0.01)
            answered.append(simulator.state())

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        thread.join(10.0)
        assert answered, "the arm is silent while a scene is built"
        return build(*scene_of)

    monkeypatch.setattr(scene, "build_model", slowly)
    try:
        truth = simulator.reset("pick_apple", 5)
        assert truth.task == "pick_apple" and truth.time_s == 0.0
        assert simulator.render(64, 48).shape == (48, 64, 3)
    finally:
        simulator.close()


def test_a_scene_that_cannot_be_built_leaves_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator("pick_red_block", 3)

    def broken(*scene_of):
        raise SimulationError("no mesh")

    monkeypatch.setattr(scene, "build_model", broken)
    try:
        with pytest.raises(SimulationError, match="no mesh"):
            simulator.reset("pick_apple", 5)
        assert simulator.truth().task == "pick_red_block" and simulator.seed == 3
        assert simulator.render(64, 48).shape == (48, 64, 3)
    finally:
        simulator.close()
