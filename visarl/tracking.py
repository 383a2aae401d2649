"""Where things are believed to be, from keypoints that flicker and hide. No torch: a launcher imports it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.aim import project, trust

COVERED, CLEAR = 0.15, 0.4
"""Distance in the picture [half its side] between the hand and a keypoint up to which the hand covers what the keypoint
shows, and beyond which it leaves it free."""
COVERED_GAIN = 0.03
"""Share of a covered keypoint's move that is believed a control period: it takes three seconds to follow."""

LEAP = 0.12
"""Farthest that the peak of one thing moves in a control period, in the picture [half its side]: about 4 cm on the
table. A hand that carries it does 1 cm at most."""
PATIENCE = 20.0
"""Control periods for which a peak that leapt has to stay to be followed, at most: two seconds."""

Array = NDArray[np.float64]


class Tracker:
    """Where an episode's keypoints are believed to be: seen while they are in the clear, remembered under the hand.

    A hand that covers half of an object draws the object's peak along with itself, so a policy that followed the peak
    would never notice that it has gone too far. What was seen before the hand came is better. A keypoint that moves off
    from under the hand is followed at once.

    Args:
        camera: (12,) from `aim.fit_camera`.
    """

    def __init__(self, camera: ArrayLike) -> None:
        self._camera = camera
        self._steady: _Steady | None = None
        self._believed: Array | None = None

    def update(self, tool: ArrayLike, points: ArrayLike) -> Array:
        """Take in one control period's keypoints.

        Args:
            tool: (3,) pinch point [m].
            points: (K, 3) keypoints: x, y, confidence.

        Returns:
            (K, 3): x and y as they are believed, the confidence as it is seen.
        """
        points = np.array(points, dtype=np.float64)
        sure = trust(points[:, 2])
        if self._steady is None or self._believed is None:
            self._steady, self._believed = _Steady(len(points)), np.full((len(points), 2), np.nan)
        seen = self._steady.update(points[:, :2], sure)
        known = np.isfinite(self._believed)
        believed = np.where(known, self._believed, seen)
        distance = np.linalg.norm(believed - project(self._camera, tool), axis=1)
        clear = np.clip((distance - COVERED) / (CLEAR - COVERED), 0.0, 1.0)
        gain = sure * (COVERED_GAIN + (1.0 - COVERED_GAIN) * clear)
        believed = believed + gain[:, None] * (seen - believed)
        self._believed = np.where(known | (sure > 0)[:, None], believed, np.nan)  # never seen: not remembered
        points[:, :2] = believed
        return points


class _Steady:
    """Peaks without leaps.

    A thing does not leap. A peak that does is on something that looks like it, as a model of a few clicked frames puts
    it for some moments while a hand goes by. It is followed when it has stayed there for longer than the thing was seen
    where it was before, or for `PATIENCE`.
    """

    def __init__(self, count: int) -> None:
        # Where each thing was seen last, and for how many periods; the same of what has been taken for it since then.
        self._place, self._support = np.zeros((count, 2)), np.zeros(count)
        self._rival, self._rival_support = np.zeros((count, 2)), np.zeros(count)

    def update(self, seen: Array, sure: Array) -> Array:
        """(K, 2), from peaks (K, 2) and the trust in them (K,)."""
        near = (self._support == 0) | (np.linalg.norm(seen - self._place, axis=1) <= LEAP)
        again = np.linalg.norm(seen - self._rival, axis=1) <= LEAP
        # A peak that is back where it was takes from what spoke for the other place.
        spoken = np.select([near, again], [self._rival_support - sure, self._rival_support + sure], sure)
        spoken = np.maximum(np.where(sure > 0, spoken, self._rival_support), 0.0)
        self._rival = np.where((near | (sure == 0))[:, None], self._rival, seen)
        won = ~near & (spoken > self._support)
        held = np.where(near, self._support + sure, np.where(won, spoken, self._support))
        self._support, self._rival_support = np.minimum(held, PATIENCE), np.where(won, 0.0, spoken)
        self._place = np.where(((near & (sure > 0)) | won)[:, None], seen, self._place)
        return np.where((self._support > 0)[:, None], self._place, seen)
