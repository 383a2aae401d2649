"""A perturbed scene's looks: other colours in the model, a moving picture behind and on the table."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl.sim.backend import mujoco
from visarl.sim.clips import Clip
from visarl.sim.perturb import Change
from visarl.sim.renderer import SceneRenderer

TABLE, FLOOR = "table", "floor"
BACKGROUND, GROUND = 1, 2
ARM_PREFIX = "jaco/"
DARKEST = 0.02
"""No colour is drawn darker, so that a thing keeps its shading."""
UNSET_RGBA = 0.5, 0.5, 0.5, 1.0
"""MuJoCo draws a geom with a material in the material's colour unless the geom's own differs from this."""


class Looks:
    """Changes how a model looks and undoes it. Who calls it sees to it that nobody draws meanwhile."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._stock: list[tuple[NDArray[Any], Any, NDArray[Any]]] = []  # array, what of it was painted, as it was
        self._clip: Clip | None = None
        self._table_share = 0.0
        # By geom: drawn as it is, background, table. The last one is the sky, -1 in a segmentation.
        self._covered = np.zeros(model.ngeom + 1, np.uint8)
        self._covered[[model.geom(FLOOR).id, -1]] = BACKGROUND
        self._covered[model.geom(TABLE).id] = GROUND

    def restore(self) -> None:
        """Undo all of it, to the last bit. Before the scene of an episode is laid out, which may paint, too."""
        while self._stock:
            array, part, before = self._stock.pop()
            array[part] = before
        self._clip = None

    def apply(self, change: Change, seed: int, clip: Clip | None) -> None:
        """Perturb a scene that is laid out.

        Args:
            clip: where `change` has a moving picture.
        """
        if change.colour_sd > 0:
            self._recolour(change.colour_sd, np.random.default_rng([seed, 3]))
        if change.table_share is not None:
            self._clip, self._table_share = clip, change.table_share

    def _recolour(self, sd: float, rng: np.random.Generator) -> None:
        model = self._model
        shifts: dict[str, NDArray[np.float64]] = {}
        done: set[tuple[bool, int]] = set()
        for geom in range(model.ngeom):
            kind = self._kind(geom)
            if kind not in shifts:
                shifts[kind] = sd * (1.0 if kind in (TABLE, FLOOR) else 0.5) * rng.standard_normal(3)
            material = int(model.geom_matid[geom])
            of_material = material >= 0 and tuple(model.geom_rgba[geom]) == UNSET_RGBA
            slot = (of_material, material if of_material else geom)
            if slot not in done:
                done.add(slot)
                self._shift(*slot, shifts[kind])
        for light in (model.light_diffuse, model.vis.headlight.ambient):
            self._remember(light, slice(None))
            light *= np.clip(1 + sd * rng.standard_normal(3), 0.3, 1.7)

    def _remember(self, array: NDArray[Any], part: Any) -> None:
        self._stock.append((array, part, array[part].copy()))

    def _kind(self, geom: int) -> str:
        """What gets one shift as a whole: table, floor, the arm, each thing."""
        name = self._model.geom(geom).name
        body = self._model.body(self._model.body_rootid[self._model.geom_bodyid[geom]]).name
        return name if name in (TABLE, FLOOR) else ARM_PREFIX if body.startswith(ARM_PREFIX) else body

    def _shift(self, of_material: bool, row: int, shift: NDArray[np.float64]) -> None:
        table = self._model.mat_rgba if of_material else self._model.geom_rgba
        self._remember(table, row)
        texture = self._texture(row) if of_material else None
        if texture is None:
            table[row, :3] = np.clip(table[row, :3] + shift, DARKEST, 1)
        else:  # tinted, so that its mean shifts; the pattern stays
            base = np.maximum(texture * table[row, :3], DARKEST)
            table[row, :3] *= np.clip(base + shift, DARKEST, 1) / base

    def _texture(self, material: int) -> NDArray[np.float64] | None:
        """The mean colour of a material's texture, (3,) in [0, 1]."""
        model = self._model
        index = int(model.mat_texid[material, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)])
        if index < 0:
            return None
        channels = int(model.tex_nchannel[index])
        start, size = int(model.tex_adr[index]), int(model.tex_height[index] * model.tex_width[index]) * channels
        return np.asarray(model.tex_data[start : start + size].reshape(-1, channels)[:, :3].mean(axis=0) / 255)

    def finish(
        self, picture: NDArray[np.uint8], renderer: SceneRenderer, qpos: NDArray[np.float64], time_s: float
    ) -> NDArray[np.uint8]:
        """`picture`, which `renderer` drew of `qpos`, with what the model itself cannot show: the moving picture."""
        if self._clip is None:
            return picture
        height, width = picture.shape[:2]
        moving = self._clip.frame(time_s, width, height)
        covered = self._covered[renderer.draw_segmentation(qpos, width, height)]
        share = self._table_share
        finished = cv2.copyTo(moving, (covered == BACKGROUND).astype(np.uint8), picture.copy())
        mixed = cv2.addWeighted(moving, share, picture, 1 - share, 0)
        return np.asarray(cv2.copyTo(mixed, (covered == GROUND).astype(np.uint8), finished), dtype=np.uint8)
