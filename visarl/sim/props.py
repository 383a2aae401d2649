"""Things that stand on the table, from primitives: no mesh has to travel with the code. Sizes [m], masses [kg]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from visarl.sim.tasks import Task

DistractorSet = Literal["training", "unseen"]
RGBA = tuple[float, float, float, float]

# condim 4 adds friction against twisting, without which a cube turns out of three point contacts.
_GRIPPABLE: dict[str, Any] = {
    "condim": 4, "friction": [1.0, 0.02, 0.001], "solref": [0.01, 1.0], "solimp": [0.95, 0.99, 0.001, 0.5, 2],
}  # fmt: skip
_ROLLING: dict[str, Any] = {**_GRIPPABLE, "condim": 6, "friction": [1.0, 0.02, 0.003]}
"""Rolling friction stands for the flat underside on which a real apple rests."""
_LOOKS: dict[str, Any] = {"contype": 0, "conaffinity": 0, "mass": 0}
_UNDRAWN = {"group": 3}
"""Boxes where things touch a flat cylinder: of a cylinder itself MuJoCo finds one contact, and things sink in."""


@dataclass(frozen=True)
class Prop:
    """A thing that is picked up, or that stands in the way."""

    add_geoms: Callable[[Any], None]
    rest_height: float
    """Of its centre when it stands on the table."""
    radius: float
    """Around its upright axis: how much room it needs."""
    turn: float = 1.0
    """Share of a whole turn from which its orientation is drawn: a long thing lies across the fingers' way."""


@dataclass(frozen=True)
class Goal:
    """A thing onto or into which another is placed. It does not move."""

    add_geoms: Callable[[Any], None]
    rim_radius: float
    rim_height: float
    """Of the rim's upper edge above the table."""
    floor_height: float
    """Of the surface on which the placed thing rests, above the table."""
    release_height: float
    """Of the hand above the table when it opens: the fingers stay clear of the rim, and the thing drops a little."""


def _red_block(body: Any) -> None:
    body.add("geom", name="block", type="box", size=[0.025] * 3, mass=0.10, rgba=[0.80, 0.06, 0.05, 1.0], **_GRIPPABLE)


def _apple(body: Any) -> None:
    body.add("geom", name="apple", type="sphere", size=[0.032], mass=0.12, material="apple", **_ROLLING)
    body.add(
        "geom",
        type="capsule",
        fromto=[0, 0, 0.028, 0.004, 0.002, 0.045],
        size=[0.0022],
        rgba=[0.30, 0.18, 0.08, 1],
        **_LOOKS,
    )
    body.add(
        "geom",
        type="ellipsoid",
        pos=[0.012, 0.004, 0.040],
        size=[0.011, 0.006, 0.0015],
        euler=[0.2, -0.4, 0.3],
        rgba=[0.20, 0.50, 0.12, 1],
        **_LOOKS,
    )


def _green_apple(body: Any) -> None:
    body.add("geom", type="sphere", size=[0.032], mass=0.12, rgba=[0.48, 0.64, 0.17, 1], **_ROLLING)
    stalk = [0, 0, 0.028, 0.003, -0.003, 0.044]
    body.add("geom", type="capsule", fromto=stalk, size=[0.0022], rgba=[0.30, 0.18, 0.08, 1], **_LOOKS)


def _potato(body: Any) -> None:
    size = [0.036, 0.025, 0.021]
    body.add("geom", type="ellipsoid", size=size, mass=0.10, rgba=[0.70, 0.55, 0.33, 1], **_ROLLING)


_CRUST, _CUT = (0.72, 0.43, 0.17, 1.0), (0.93, 0.80, 0.56, 1.0)


