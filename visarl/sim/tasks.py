"""What there is to do at the table. Light: neither physics nor ROS is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl.errors import SimulationError, suggest


@dataclass(frozen=True)
class Area:
    """A part of the table, in the base frame [m]."""

    centre: tuple[float, float]
    half: tuple[float, float]

    def point(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2,) in half sides to (2,) [m]."""
        return np.asarray(np.array(self.centre) + np.array(self.half) * place)


WORKSPACE = Area((0.48, 0.0), (0.10, 0.10))
"""Where things to be picked up begin."""
RIGHT, LEFT = Area((0.47, -0.080), (0.070, 0.055)), Area((0.47, 0.105), (0.040, 0.030))
"""Halves of the table, seen from the base: where things to be placed begin, and where they go."""


@dataclass(frozen=True)
class Task:
    """One thing to do at the table."""

    name: str
    object: str
    """What is picked up; a key of `OBJECTS`."""
    instruction: str
    roles: tuple[str, ...] = ("effector", "object")
    """What matters in the picture, by the contract's click roles."""
    area: Area = WORKSPACE
    """Where the object begins."""
    goal: str | None = None
    """Where it is to be placed; a key of `GOALS`. None: it is only picked up."""
    distractors: int = 0
    """Things on the table that belong to nothing."""
    limit_s: float = 25.0
    """A start that has not succeeded by then has failed."""


_PLACING: dict[str, Any] = {"roles": ("effector", "object", "goal"), "area": RIGHT, "distractors": 3, "limit_s": 40.0}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("pick_apple", "apple", "pick up the apple"),
        Task("pick_red_block", "red_block", "pick up the red block"),
        Task("bread_to_plate", "bread", "put the bread on the plate", goal="plate", **_PLACING),
        Task("apple_to_bowl", "apple", "put the apple into the bowl", goal="bowl", **_PLACING),
    )
}
"""The paper's four tabletop tasks (Table V, Figure 6)."""


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        SimulationError: there is none; the message lists those that exist.
    """
    if name not in TASKS:
        raise SimulationError(f"no task {name!r}; {suggest(name, TASKS)}")
    return TASKS[name]
