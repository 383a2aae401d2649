"""What a state and an action are: names, units, frames, bounds, rate. The one place for these facts.

Every number elsewhere (sizes of networks, lengths of messages) follows from the names here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from visarl.errors import ContractError, suggest

if TYPE_CHECKING:  # numpy is imported where a vector is handled: the command line reads this file for its `--help`
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

VERSION = 1
"""Raised whenever a bundle or an episode file of the previous version would be misread."""

CONTROL_RATE_HZ = 10.0
"""Actions a second; an action is the motion of one such period."""

CAMERA_RATE_HZ = 30.0
CAMERA_WIDTH, CAMERA_HEIGHT = 640, 480

BASE_FRAME = "base_link"
"""REP 105 name of the frame of poses and twists: x to the front of the arm, z up."""

CAMERA_FRAME = "camera_optical_frame"

ROLES = ("effector", "object", "goal")
"""What a click may point at; `plain` in an annotation is the paper's case, a click without a role."""

PLAIN_ROLE = "plain"


@dataclass(frozen=True)
class Field:
    """One number: what it is called, its unit and the closed interval it lies in."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class VectorSpec:
    """A named vector of named numbers that validates itself."""

    name: str
    fields: tuple[Field, ...]

    def __len__(self) -> int:
        return len(self.fields)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @cached_property
    def low(self) -> NDArray[np.float64]:
        import numpy as np

        return np.array([field.low for field in self.fields])

    @cached_property
    def high(self) -> NDArray[np.float64]:
        import numpy as np

        return np.array([field.high for field in self.fields])

    def validate(self, value: ArrayLike) -> NDArray[np.float64]:
        """`value` as a float64 array of shape `(len(self),)`.

        Raises:
            ContractError: wrong shape, NaN or Inf, or a number outside its bounds.
        """
        import numpy as np

        array = np.asarray(value, dtype=np.float64)
        if array.shape != (len(self),):
            raise ContractError(f"{self.name}: expected shape ({len(self)},), found {array.shape}")
        if not np.isfinite(array).all():
            field = self.fields[int(np.flatnonzero(~np.isfinite(array))[0])]
            raise ContractError(f"{self.name}.{field.name}: expected a finite number, found NaN or Inf")
        slack = 1e-6 * (self.high - self.low)  # float32 on the wire rounds a bound outwards
        outside = (array < self.low - slack) | (array > self.high + slack)
        if outside.any():
            index = int(np.flatnonzero(outside)[0])
            field = self.fields[index]
            raise ContractError(
                f"{self.name}.{field.name}: expected [{field.low:g}, {field.high:g}] {field.unit}, "
                f"found {array[index]:g}"
            )
        return array


@dataclass(frozen=True)
class ArmContract:
    """State and action of one kind of arm. A bundle names it and refuses to drive another."""

    name: str
    description: str
    proprioception: VectorSpec
    action: VectorSpec
    joints: int
    fingers: int

    @property
    def max_twist(self) -> NDArray[np.float64]:
        """Largest twist an action can ask for, (6,) in m/s and rad/s."""
        return self.action.high[:6] * CONTROL_RATE_HZ


def _arm(name: str, description: str, joint_speeds_deg: tuple[float, ...], fingers: int) -> ArmContract:
    joints = len(joint_speeds_deg)
    two_pi = 2 * math.pi
    position = [Field(f"joint_{i + 1}_position", "rad", -two_pi, two_pi) for i in range(joints)]
    velocity = [
        # Twice the rated speed: a measured velocity overshoots, and an overshoot is no reason to drop a state.
        Field(f"joint_{i + 1}_velocity", "rad/s", -2 * math.radians(s), 2 * math.radians(s))
        for i, s in enumerate(joint_speeds_deg)
    ]
    finger = [Field(f"finger_{i + 1}_position", "0 open .. 1 closed", -0.1, 1.1) for i in range(fingers)]
    # 0.2 m/s is the Jaco 2's rated Cartesian speed (user guide); 0.6 rad/s keeps the wrist below its joint limits.
    step_m, step_rad = 0.2 / CONTROL_RATE_HZ, 0.6 / CONTROL_RATE_HZ
    action = [Field(f"delta_{axis}", "m", -step_m, step_m) for axis in ("x", "y", "z")]
    action += [Field(f"delta_{angle}", "rad", -step_rad, step_rad) for angle in ("phi", "theta", "psi")]
    action += [Field("gripper_speed", "-1 opens .. +1 closes", -1.0, 1.0)]
    return ArmContract(
        name=name,
        description=description,
        proprioception=VectorSpec("proprioception", (*position, *velocity, *finger)),
        action=VectorSpec("action", tuple(action)),
        joints=joints,
        fingers=fingers,
    )


CONTRACTS = {
    contract.name: contract
    for contract in (
        _arm("jaco2", "Kinova Jaco 2 (j2s6s300): 6 joints, 3 fingers", (36.0, 36.0, 36.0, 48.0, 48.0, 48.0), fingers=3),
    )
}


def get_contract(name: str) -> ArmContract:
    """The contract of the arm called `name`.

    Raises:
        ContractError: there is none; the message lists those that exist.
    """
    if name not in CONTRACTS:
        raise ContractError(f"no contract for the arm {name!r}; {suggest(name, CONTRACTS)}")
    return CONTRACTS[name]
