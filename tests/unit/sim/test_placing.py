"""Putting things down: the scripted hand, what counts as placed, and how much the picture shows of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from visarl.contract import CONTRACTS, CONTROL_RATE_HZ
from visarl.robot.interfaces import ArmState
from visarl.sim.expert import Expert
from visarl.sim.props import GOALS
from visarl.sim.rollout import Outcome, lockstep
from visarl.sim.tabletop import SceneTruth, Simulator
from visarl.sim.tasks import TASKS

PLACING = ["bread_to_plate", "apple_to_bowl"]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator("bread_to_plate")
    yield simulator
    simulator.close()


def put(simulator: Simulator, place: np.ndarray) -> None:
    """The object at `place` (3,), at rest."""
    start, speed = simulator._object_qpos, simulator._object_qvel
    simulator._data.qpos[start : start + 3] = place
    simulator._data.qvel[speed : speed + 6] = 0


# ---- the scripted hand ---------------------------------------------------------------------------------------------


def demonstrate(simulator: Simulator, task: str, seed: int) -> tuple[Outcome, np.ndarray]:
    """One episode, and its actions (T, 7)."""
    simulator.reset(task, seed)
    expert, actions = Expert(seed, task), []

    def act(frame: object, state: ArmState, truth: SceneTruth) -> np.ndarray:
        actions.append(expert.act(truth, state))
        return actions[-1]

    return lockstep(simulator, act, pictures=False), np.array(actions)


@pytest.mark.parametrize("task", PLACING)
def test_the_expert_places_in_a_persons_time(simulator: Simulator, task: str) -> None:
    simulator.disturbance = 0.015
    episodes = [demonstrate(simulator, task, seed) for seed in range(6, 10)]
    simulator.disturbance = 0.0
    for _, actions in episodes:
        for action in actions:
            CONTRACTS["jaco2"].action.validate(action)
        assert np.linalg.norm(actions[:, :3], axis=1).max() * CONTROL_RATE_HZ <= 0.06
    assert sum(outcome.success for outcome, _ in episodes) >= 3
    assert 130 <= np.median([outcome.steps for outcome, _ in episodes]) <= 280


@pytest.mark.parametrize("phase", ["carry", "let_go"])
def test_the_expert_begins_again_where_the_object_is_lost(simulator: Simulator, phase: str) -> None:
    simulator.reset("apple_to_bowl", 2)
    expert, lost = Expert(2, "apple_to_bowl"), []

    def act(frame: object, state: ArmState, truth: SceneTruth) -> np.ndarray:
        if expert.phase == phase and not lost:
            put(simulator, np.array([0.46, -0.07, 0.032]))
            lost.append(truth.time_s)
        return expert.act(simulator.truth(), state)

    outcome = lockstep(simulator, act, pictures=False)
    assert lost and expert.attempts >= 2 and outcome.success


# ---- what counts as placed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", PLACING)
def test_placed_counts_after_half_a_second(simulator: Simulator, task: str) -> None:
    truth = simulator.reset(task, 4)
    goal = GOALS[TASKS[task].goal or ""]
    put(simulator, truth.positions["goal"] + (0, 0, goal.floor_height + truth.positions["object"][2]))
    simulator.advance(0.4)
    assert not simulator.truth().success
    simulator.advance(0.4)
    assert simulator.truth().success
    put(simulator, truth.positions["object"])
    simulator.advance(0.05)
    truth = simulator.truth()
    assert not truth.success and truth.success_ever
    assert not simulator.reset(task, 4).success_ever


@pytest.mark.parametrize("task", PLACING)
def test_beside_the_goal_is_not_placed(simulator: Simulator, task: str) -> None:
    truth = simulator.reset(task, 4)
    beside = truth.positions["goal"] - (0, GOALS[TASKS[task].goal or ""].rim_radius + 0.045, 0)
    put(simulator, np.array([*beside[:2], truth.positions["object"][2]]))
    simulator.advance(1.0)
    assert not simulator.truth().success_ever


def test_what_the_fingers_still_hold_is_not_placed(simulator: Simulator) -> None:
    """The hand sets the bread down on the plate and does not open."""
    simulator.reset("bread_to_plate", 6)
    expert, inside = Expert(6, "bread_to_plate"), []

    def act(frame: object, state: ArmState, truth: SceneTruth) -> np.ndarray:
        if expert.phase != "let_go":
            return expert.act(truth, state)
        offset = truth.positions["object"] - truth.positions["goal"]
        inside.append(np.linalg.norm(offset[:2]) < GOALS["plate"].rim_radius and offset[2] < 0.026 + 0.012)
        return np.array([0, 0, -0.002, 0, 0, 0, 1.0]) if len(inside) < 10 else np.array([0, 0, 0, 0, 0, 0, 1.0])

    outcome = lockstep(simulator, act, limit_s=30.0, pictures=False)
    assert sum(inside) > 10, "it lies where it belongs"
    assert not outcome.success_ever


# ---- how much is seen ----------------------------------------------------------------------------------------------


def test_visibility_is_the_share_of_a_role_that_the_picture_shows(simulator: Simulator) -> None:
    truth = simulator.reset("bread_to_plate", 3)
    before = simulator.render(320, 240)
    found = simulator.visibility(320, 240)
    assert set(found) == set(truth.names) and all(share > 0.8 for share in found.values())
    assert np.array_equal(simulator.render(320, 240), before), "all of it is drawn again"
    put(simulator, np.array([0.47, 0.0, -0.3]))
    assert simulator.visibility(320, 240)["object"] == 0, "under the table"
    put(simulator, np.array([3.0, 0.0, 0.1]))
    assert simulator.visibility(320, 240)["object"] == 0, "behind the camera"


def test_what_stands_before_the_object_hides_a_part_of_it(simulator: Simulator) -> None:
    simulator.reset("bread_to_plate", 500, "distractors")
    truth, model, data = simulator.truth(), simulator._model, simulator._data
    shares = []
    for ahead in (0.20, 0.085):
        address = int(model.joint("brown_tin_joint").qposadr[0])
        data.qpos[address : address + 3] = truth.positions["object"] + (ahead, 0, 0.02)
        shares.append(simulator.visibility(320, 240)["object"])
    simulator.reset("bread_to_plate", 500, "none")
    assert shares[0] > 0.99 and 0.3 < shares[1] < 0.95


@pytest.mark.parametrize("task", PLACING)
def test_unseen_things_hide_a_part_in_some_scenes_and_never_all(simulator: Simulator, task: str) -> None:
    shares = []
    for seed in range(500, 515):
        simulator.reset(task, seed, "distractors")
        found = simulator.visibility(160, 120)
        shares.append(min(found["object"], found["goal"]))
    simulator.reset(task, 500, "none")
    assert min(shares) > 0.4 and sum(share < 0.95 for share in shares) >= 2
