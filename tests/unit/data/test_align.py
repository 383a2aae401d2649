"""Pairing goes by time: shuffled, jittered and doubled stamps change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visarl.data.align import Steps, active_range, align, nearest, newest_before, resample
from visarl.errors import DataError

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
stamps = st.lists(st.integers(0, 10_000), min_size=1, max_size=40).map(lambda x: np.array(x, dtype=np.int64))


@given(stamps, stamps)
def test_nearest_is_the_nearest(candidates: np.ndarray, wanted: np.ndarray) -> None:
    found = candidates[nearest(candidates, wanted)]
    assert np.array_equal(np.abs(found - wanted), np.abs(candidates[None] - wanted[:, None]).min(axis=1))


@given(stamps, stamps)
def test_newest_before_is_not_after(candidates: np.ndarray, wanted: np.ndarray) -> None:
    for found, at in zip(newest_before(candidates, wanted), wanted, strict=True):
        earlier = candidates[candidates <= at]
        assert found == (earlier.max() if earlier.size else -1)


def _streams(jitter_ms: float, seed: int) -> tuple[np.ndarray, ...]:
    """Actions 8 ms after every third frame, frames at 30 Hz, states at 100 Hz."""
    rng = np.random.default_rng(seed)

    def jittered(count: int, period_ms: float) -> np.ndarray:
        wobble = rng.uniform(-jitter_ms, jitter_ms, count)
        return T0 + ((np.arange(count) * period_ms + wobble) * MS).astype(np.int64)

    frames, states = jittered(300, 100 / 3), jittered(1000, 10)
    actions = frames[::3] + 8 * MS
    return actions, np.arange(100.0)[:, None] * np.ones(7), frames, states


@given(st.floats(0, 12), st.integers(0, 1000))
def test_pairs_survive_jitter_and_any_order(jitter_ms: float, seed: int) -> None:
    actions, values, frames, states = _streams(jitter_ms, seed)
    rng = np.random.default_rng(seed + 1)
    shuffled, camera, arm = rng.permutation(100), rng.permutation(300), rng.permutation(1000)

    steps = align(actions[shuffled], values[shuffled], np.zeros(100, np.int64), frames[camera], states[arm])

    assert np.array_equal(steps.stamp, actions)
    assert np.array_equal(steps.action, values)
    assert np.array_equal(steps.frame_stamp, frames[::3])
    assert np.array_equal(states[arm][steps.state], steps.state_stamp)
    assert np.array_equal(steps.state_error_ms, np.abs(states[None] - frames[::3, None]).min(axis=1) / 1e6)
    assert steps.frame_age_ms == pytest.approx(8.0)


def test_an_action_that_names_its_frame_gets_that_frame() -> None:
    actions, values, frames, states = _streams(0, 0)
    late = actions + 40 * MS  # a newer frame has come meanwhile, which the demonstrator did not see
    assert np.array_equal(align(late, values, frames[::3], frames, states).frame_stamp, frames[::3])
    unnamed = align(late, values, np.zeros(100, np.int64), frames, states)
    assert np.array_equal(unnamed.frame_stamp, frames[1::3])


def test_an_action_whose_frame_was_lost_gets_no_later_one() -> None:
    frames = T0 + np.array([0, 33, 99, 133], dtype=np.int64) * MS  # the one at 66 ms is lost
    actions = T0 + np.array([8, 105], dtype=np.int64) * MS
    observed = T0 + np.array([0, 66], dtype=np.int64) * MS
    steps = align(actions, np.ones((2, 7)), observed, frames, frames, rate_hz=10.0)
    assert (steps.frame_stamp - T0).tolist() == [0, 33 * MS] or len(steps.stamp) == 1


def test_actions_before_the_first_frame_are_left_out_and_counted() -> None:
    actions, values, frames, states = _streams(0, 0)
    steps = align(actions, values, np.zeros(100, np.int64), frames[31:], states)
    assert steps.unpaired == 11 and len(steps) == 89
    assert steps.action[0, 0] == 11


def test_moments_without_a_fresh_frame_or_state_are_left_out() -> None:
    actions, values, frames, states = _streams(0, 0)
    none = np.zeros(100, np.int64)
    steps = align(actions, values, none, np.delete(frames, slice(100, 112)), states)
    assert steps.stale == 3 and steps.gaps == 1 and len(steps) == 97 and steps.frame_age_ms.max() <= 200
    steps = align(actions, values, none, frames, np.delete(states, slice(300, 345)))
    assert 0 < steps.stale < 5 and len(steps) == 100 - steps.stale and steps.state_error_ms.max() <= 100
    # An expert that was late answered that frame all the same.
    assert align(actions + 300 * MS, values, frames[::3], frames, states).stale == 0


def test_a_hung_camera_or_arm_is_refused() -> None:
    actions, values, frames, states = _streams(0, 0)
    none = np.zeros(100, np.int64)
    with pytest.raises(DataError, match="of 100 actions have no fresh frame"):
        align(actions, values, none, np.delete(frames, slice(100, 160)), states)
    with pytest.raises(DataError, match="of 100 actions have no fresh frame .* or no arm state near it"):
        align(actions, values, none, frames, np.delete(states, slice(300, 500)))
    with pytest.raises(DataError, match="expected camera frames, found none"):
        align(actions, values, none, frames[:0], states)
    with pytest.raises(DataError, match="do the clocks of the machines agree"):
        align(actions - 3600 * 1000 * MS, values, none, frames, states)


def test_a_fast_stream_is_averaged_over_control_periods() -> None:
    fast = T0 + np.arange(100) * 20 * MS
    ramp = np.arange(100.0)[:, None] * np.ones(7)
    found, mean, _ = resample(fast, ramp, np.zeros(100, np.int64))
    assert np.array_equal(found, fast[::5])
    assert np.array_equal(mean[:, 0], np.arange(20) * 5 + 2.0)


def test_a_rate_that_is_no_multiple_is_refused() -> None:
    slow = T0 + np.arange(20) * 250 * MS
    with pytest.raises(DataError, match=r"expected actions at 10 Hz or a multiple of it, found 4\.0 Hz"):
        resample(slow, np.zeros((20, 7)), np.zeros(20, np.int64))
    with pytest.raises(DataError, match="all with one stamp"):
        resample(np.full(5, T0), np.zeros((5, 7)), np.zeros(5, np.int64))
    with pytest.raises(DataError, match="expected a stream of actions, found 1"):
        resample(slow[:1], np.zeros((1, 7)), np.zeros(1, np.int64))


def test_idle_ends_are_cut_and_pauses_between_stay() -> None:
    shares = np.zeros((20, 7))
    shares[5:8, 0] = 0.5
    shares[12, 6] = -1.0
    assert active_range(shares) == (4, 14)
    assert active_range(np.full((20, 7), 0.01)) == (0, 0)


def test_a_part_counts_its_own_gaps() -> None:
    at = T0 + np.array([0, 100, 200, 500, 600]) * MS
    steps = Steps(at, np.zeros((5, 7)), at, np.arange(5), at, 1, 0, 0)
    assert steps.keep(0, 3).gaps == 0 and steps.keep(1, 5).gaps == 1
