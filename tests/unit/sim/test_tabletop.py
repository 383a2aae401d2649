from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from visarl.contract import CONTRACTS, ROLES
from visarl.errors import ArmError, SimulationError
from visarl.sim.backend import mujoco
from visarl.sim.expert import Expert
from visarl.sim.rollout import lockstep
from visarl.sim.seeds import EVALUATION_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from visarl.sim.tabletop import TASKS, Simulator
from visarl.sim.tasks import WORKSPACE


@pytest.fixture(scope="module")
def simulator():
    simulator = Simulator()
    yield simulator
    simulator.close()


def same(one, other):
    return all(np.array_equal(one.positions[name], other.positions[name]) for name in one.names)


# ---- the scene -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_alone_decides_scene_picture_and_motion(simulator, task):
    def play():
        before = simulator.reset(task, 7)
        picture = simulator.render(160, 120)
        simulator.command(np.array([0.05, 0.02, -0.05, 0, 0, 0.1]), 0.5)
        simulator.advance(0.2)
        return before, picture, simulator.truth(), simulator.state().proprioception()

    (before, picture, after, state), (before2, picture2, after2, state2) = play(), play()
    assert same(before, before2) and same(after, after2)
    assert (picture == picture2).all() and (state == state2).all()
    other = simulator.reset(task, 8)
    assert not same(before, other) and (simulator.render(160, 120) != picture).any()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seeds", [VALIDATION_SEEDS, TRAIN_SEEDS], ids=["validation", "train"])
def test_starts_fill_their_area_and_everything_is_in_the_picture(simulator, task, seeds):
    area, objects, crops = TASKS[task].area, [], []
    for seed in seeds[:40]:
        truth = simulator.reset(task, seed)
        assert truth.names == TASKS[task].roles and set(truth.names) <= set(ROLES)
        assert all(truth.visible.values())
        crops += [((u - 0.125) / 0.75, v) for u, v in truth.uv.values()]
        objects.append(truth.positions["object"][:2] - area.centre)
    assert (np.abs(objects).max(axis=0) <= np.array(area.half) + 1e-3).all()
    assert (np.ptp(objects, axis=0) > 0.8 * 2 * np.array(area.half)).all()
    assert np.min(crops) > 0.05 and np.max(crops) < 0.95, "within the square crop that the models see"


@pytest.mark.parametrize("first", [0, 7, 400])
def test_ten_demonstrations_leave_no_place_far_from_all_of_them(simulator, first):
    seeds = range(first, first + 10)
    places = np.array([simulator.reset("pick_apple", seed).positions["object"][:2] for seed in seeds])
    line = np.linspace(-0.5, 0.5, 21) * 2 * WORKSPACE.half[0]
    area = WORKSPACE.centre + np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    assert np.linalg.norm(area[:, None] - places, axis=-1).min(axis=1).max() < 0.075


def test_truth_points_at_the_object_in_the_picture(simulator):
    for seed in range(5):
        truth = simulator.reset("pick_red_block", seed)
        picture = simulator.render().astype(int)
        red = (picture[..., 0] > 90) & (picture[..., 1] < 50) & (picture[..., 2] < 50)
        v, u = np.argwhere(red).mean(axis=0)
        assert abs(truth.uv["object"][0] * 640 - u) < 6 and abs(truth.uv["object"][1] * 480 - v) < 6


def test_a_picture_is_drawn_at_the_size_asked(simulator):
    assert simulator.render().shape == (480, 640, 3)
    assert simulator.render(64, 48).shape == (48, 64, 3)


def test_camera_and_light_vary_with_the_seed_alone(simulator):
    def looks(seed):
        simulator.reset(None, seed)
        model = simulator._model
        return {name: getattr(model, name).copy() for name in ("cam_pos", "cam_quat", "light_dir", "light_diffuse")} | {
            "ambient": model.vis.headlight.ambient.copy()
        }

    first, again = looks(0), looks(0)
    assert all((first[name] == again[name]).all() for name in first)
    others = [looks(seed) for seed in range(1, 4)]
    for name in first:
        values = [found[name] for found in (first, *others)]
        assert all((one != other).any() for one, other in itertools.combinations(values, 2)), name


def test_a_joint_driven_into_its_stop_rests_there():
    simulator = Simulator("pick_red_block", 3)
    model, data = simulator._model, simulator._data
    # Nothing is in the way: as the scene stands, the arm touches itself or the table first.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    jacobian = np.zeros((6, model.nv))
    joints = np.flatnonzero(model.jnt_limited[: simulator.contract.joints])
    for joint, side in itertools.product(joints, (-1, 1)):
        simulator.reset(None, 3)
        low, high = model.jnt_range[joint]
        data.qpos[joint] = low + 0.2 if side < 0 else high - 0.2
        simulator._settle()
        for _ in range(50):
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], simulator._tool)
            simulator.command(0.6 * side * jacobian[:, joint], 0.0)  # the twist of this joint alone
            simulator.advance(0.05)
            position = simulator.state().position[joint]
            assert low - 0.01 < position < high + 0.01
        assert position == pytest.approx(low if side < 0 else high, abs=1e-4), "neither short of it nor pressing on"
    simulator.close()


