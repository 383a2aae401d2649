from __future__ import annotations

import pytest

from visarl.sim.judge import PLACED_SLACK_M, PLACED_SPEED_M_S, Judge, placed


def test_what_has_to_hold_has_to_hold_without_a_break() -> None:
    judge = Judge(held_s=0.5)
    for _ in range(49):
        judge.update(True, 0.01)
    assert not judge.success
    judge.update(False, 0.01)
    for _ in range(49):
        judge.update(True, 0.01)
    assert not judge.success and not judge.success_ever
    judge.update(True, 0.01)
    assert judge.success and judge.success_ever
    judge.update(False, 0.01)
    assert not judge.success and judge.success_ever


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"distance": 0.071}, False),
        ({"height": PLACED_SLACK_M + 0.001}, False),
        ({"speed": PLACED_SPEED_M_S + 0.001}, False),
        ({"distance": 0.069, "height": PLACED_SLACK_M - 0.001, "speed": PLACED_SPEED_M_S - 0.001}, True),
    ],
)
def test_placed_is_inside_the_rim_down_and_at_rest(change: dict[str, float], expected: bool) -> None:
    found = {"distance": 0.0, "height": 0.0, "speed": 0.0, "rim_radius": 0.070} | change
    assert placed(**found) is expected