def _bread(body: Any) -> None:
    """A small loaf: a body that the fingers hold, a crust with three cuts over it."""
    body.add("geom", name="bread", type="box", size=[0.036, 0.022, 0.018], mass=0.08, rgba=_CRUST, **_GRIPPABLE)
    body.add("geom", type="ellipsoid", pos=[0, 0, 0.010], size=[0.043, 0.026, 0.021], rgba=_CRUST, **_LOOKS)
    for x in (-0.019, 0.0, 0.019):
        height = 0.010 + 0.021 * float(np.sqrt(1 - (x / 0.043) ** 2))
        body.add(
            "geom", type="ellipsoid", pos=[x, 0, height - 0.001], size=[0.0035, 0.015, 0.0025], euler=[0, 0, 0.4],
            rgba=_CUT, **_LOOKS,
        )  # fmt: skip


def _plate(body: Any) -> None:
    """A flat disc with a blue ring."""
    radius, half_height = 0.070, 0.004
    square, side = radius * np.cos(np.pi / 4), radius * np.sin(np.pi / 8)
    edge = (radius * np.cos(np.pi / 8) - square) / 2
    solid = {"friction": [1.0, 0.02, 0.001], "condim": 4, **_UNDRAWN}
    body.add("geom", type="box", size=[square, square, half_height], pos=[0, 0, half_height], **solid)
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        size = [edge, side, half_height] if x else [side, edge, half_height]
        body.add("geom", type="box", size=size, pos=[x * (square + edge), y * (square + edge), half_height], **solid)
    disc: dict[str, Any] = {"type": "cylinder", **_LOOKS}
    white = [0.93, 0.94, 0.95, 1]
    body.add("geom", name="plate", size=[radius, half_height], pos=[0, 0, half_height], rgba=white, **disc)
    body.add("geom", size=[0.062, 0.0002], pos=[0, 0, 0.0082], rgba=[0.16, 0.32, 0.62, 1], **disc)
    body.add("geom", size=[0.056, 0.0002], pos=[0, 0, 0.0085], rgba=[0.90, 0.91, 0.93, 1], **disc)


_WALLS = 18


def _bowl(body: Any) -> None:
    """A disc and a ring of walls that lean outwards."""
    solid = {"friction": [1.0, 0.02, 0.003], "condim": 6, "rgba": [0.18, 0.45, 0.50, 1]}
    body.add("geom", name="bowl", type="cylinder", size=[0.052, 0.003], pos=[0, 0, 0.003], **solid)
    for i in range(_WALLS):
        angle = 2 * np.pi * i / _WALLS
        lean = 0.35
        body.add(
            "geom", type="box", size=[0.003, 0.0125, 0.022],
            pos=[0.060 * np.cos(angle), 0.060 * np.sin(angle), 0.024],
            quat=[
                np.cos(angle / 2) * np.cos(lean / 2), -np.sin(angle / 2) * np.sin(lean / 2),
                np.cos(angle / 2) * np.sin(lean / 2), np.sin(angle / 2) * np.cos(lean / 2),
            ],
            **solid,
        )  # fmt: skip


OBJECTS: dict[str, Prop] = {
    "red_block": Prop(_red_block, 0.025, 0.035),
    "apple": Prop(_apple, 0.032, 0.032),
    "bread": Prop(_bread, 0.018, 0.043, turn=0.12),
}

GOALS: dict[str, Goal] = {
    "plate": Goal(_plate, rim_radius=0.070, rim_height=0.008, floor_height=0.008, release_height=0.042),
    "bowl": Goal(_bowl, rim_radius=0.068, rim_height=0.045, floor_height=0.006, release_height=0.080),
}


def _ball(radius: float, rgba: RGBA) -> Prop:
    def add(body: Any) -> None:
        body.add("geom", type="sphere", size=[radius], mass=0.06, rgba=rgba, **_ROLLING)

    return Prop(add, radius, radius)


def _box(x: float, y: float, z: float, rgba: RGBA) -> Prop:
    """Half sides."""

    def add(body: Any) -> None:
        body.add("geom", type="box", size=[x, y, z], mass=0.08, rgba=rgba, **_GRIPPABLE)

    return Prop(add, z, float(np.hypot(x, y)))


