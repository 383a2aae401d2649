"""When the arm's node counts as silent, and when as hung: no clock but the tests' own."""

from __future__ import annotations

import pytest

from visarl.errors import ArmError
from visarl.robot.watchdog import Watchdog

SILENCE_S, ANSWER_S = 0.5, 0.5


def heard(now_s: float = 10.0) -> Watchdog:
    dog = Watchdog(SILENCE_S, ANSWER_S)
    dog.hear(1, now_s)
    return dog


def test_an_arm_that_was_never_heard_is_told_apart_from_a_silent_one() -> None:
    dog = Watchdog(SILENCE_S, ANSWER_S)
    assert not dog.heard and dog.watch(1e6) == ""
    dog.hear(1, 1e6)
    assert dog.heard and dog.watch(1e6 + 0.4) == "" and dog.watch(1e6 + 0.6)


def test_silence_is_asked_about_once_and_no_answer_is_a_hung_node() -> None:
    dog = heard()
    assert dog.watch(10.5) == ""
    assert "0.60 s; stopping the arm" in dog.watch(10.6)
    assert dog.watch(11.1) == ""
    with pytest.raises(ArmError, match="hung: no arm/state for 1.11 s.*red button"):
        dog.watch(11.11)


def test_a_lost_answer_does_not_end_a_graph_whose_states_go_on() -> None:
    dog = heard()
    assert dog.watch(10.6)
    for stamp, now_s in enumerate((10.7, 11.0, 11.3, 11.6, 11.9), start=2):
        dog.hear(stamp, now_s)
        assert dog.watch(now_s + 0.1) == ""
    assert dog.watch(12.5)  # and it watches on


def test_an_old_measurement_that_is_sent_again_is_no_sign_of_life() -> None:
    dog = heard()
    for now_s in (10.2, 10.4, 10.6):
        dog.hear(1, now_s)
    assert "0.60 s" in dog.watch(10.6)
    dog.hear(1, 10.7)
    with pytest.raises(ArmError, match="hung"):
        dog.watch(11.2)


def test_an_arm_that_did_not_hear_the_stop_is_asked_again() -> None:
    dog = heard()
    assert dog.watch(10.6)
    dog.answered(False, 10.7)
    assert dog.watch(10.8)
    dog.answered(True, 10.9)
    assert dog.watch(11.3) == ""
    assert dog.watch(11.5)  # still silent: the stop is repeated, and the node has to go on answering
