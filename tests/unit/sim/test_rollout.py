"""An episode in lockstep depends on its seed and on what acts, on nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from visarl.errors import ContractError
from visarl.sim.expert import Expert
from visarl.sim.rollout import Outcome, bounded, lockstep
from visarl.sim.tabletop import Simulator

SEED = 4


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.close()


def test_translation_and_rotation_are_each_scaled_as_one(simulator: Simulator) -> None:
    high = simulator.contract.action.high
    asked = np.concatenate([high[:3] * [-4.0, 2.0, 1.0], high[3:6] * [0.1, -0.2, 0.3], [0.5]])
    given = asked.copy()
    found = bounded(simulator, asked)
    assert found[:3] == pytest.approx(asked[:3] / 4) and found[3:] == pytest.approx(asked[3:])
    assert np.array_equal(asked, given), "what the policy gave stays as it was"
    asked[3:6] *= 50
    assert bounded(simulator, asked)[3:6] == pytest.approx(asked[3:6] / 15)
    simulator.contract.action.validate(bounded(simulator, asked))


def test_an_action_within_the_bounds_is_done_to_the_letter(simulator: Simulator) -> None:
    action = simulator.contract.action.high * np.array([1, -1, 0.3, -1, 0.2, 1, -1])
    assert np.array_equal(bounded(simulator, action), action)


def seen_and_done(simulator: Simulator, seed: int) -> tuple[Outcome, list[np.ndarray], np.ndarray]:
    """Half a second of something that acts on every pixel: a difference in one picture changes all that follows."""
    frames: list[np.ndarray] = []
    actions: list[np.ndarray] = []

    def act(frame, state, truth):
        frames.append(frame.image)
        return np.random.default_rng(int(frame.image.sum(dtype=np.int64))).uniform(-0.02, 0.02, 7)

    simulator.reset("pick_red_block", seed)
    outcome = lockstep(simulator, act, limit_s=0.5, on_step=lambda frame, state, truth, action: actions.append(action))
    return outcome, frames, np.array([*actions, simulator.state().position[:1].repeat(7)])


def test_the_same_seed_is_the_same_episode_to_the_last_pixel(simulator: Simulator) -> None:
    once, again, other = (seen_and_done(simulator, seed) for seed in (SEED, SEED, SEED + 1))
    assert once[0] == again[0] == Outcome(False, False, 5, pytest.approx(0.5))
    assert np.array_equal(once[1], again[1]) and np.array_equal(once[2], again[2])
    assert not np.array_equal(once[1], other[1]) and not np.array_equal(once[2], other[2])


def test_it_ends_with_the_step_that_succeeds(simulator: Simulator) -> None:
    simulator.reset("pick_red_block", SEED)
    expert, before = Expert(SEED), []

    def act(frame, state, truth):
        assert frame is None, "nobody asked for pictures"
        before.append(truth.success)
        return expert.act(truth, state)

    outcome = lockstep(simulator, act, pictures=False)
    assert outcome.success and outcome.success_ever and not any(before)
    assert outcome.steps == len(before) < 200
    assert outcome.seconds == pytest.approx(simulator.time_s) == pytest.approx(outcome.steps / 10)


def test_an_action_that_is_none_ends_it_before_the_arm_moves(simulator: Simulator) -> None:
    simulator.reset("pick_red_block", SEED)
    answers = iter([np.zeros(7), np.zeros(7), np.array([0, 0, 0, 0, 0, 0, np.inf])])
    seen: list[float] = []
    with pytest.raises(ContractError, match="action: expected 7 finite numbers, found .*inf"):
        lockstep(
            simulator,
            lambda frame, state, truth: next(answers),
            on_step=lambda frame, state, truth, action: seen.append(truth.time_s),
            pictures=False,
        )
    assert simulator.time_s == pytest.approx(0.2) and seen == pytest.approx([0.0, 0.1])


def test_the_limit_counts_from_the_reset_and_watchers_see_what_the_arm_is_told(simulator: Simulator) -> None:
    simulator.reset("pick_red_block", SEED)
    simulator.advance(0.3)
    told: list[np.ndarray] = []

    def fast(frame, state, truth):
        return np.array([0, 0.2, 0, 0, 0, 0, 7.0])

    outcome = lockstep(
        simulator, fast, 0.5, on_step=lambda frame, state, truth, action: told.append(action), pictures=False
    )
    assert outcome.steps == 2 and outcome.seconds == pytest.approx(0.5)
    assert told[0] == pytest.approx([0, 0.02, 0, 0, 0, 0, 1])