def test_an_object_at_rest_stays_there(simulator):
    for task in TASKS:
        before = simulator.reset(task, 2).positions["object"]
        simulator.advance(1.0)
        assert np.linalg.norm(simulator.truth().positions["object"] - before) < 0.002


def test_the_start_state_keeps_the_contract(simulator):
    for seed in range(10):
        simulator.reset("pick_red_block", seed)
        CONTRACTS["jaco2"].proprioception.validate(simulator.state().proprioception())


def test_seeds_for_teaching_and_testing_never_meet():
    sets = [set(TRAIN_SEEDS), set(VALIDATION_SEEDS), set(EVALUATION_SEEDS)]
    assert len(set.union(*sets)) == sum(map(len, sets))
    assert max(TRAIN_SEEDS) < 500


# ---- success -------------------------------------------------------------------------------------------------------


def put_object(simulator, height_m):
    start = simulator._object_qpos
    simulator._data.qpos[start + 2] = simulator._rest_height + height_m
    simulator._data.qvel[-6:] = 0


def test_an_object_in_the_air_without_a_finger_on_it_is_no_success(simulator):
    simulator.reset("pick_red_block", 0)
    for _ in range(150):
        put_object(simulator, 0.3)
        simulator.advance(0.01)
    assert not simulator.truth().success_ever


def test_success_needs_one_second_in_the_hand_and_ever_remembers(simulator):
    simulator.reset("pick_red_block", 4)
    expert, raised = Expert(4), []

    def note(frame, state, truth, action):
        if truth.positions["object"][2] >= simulator._rest_height + 0.05:
            raised.append(truth.time_s)

    outcome = lockstep(simulator, lambda frame, state, truth: expert.act(truth, state), on_step=note, pictures=False)
    assert outcome.success and outcome.success_ever
    assert outcome.seconds - raised[0] == pytest.approx(1.0, abs=0.15)
    for _ in range(15):
        simulator.command(np.zeros(6), -1.0)
        simulator.advance(0.1)
    truth = simulator.truth()
    assert not truth.success and truth.success_ever
    assert not simulator.reset("pick_red_block", 4).success_ever


# ---- disturbance ---------------------------------------------------------------------------------------------------


def test_disturbance_moves_the_arm_beside_the_command_and_is_off_by_default():
    moved = {}
    for disturbance in (0.0, 0.02):
        simulator = Simulator("pick_red_block", 0, disturbance)
        path = []
        for _ in range(40):
            simulator.command(np.zeros(6), 0.0)
            simulator.advance(0.1)
            path.append(simulator.truth().positions["effector"])
        moved[disturbance] = np.abs(np.array(path) - path[0]).max()
        simulator.close()
    assert moved[0.0] < 0.001 and 0.003 < moved[0.02] < 0.1


def test_disturbance_rests_while_nobody_commands():
    simulator = Simulator("pick_red_block", 0, 0.02)
    before = simulator.truth().positions["effector"]
    simulator.advance(1.0)
    assert np.linalg.norm(simulator.truth().positions["effector"] - before) < 0.002
    simulator.close()


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_unknown_task_gets_a_suggestion():
    with pytest.raises(SimulationError, match="did you mean 'pick_apple'"):
        Simulator("pick_aple")


def test_bad_values_are_refused(simulator):
    with pytest.raises(SimulationError, match="seed"):
        simulator.reset("pick_apple", -1)
    with pytest.raises(SimulationError, match="disturbance"):
        Simulator(disturbance=2.0)
    with pytest.raises(ArmError, match="finite"):
        simulator.command(np.full(6, np.nan), 0.0)


def test_a_closed_simulator_says_so():
    simulator = Simulator()
    simulator.close()
    simulator.close()
    for call in (simulator.render, simulator.truth, simulator.state, lambda: simulator.advance(0.1), simulator.reset):
        with pytest.raises(SimulationError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}, "libegl1"),
        ({"MUJOCO_GL": "bogus"}, "MUJOCO_GL"),
        ({"MUJOCO_GL": "disabled"}, "no renderer"),
    ],
)
def test_no_renderer_ends_in_a_sentence_with_the_fix(environment, words):
    code = (
        "from visarl.sim.tabletop import Simulator\nsimulator = Simulator()\nsimulator.advance(0.1)\nsimulator.render()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    last = next(line for line in done.stderr.splitlines() if line.startswith("visarl.errors.SimulationError"))
    assert words in last