def _cylinder(radius: float, half_height: float, rgba: RGBA) -> Prop:
    def add(body: Any) -> None:
        body.add("geom", type="cylinder", size=[radius, half_height], mass=0.08, rgba=rgba, **_GRIPPABLE)

    return Prop(add, half_height, radius)


def _cup(radius: float, half_height: float, rgba: RGBA) -> Prop:
    """A cylinder with a dark opening."""

    def add(body: Any) -> None:
        body.add("geom", type="cylinder", size=[radius, half_height], mass=0.08, rgba=rgba, **_GRIPPABLE)
        inside = [0.8 * radius, 0.0003]
        body.add("geom", type="cylinder", size=inside, pos=[0, 0, half_height], rgba=[0.08, 0.08, 0.08, 1], **_LOOKS)

    return Prop(add, half_height, radius)


def _disc(radius: float, half_height: float, rgba: RGBA) -> Prop:
    def add(body: Any) -> None:
        inside = [0.7 * radius, 0.7 * radius, half_height]
        body.add("geom", type="box", size=inside, mass=0.08, **_GRIPPABLE, **_UNDRAWN)
        body.add("geom", type="cylinder", size=[radius, half_height], rgba=rgba, **_LOOKS)

    return Prop(add, half_height, radius)


_TRAINING: dict[str, Prop] = {
    "green_cube": _box(0.020, 0.020, 0.020, (0.15, 0.50, 0.22, 1)),
    "yellow_ball": _ball(0.022, (0.88, 0.75, 0.15, 1)),
    "grey_can": _cylinder(0.022, 0.035, (0.50, 0.52, 0.55, 1)),
    "purple_box": _box(0.030, 0.018, 0.014, (0.42, 0.22, 0.50, 1)),
    "black_cup": _cup(0.024, 0.028, (0.18, 0.18, 0.20, 1)),
}
_RED_BALL = _ball(0.026, (0.75, 0.08, 0.07, 1))
_RED_CAN = _cylinder(0.024, 0.038, (0.74, 0.10, 0.08, 1))
_BROWN_BOX = _box(0.034, 0.022, 0.018, (0.70, 0.44, 0.20, 1))
_UNSEEN: dict[str, dict[str, Prop]] = {
    "apple": {
        "red_ball": _RED_BALL,
        "red_can": _RED_CAN,
        "green_apple": Prop(_green_apple, 0.032, 0.032),
        "orange": _ball(0.033, (0.90, 0.47, 0.08, 1)),
    },
    "red_block": {
        "red_ball": _RED_BALL,
        "red_can": _RED_CAN,
        "brown_box": _BROWN_BOX,
        "pink_cube": _box(0.023, 0.023, 0.023, (0.85, 0.42, 0.48, 1)),
    },
    "bread": {
        "brown_box": _BROWN_BOX,
        "sponge": _box(0.036, 0.024, 0.014, (0.90, 0.78, 0.40, 1)),
        "brown_tin": _cylinder(0.024, 0.034, (0.72, 0.46, 0.20, 1)),
        "potato": Prop(_potato, 0.021, 0.036),
    },
    "plate": {"white_coaster": _disc(0.034, 0.004, (0.92, 0.93, 0.94, 1))},
    "bowl": {"teal_cup": _cup(0.028, 0.024, (0.20, 0.46, 0.50, 1))},
}
"""By the thing that they are like in colour or shape."""


def distractors(which: DistractorSet, task: Task) -> dict[str, Prop]:
    """What may stand on the table beside the things of `task`, by name.

    Args:
        which: `training`, for demonstrations and where settings are chosen; `unseen`, of which each shares a colour or
            a shape with something that matters in this task, and none is in the other set.
    """
    if which == "training":
        return _TRAINING
    return _UNSEEN[task.object] | (_UNSEEN[task.goal] if task.goal is not None else {})
