"""Timing from stamps: the figures that a run is judged by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from visarl.robot.safety import POLICY
from visarl.trace import Executed, answers, latency_ms, missing, rate_hz, since

PERIOD_NS = 1_000_000_000 // 30
BEGAN_NS = 1_700_000_000_000_000_000


def stream(count: int, seed: int, jitter: float = 0.2) -> np.ndarray:
    """Stamps of a camera at 30 Hz, the first one period after the beginning."""
    wobble = np.random.default_rng(seed).uniform(-jitter, jitter, count)
    return BEGAN_NS + ((np.arange(1, count + 1) + wobble) * PERIOD_NS).astype(np.int64)


@given(st.integers(0, 1000), st.sets(st.integers(1, 58), max_size=40))
def test_as_many_frames_are_missing_as_were_taken_away(seed: int, taken: set[int]) -> None:
    stamps = stream(60, seed)
    ended = int(stamps[-1]) + PERIOD_NS // 2
    kept = np.random.default_rng(seed).permutation(np.delete(stamps, sorted(taken)))
    assert missing(kept.tolist(), BEGAN_NS, ended) == len(taken)


def test_frames_are_missed_by_the_rate_of_their_own_stream() -> None:
    stamps = stream(30, 0, jitter=0.0)[::3].tolist()
    ended = stamps[-1] + PERIOD_NS
    assert missing(stamps, BEGAN_NS, ended, nominal_hz=10.0) == 0
    assert missing(stamps, BEGAN_NS, ended, nominal_hz=30.0) == 18


def executed(stamp_ms: float, observed_ms: float) -> Executed:
    return Executed(BEGAN_NS + round(stamp_ms * 1e6), BEGAN_NS + round(observed_ms * 1e6), POLICY, (0.0,) * 7)


def test_nothing_is_no_rate_and_no_latency() -> None:
    assert answers([]) == [] and rate_hz([]) == 0.0 and latency_ms([]).shape == (0,)


def test_the_first_command_of_a_scene_may_be_at_its_beginning() -> None:
    edge = [executed(0, 0), executed(0, -1), executed(-1, 0)]
    assert since(edge, BEGAN_NS) == [edge[0]]
