"""What is believed of keypoints that flicker, leap and hide."""

from __future__ import annotations

import numpy as np
import pytest

from visarl.aim import FADE_TO, project
from visarl.tracking import LEAP, PATIENCE, Tracker

# Looks straight down from 1 m above the table: the base frame's x is down in the picture, y to the right.
CAMERA = np.array([[0.0, 4.0, 0.0, 0.0], [4.0, 0.0, 0.0, -1.8], [0.0, 0.0, -1.0, 1.0]]).ravel()
AWAY = np.array([0.2, -0.3, 0.2])
PLACE = np.array([0.3, -0.2])
LOOKALIKE = PLACE + [0.0, 0.5]


def tracker_of(place: np.ndarray, periods: int) -> Tracker:
    """One that has seen a keypoint for so long, with the hand far from it."""
    tracker = Tracker(CAMERA)
    for _ in range(periods):
        assert believed(tracker, place) == pytest.approx(place)
    return tracker


def believed(tracker: Tracker, place: np.ndarray, confidence: float = 0.9, tool: np.ndarray = AWAY) -> np.ndarray:
    return tracker.update(tool, [[*place, confidence]])[0, :2]


def test_what_moves_in_the_clear_is_followed_at_once() -> None:
    tracker = tracker_of(PLACE, 1)
    for step in range(1, 20):
        moved = PLACE + [0.0, step * LEAP / 2]
        assert believed(tracker, moved) == pytest.approx(moved)


def test_a_peak_that_leaps_to_something_else_and_back_moves_nothing() -> None:
    tracker = tracker_of(PLACE, 15)
    for _ in range(3):
        for _ in range(8):
            assert believed(tracker, LOOKALIKE) == pytest.approx(PLACE)
        for _ in range(8):
            assert believed(tracker, PLACE) == pytest.approx(PLACE)


def test_a_peak_that_stays_elsewhere_is_followed_in_the_end() -> None:
    tracker = tracker_of(PLACE, 100)
    periods = 0
    while np.allclose(believed(tracker, LOOKALIKE), PLACE):
        periods += 1
    assert periods == PATIENCE
    assert believed(tracker, LOOKALIKE) == pytest.approx(LOOKALIKE)


def test_a_first_peak_that_was_wrong_holds_nobody_up() -> None:
    tracker = tracker_of(LOOKALIKE, 2)
    for _ in range(3):
        last = believed(tracker, PLACE)
    assert last == pytest.approx(PLACE)


def test_leaps_here_and_there_are_no_other_place() -> None:
    tracker = tracker_of(PLACE, 5)
    for step in range(30):
        assert believed(tracker, PLACE + [0.5 * (-1) ** step, 0.4]) == pytest.approx(PLACE)


def test_faint_peaks_elsewhere_count_for_little() -> None:
    tracker = tracker_of(PLACE, 5)
    for _ in range(15):
        assert believed(tracker, LOOKALIKE, (0.35 + 2 * FADE_TO) / 3) == pytest.approx(PLACE)


def test_a_hand_over_an_object_does_not_drag_its_keypoint_along() -> None:
    over = np.array([0.4, -0.1, 0.05])
    place = project(CAMERA, over)
    tracker = tracker_of(place, 5)
    for _ in range(5):
        last = believed(tracker, place + [0.1, 0.0], 0.8, over)
    assert np.linalg.norm(last - place) < 0.02
    for _ in range(60):
        last = believed(tracker, place + [0.0, 0.8], 0.9, over)
    assert last == pytest.approx(place + [0.0, 0.8], abs=0.01)  # in the end it is: the object is elsewhere


def test_what_is_not_seen_is_neither_remembered_nor_forgotten() -> None:
    tracker = Tracker(CAMERA)
    believed(tracker, np.array([0.9, -0.9]), FADE_TO)  # not found yet: a false peak
    assert believed(tracker, PLACE) == pytest.approx(PLACE)
    assert believed(tracker, np.array([-0.9, 0.9]), FADE_TO) == pytest.approx(PLACE)
    assert tracker.update(AWAY, [[0.9, 0.9, 0.01]])[0, 2] == 0.01


def test_each_thing_has_its_own_place() -> None:
    tracker = Tracker(CAMERA)
    for step in range(12):
        peaks = [[*PLACE, 0.9], [*(LOOKALIKE if step % 3 else -LOOKALIKE), 0.9]]
        found = tracker.update(AWAY, peaks)
    assert found[0, :2] == pytest.approx(PLACE) and found[1, :2] == pytest.approx(LOOKALIKE)
