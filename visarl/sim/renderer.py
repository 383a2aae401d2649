"""Pictures of the scene, drawn in a thread of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from visarl.errors import SimulationError
from visarl.sim.backend import mujoco
from visarl.sim.scene import CAMERA


class SceneRenderer:
    """Draws a model's front camera.

    An OpenGL context belongs to one thread, so all drawing happens in one worker, whoever asks.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sim-render")
        self._renderer: mujoco.Renderer | None = None
        self._size = (0, 0)
        self._closed = False

    def draw(self, qpos: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
        """The camera's picture of the scene at `qpos`, (height, width, 3) uint8 RGB.

        Raises:
            SimulationError: OpenGL does not work on this machine.
        """
        return self._worker.submit(self._draw, qpos, width, height).result()

    def _draw(self, qpos: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
        if self._renderer is None or self._size != (width, height):
            self._release()
            self._renderer = self._open(width, height)
            self._size = (width, height)
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, CAMERA)
        return self._renderer.render()

    def _open(self, width: int, height: int) -> mujoco.Renderer:
        try:
            renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # each OpenGL back-end raises its own kind
            raise SimulationError(
                f"no renderer ({type(error).__name__}: {error}); install libegl1 and libgl1-mesa-dri, "
                "or set MUJOCO_GL=osmesa with libosmesa6"
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
            renderer.scene.flags[flag] = 0
        return renderer

    def _release(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def close(self) -> None:
        """Free the context, in the thread that owns it: otherwise EGL complains when the process ends."""
        if not self._closed:
            self._closed = True
            self._worker.submit(self._release).result()
            self._worker.shutdown()
