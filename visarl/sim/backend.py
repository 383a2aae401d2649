"""MuJoCo, imported with a renderer that needs no display. The rest of the simulator takes `mujoco` from here."""

from __future__ import annotations

import os

from visarl.errors import SimulationError

__all__ = ["kinova", "mjcf", "mujoco"]

# MuJoCo chooses its renderer when it is imported. A person who has chosen another (osmesa, glfw) keeps it.
os.environ.setdefault("MUJOCO_GL", "egl")
try:
    import mujoco
    from dm_control import mjcf
    from dm_control.entities.manipulators import kinova
except (ImportError, AttributeError, RuntimeError) as error:  # PyOpenGL says a missing libEGL with an AttributeError
    raise SimulationError(
        f"the simulator cannot start ({error}); it needs the Python packages mujoco and dm_control and, to draw with "
        f"MUJOCO_GL={os.environ['MUJOCO_GL']}, OpenGL: on Debian and Ubuntu `apt install libegl1 libgl1 "
        "libgl1-mesa-dri`, or MUJOCO_GL=osmesa with libosmesa6; MUJOCO_GL=disabled simulates without pictures"
    ) from error
