"""The things on the table, in the scenes that show them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from visarl.sim.props import GOALS, OBJECTS, distractors
from visarl.sim.scatter import UNASKED_DISTRACTORS
from visarl.sim.scene import GOAL, OBJECT, PARKED, joint_of
from visarl.sim.tabletop import Simulator
from visarl.sim.tasks import TASKS

PLACING = [task.name for task in TASKS.values() if task.goal is not None]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator("bread_to_plate")
    yield simulator
    simulator.close()


def standing(simulator: Simulator) -> dict[str, np.ndarray]:
    """Places (3,) of the distractors on the table; the others are parked."""
    model, data = simulator._model, simulator._data
    bodies = [model.body(i).name for i in range(model.nbody)]
    found = {name: data.xpos[model.body(name).id].copy() for name in bodies[bodies.index(OBJECT) + 1 :] if name != GOAL}
    return {name: place for name, place in found.items() if place[2] > PARKED[2] / 2}


def test_names_of_things_need_neither_physics_nor_ros() -> None:
    code = "import sys, visarl.sim.props; sys.exit(bool({'mujoco', 'rclpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("task", TASKS)
def test_nothing_unseen_is_in_the_training_set(task: str) -> None:
    training, unseen = (distractors(which, TASKS[task]) for which in ("training", "unseen"))
    assert not set(training) & set(unseen)
    assert len(unseen) > UNASKED_DISTRACTORS, "so that scenes differ"


@pytest.mark.parametrize("task", PLACING)
def test_each_scene_shows_three_of_its_set_and_in_turn_all(simulator: Simulator, task: str) -> None:
    for first, which in ((0, "training"), (500, "training"), (1000, "unseen")):
        seen = []
        for seed in range(first, first + 20):
            simulator.reset(task, seed)
            seen.append(frozenset(standing(simulator)))
            assert len(seen[-1]) == TASKS[task].distractors
        assert frozenset.union(*seen) == set(distractors(which, TASKS[task]))
        assert len(set(seen)) > 5


def test_a_task_without_distractors_has_them_where_the_perturbation_asks(simulator: Simulator) -> None:
    simulator.reset("pick_red_block", 3)
    alone = simulator.truth()
    assert not standing(simulator)
    beside = simulator.reset("pick_red_block", 3, "distractors")
    assert set(standing(simulator)) < set(distractors("unseen", TASKS["pick_red_block"]))
    assert len(standing(simulator)) == UNASKED_DISTRACTORS
    for role, place in alone.positions.items():
        assert np.array_equal(beside.positions[role], place), "the rest of the scene is the same"
    simulator.reset("bread_to_plate", 3)
    assert set(standing(simulator)) < set(distractors("unseen", TASKS["bread_to_plate"])), "until told otherwise"
    simulator.reset("bread_to_plate", 3, "none")
    assert set(standing(simulator)) < set(distractors("training", TASKS["bread_to_plate"]))


@pytest.mark.parametrize("perturbation", ["none", "distractors"])
@pytest.mark.parametrize("task", TASKS)
def test_nothing_overlaps_and_everything_stays_where_it_was_put(
    simulator: Simulator, task: str, perturbation: str
) -> None:
    table = simulator._model.geom("table").id
    for seed in range(500, 515):
        simulator.reset(task, seed, perturbation)
        for pair in simulator._data.contact.geom:
            bodies = [simulator._model.body(body).name for body in simulator._model.geom_bodyid[pair]]
            assert table in pair or all(body.startswith("jaco/") for body in bodies), "no two things touch"
    truth, before = simulator.truth(), standing(simulator)
    simulator.advance(0.5)
    for name, place in standing(simulator).items():
        assert np.linalg.norm(place - before[name]) < 0.002
    assert np.linalg.norm(simulator.truth().positions["object"] - truth.positions["object"]) < 0.002


def test_distractors_are_solid(simulator: Simulator) -> None:
    """The bread falls onto one and does not reach the table."""
    simulator.reset("bread_to_plate", 1007, "none")
    model, data = simulator._model, simulator._data
    name, place = next(iter(standing(simulator).items()))
    start, rest = simulator._object_qpos, distractors("unseen", TASKS["bread_to_plate"])[name].rest_height
    data.qpos[start : start + 3] = place + (0, 0, rest + 0.03)
    touched = False
    for _ in range(20):
        simulator.advance(0.01)
        bodies = model.geom_bodyid[data.contact.geom]
        touched |= bool((np.sort(bodies) == np.sort([model.body(OBJECT).id, model.body(name).id])).all(axis=1).any())
    assert touched


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_rests_as_high_as_its_prop_says(simulator: Simulator, name: str) -> None:
    task = next(task for task in TASKS.values() if task.object == name)
    simulator.reset(task.name, 2, "none")
    simulator.advance(0.5)
    assert simulator.truth().positions["object"][2] == pytest.approx(OBJECTS[name].rest_height, abs=0.001)


@pytest.mark.parametrize("task", PLACING)
def test_an_object_dropped_over_the_goal_rests_as_high_as_the_goal_says(simulator: Simulator, task: str) -> None:
    """Five places within the rim: the bowl gathers the apple, the plate keeps the bread where it falls."""
    goal, prop = GOALS[TASKS[task].goal or ""], OBJECTS[TASKS[task].object]
    for aside in ((0, 0), (0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)):
        truth = simulator.reset(task, 2, "none")
        start = simulator._object_qpos
        height = goal.floor_height + prop.rest_height + 0.03
        simulator._data.qpos[start : start + 3] = truth.positions["goal"] + (*aside, height)
        simulator.advance(1.5)
        truth = simulator.truth()
        place = truth.positions["object"] - truth.positions["goal"]
        assert place[2] == pytest.approx(goal.floor_height + prop.rest_height, abs=0.002)
        assert truth.success


def test_joints_of_distractors_are_named_after_them(simulator: Simulator) -> None:
    simulator.reset("apple_to_bowl", 0, "none")
    for name, place in standing(simulator).items():
        address = int(simulator._model.joint(joint_of(name)).qposadr[0])
        assert np.allclose(simulator._data.qpos[address : address + 3], place)
