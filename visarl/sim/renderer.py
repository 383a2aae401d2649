"""Pictures of the scene, its depth and what is where in it, drawn in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl.errors import SimulationError
from visarl.sim.backend import mujoco
from visarl.sim.scene import CAMERA

SIZES = 3
"""Contexts kept, one a picture's size: opening one takes as long as drawing dozens of pictures."""
HIDDEN_GROUP = 5
"""MuJoCo draws the groups of geoms from 3 on only when asked to."""


class SceneRenderer:
    """Draws a model's front camera.

    An OpenGL context belongs to one thread, so all drawing happens in one worker, whoever asks.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sim-render")
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}  # the last one was used last
        self._closed = False

    def draw(self, qpos: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
        """The camera's picture of the scene at `qpos`, (height, width, 3) uint8 RGB.

        Raises:
            SimulationError: OpenGL does not work on this machine.
        """
        return self._worker.submit(self._draw, qpos, width, height).result()

    def draw_depth(self, qpos: NDArray[np.float64], width: int, height: int) -> NDArray[np.float32]:
        """Distance of what each pixel of that picture shows, (height, width) float32 [m], along the camera's axis.

        Where nothing is, the farthest that the camera sees. Raises like `draw`.
        """
        return self._worker.submit(self._draw, qpos, width, height, _depth).result()

    def draw_segmentation(
        self, qpos: NDArray[np.float64], width: int, height: int, only: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int32]:
        """The model's geom that each pixel of that picture shows, (height, width) int32; -1 where none is.

        `only`: (ngeom,) which geoms are drawn, as though nothing else was there. Raises like `draw`.
        """
        return self._worker.submit(self._draw, qpos, width, height, _segmentation, only).result()

    def _draw(
        self,
        qpos: NDArray[np.float64],
        width: int,
        height: int,
        read: Callable[[mujoco.Renderer], NDArray[Any]] = mujoco.Renderer.render,
        only: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        renderer = self._renderers.pop((width, height), None) or self._open(width, height)
        self._renderers[width, height] = renderer
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        groups = self._model.geom_group.copy()
        if only is not None:
            self._model.geom_group[~only] = HIDDEN_GROUP
        renderer.update_scene(self._data, CAMERA)
        self._model.geom_group[:] = groups
        return read(renderer)

    def _open(self, width: int, height: int) -> mujoco.Renderer:
        while len(self._renderers) >= SIZES:
            self._renderers.pop(next(iter(self._renderers))).close()
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
        while self._renderers:
            self._renderers.popitem()[1].close()

    def close(self) -> None:
        """Free the contexts, in the thread that owns them: otherwise EGL complains when the process ends."""
        if not self._closed:
            self._closed = True
            self._worker.submit(self._release).result()
            self._worker.shutdown()


def _depth(renderer: mujoco.Renderer) -> NDArray[np.float32]:
    renderer.enable_depth_rendering()
    try:
        return renderer.render()
    finally:
        renderer.disable_depth_rendering()


def _segmentation(renderer: mujoco.Renderer) -> NDArray[np.int32]:
    renderer.enable_segmentation_rendering()
    try:
        found = renderer.render()
    finally:
        renderer.disable_segmentation_rendering()
    # int: with the enumeration itself, NumPy compares one object after the other.
    return np.where(found[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM), found[..., 0], -1).astype(np.int32)
