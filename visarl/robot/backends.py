"""Which arms there are, by name."""

from __future__ import annotations

from visarl.errors import ArmError, suggest
from visarl.robot.interfaces import Arm

BACKENDS = {
    "kortex": "Kinova Gen3 and Gen3 lite by way of kortex_api",
    "jaco2": "Kinova Jaco 2 by way of its own SDK; kortex_api does not drive it",
}


def open_arm(backend: str, address: str = "") -> Arm:
    """The real arm called `backend`, not yet connected.

    Raises:
        ArmError: there is no such back-end, or this release does not drive it yet.
    """
    if backend not in BACKENDS:
        raise ArmError(f"no arm back-end {backend!r}; {suggest(backend, BACKENDS)}")
    raise ArmError(
        f"the arm back-end {backend!r} ({BACKENDS[backend]}) comes in a later release; "
        "this one drives the simulated Jaco 2: `visarl up sim` or `ros2 launch visarl_bringup sim.launch.py`"
    )
