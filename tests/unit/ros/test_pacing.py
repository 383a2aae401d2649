from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from visarl.ros.pacing import Pacer

FRAME_NS = 33_333_333


@given(st.lists(st.integers(-8_000_000, 8_000_000), min_size=90, max_size=90))
def test_a_third_of_jittering_frames_is_taken(jitter) -> None:
    pacer = Pacer(10.0)
    taken = [i for i, off in enumerate(jitter) if pacer.accept(10**18 + i * FRAME_NS + off)]
    assert 29 <= len(taken) <= 31
    assert all(2 <= b - a <= 4 for a, b in zip(taken, taken[1:], strict=False))


def test_a_gap_or_a_clock_that_was_set_does_not_stall_it() -> None:
    pacer = Pacer(10.0)
    assert pacer.accept(10**18)
    assert pacer.accept(10**18 + 10**10)
    assert not pacer.accept(10**18 + 10**10 + FRAME_NS)
    assert pacer.accept(10**17)


def test_a_source_slower_than_the_rate_is_taken_whole() -> None:
    pacer = Pacer(30.0)
    assert all(pacer.accept(10**18 + i * 100_000_000) for i in range(20))
