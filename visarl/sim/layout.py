"""Where the things of a scene stand: drawn from its seed, without physics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visarl.sim.props import DistractorSet
from visarl.sim.seeds import EVALUATION_SEEDS, TRAIN_SEEDS

Array = NDArray[np.float64]

TEACHING_SPOTS = 0.8 * np.array([(0, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1)])
TEACHING_JITTER = 0.2
"""Where demonstrations put the object in turn, and how far around it, in half sides of its area."""
GOAL_SPOTS = 0.8 * np.array([(0, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)])
"""The same for the goal. A number of its own, so that ten demonstrations do not pair the two always alike."""

DISTRACTOR_X, DISTRACTOR_Y = (0.365, 0.575), (-0.175, 0.175)
"""Distractors stand inside this part of the table, all of it in the picture [m, base frame]."""
CLEARANCE_M = 0.045
"""Between a distractor's edge and the object's: room for the fingers, except in the few scenes in which one is in their
way."""
GAP_M = 0.012
"""Between a distractor and the goal's rim or another distractor."""
FINGERS_M = 0.055
"""Between the middle of an object and the edge of what stands before it: out of the way of the fingers, which close
across."""
BEFORE_JITTER_M = 0.020, 0.015
"""How much farther before, and how far aside, that may stand."""
FOREMOST_M = 0.60
"""What stands farther to the front is cut off by the picture's edge."""
_TRIES = 2000


def object_place(seed: int, place: Array) -> Array:
    """Where the object stands, (2,) in half sides of its area.

    A person who teaches spreads the object over the whole area: middle, corners, edges. A clone fails where no
    demonstration was near.

    Args:
        place: (2,) uniform draws in [-1, 1].
    """
    if seed in TRAIN_SEEDS:
        return np.asarray(TEACHING_SPOTS[seed % len(TEACHING_SPOTS)] + TEACHING_JITTER * place)
    return place


def goal_place(seed: int, place: Array) -> Array:
    """The same for the goal."""
    if seed in TRAIN_SEEDS:
        return np.asarray(GOAL_SPOTS[seed % len(GOAL_SPOTS)] + TEACHING_JITTER * place)
    return place


def distractor_set(seed: int) -> DistractorSet:
    """Evaluation has its own."""
    return "unseen" if seed in EVALUATION_SEEDS else "training"


def place_before(rng: np.random.Generator, thing: Array, thing_radius: float, radius: float) -> list[Array]:
    """Where something of `radius` hides a part of the object or goal `thing` from the camera; none if the picture ends
    there."""
    further, aside = BEFORE_JITTER_M
    x = thing[0] + max(FINGERS_M, thing_radius + GAP_M) + radius + rng.uniform(0, further)
    place = np.array([x, thing[1] + rng.uniform(-aside, aside)])
    return [place] if x + radius < FOREMOST_M else []


def distractor_places(
    rng: np.random.Generator,
    radii: Sequence[float],
    thing: Array,
    thing_radius: float,
    goal: Array | None,
    goal_radius: float,
    taken: Sequence[Array] = (),
) -> list[Array]:
    """Places (2,) [m] of distractors with these radii: apart from the object, the goal and one another.

    In the rare scene that has no such place for one, it comes as far from the others as any that was tried.

    Args:
        taken: places of the first of them, that stand already.
    """
    found: list[Array] = list(taken)
    for i, radius in list(enumerate(radii))[len(found) :]:
        best, room = np.zeros(2), -np.inf
        for _ in range(_TRIES):
            place = np.array([rng.uniform(*DISTRACTOR_X), rng.uniform(*DISTRACTOR_Y)])
            gaps = [float(np.linalg.norm(place - thing)) - radius - thing_radius - CLEARANCE_M]
            if goal is not None:
                gaps.append(float(np.linalg.norm(place - goal)) - radius - goal_radius - GAP_M)
            gaps += [float(np.linalg.norm(place - p)) - radius - radii[k] - GAP_M for k, p in enumerate(found[:i])]
            if min(gaps) > room:
                best, room = place, min(gaps)
            if room >= 0:
                break
        found.append(best)
    return found
