from __future__ import annotations

import numpy as np
import pytest

from visarl.contract import CONTRACTS, CONTROL_RATE_HZ
from visarl.errors import ContractError
from visarl.sim.expert import Expert
from visarl.sim.rollout import bounded, lockstep
from visarl.sim.tabletop import Simulator


@pytest.fixture(scope="module")
def simulator():
    simulator = Simulator()
    yield simulator
    simulator.close()


def demonstrate(simulator, seed, delay=0, **options):
    """One episode; the arm gets each action `delay` periods late. Actions, (T, 7), and the outcome."""
    expert, actions = Expert(seed), [np.zeros(7)] * delay

    def act(frame, state, truth):
        actions.append(expert.act(truth, state))
        return actions[-1 - delay]

    outcome = lockstep(simulator, act, pictures=False, **options)
    return np.array(actions[delay:]), outcome, expert


@pytest.mark.parametrize("task", ["pick_red_block", "pick_apple"])
@pytest.mark.parametrize("disturbance", [0.0, 0.015])
def test_it_succeeds_and_takes_a_persons_time(simulator, task, disturbance):
    simulator.disturbance = disturbance
    outcomes = []
    for seed in range(10):
        simulator.reset(task, seed)
        actions, outcome, _ = demonstrate(simulator, seed)
        outcomes.append(outcome)
        assert len(actions) == outcome.steps
        for action in actions:
            CONTRACTS["jaco2"].action.validate(action)
        speed = np.linalg.norm(actions[:, :3], axis=1) * CONTROL_RATE_HZ
        assert speed.max() <= 0.086
    simulator.disturbance = 0.0
    assert sum(outcome.success for outcome in outcomes) >= 9
    assert 50 <= np.median([outcome.steps for outcome in outcomes]) <= 180


def test_it_bears_a_late_arm(simulator):
    wins = 0
    for seed in range(6):
        simulator.reset("pick_red_block", seed)
        wins += demonstrate(simulator, seed, delay=1)[1].success
    assert wins >= 5


def test_its_manner_varies_with_the_seed_and_repeats_with_it(simulator):
    runs = []
    for manner in (0, 0, 1):
        simulator.reset("pick_red_block", 5)
        runs.append(demonstrate(simulator, manner)[0])
    assert np.array_equal(runs[0], runs[1])
    shared = min(len(runs[0]), len(runs[2]))
    assert np.abs(runs[0][:shared, :3] - runs[2][:shared, :3]).max() > 0.001


def test_it_tries_again_when_the_object_stays_behind(simulator):
    simulator.reset("pick_red_block", 6)
    expert, snatched = Expert(6), []

    def act(frame, state, truth):
        if expert.phase == "lift" and not snatched:
            # A hand reaches in and puts the block elsewhere just as the arm lifts it.
            start = simulator._object_qpos
            simulator._data.qpos[start : start + 3] = [0.45, -0.06, 0.025]
            snatched.append(truth.time_s)
        return expert.act(simulator.truth(), state)

    outcome = lockstep(simulator, act, pictures=False)
    assert snatched and expert.attempts >= 2 and outcome.success


def test_it_says_when_it_is_done(simulator):
    simulator.reset("pick_red_block", 1)
    _, outcome, expert = demonstrate(simulator, 1)
    assert outcome.success and not expert.done
    expert.act(simulator.truth(), simulator.state())
    assert expert.done


# ---- the loop around it --------------------------------------------------------------------------------------------


def test_an_episode_ends_at_the_limit_and_shows_frames(simulator):
    simulator.reset("pick_red_block", 0)
    seen = []
    outcome = lockstep(
        simulator,
        lambda frame, state, truth: np.zeros(7),
        limit_s=0.5,
        on_step=lambda frame, state, truth, action: seen.append((frame, truth)),
    )
    assert (outcome.success, outcome.success_ever, outcome.steps) == (False, False, 5)
    assert outcome.seconds == pytest.approx(0.5)
    assert all(frame.image.shape == (480, 640, 3) for frame, _ in seen)
    assert [round(truth.time_s, 3) for _, truth in seen] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_an_action_moves_the_arm_as_far_as_it_says(simulator):
    simulator.reset("pick_red_block", 0)
    before = simulator.truth().positions["effector"]
    lockstep(simulator, lambda frame, state, truth: np.array([0, 0.004, 0, 0, 0, 0, 0.0]), limit_s=2.0, pictures=False)
    simulator.advance(0.5)
    moved = simulator.truth().positions["effector"] - before
    # The last set-point holds until it expires, half a period and the ramp longer.
    assert moved == pytest.approx([0, 0.08, 0], abs=0.008)


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan), np.zeros((7, 1))])
def test_what_is_no_action_is_refused(simulator, action):
    with pytest.raises(ContractError, match="action"):
        bounded(simulator, action)


def test_too_large_an_action_keeps_its_direction(simulator):
    action = bounded(simulator, np.array([0.04, 0.02, 0, 0, 0, 0.6, -3]))
    assert action == pytest.approx([0.02, 0.01, 0, 0, 0, 0.06, -1])
