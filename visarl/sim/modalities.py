"""What a depth camera would add to the picture: depth and surface normals, and how files keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.errors import SimulationError, suggest
from visarl.preprocess import crop

if TYPE_CHECKING:
    from visarl.sim.tabletop import Simulator

NEAR_M, FAR_M = 0.3, 1.3
"""Depth that a file's 0 and 255 stand for: the lifted hand is no nearer to this bench's camera, the table's far edge
no farther. A step is 4 mm."""

MODALITIES = ("depth", "normals")


def normals(depth: NDArray[np.float32], fovy_deg: float) -> NDArray[np.float32]:
    """Surface normals of a depth picture (H, W) [m], (H, W, 3) float32 unit vectors.

    In the camera's optical frame (REP 103: x right, y down, z forward), towards the camera. `fovy_deg`: the vertical
    field of view. Neighbours on another thing would bend a normal: of the two beside and the two above and below each
    pixel, the nearer one in depth counts.
    """
    height, width = depth.shape
    focal = 0.5 * height / np.tan(np.deg2rad(fovy_deg) / 2)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / np.float32(focal)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / np.float32(focal)
    points = np.stack([depth * x, depth * y[:, None], depth], axis=-1)
    # The cross product of the steps down and to the right: at a plain wall before the camera, (0, 0, -1).
    found = np.cross(_step(points, 0), _step(points, 1))
    found /= np.sqrt(np.einsum("...i,...i", found, found))[..., None]
    return np.asarray(found, dtype=np.float32)


def _step(points: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """From each point to the next along `axis`, or from the one before, whichever is nearer in depth."""
    points = np.moveaxis(points, axis, 0)
    step = np.diff(points, axis=0)
    after, before = np.concatenate([step, step[-1:]]), np.concatenate([step[:1], step])
    chosen = np.where(np.abs(after[..., 2:]) <= np.abs(before[..., 2:]), after, before)
    return np.moveaxis(chosen, 0, axis)


def depth_bytes(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Depth [m] of any shape as uint8: 0 at `NEAR_M` and nearer, 255 at `FAR_M` and beyond."""
    share = (depth - NEAR_M) / (FAR_M - NEAR_M)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8)


def normal_bytes(normals: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit vectors (..., 3) as uint8: 0 is -1, 255 is 1."""
    return np.round(127.5 * (normals + 1)).astype(np.uint8)


def modality_pictures(
    simulator: Simulator, names: Sequence[str], preprocess: PreprocessConfig
) -> dict[str, NDArray[np.uint8]]:
    """What `simulator` shows now as an episode file keeps it beside the picture: `depth` (S, S), `normals` (S, S, 3).

    Drawn at the size of the cropped picture and not shrunk to it: the mean of a thing's and the table's depth is
    neither's.

    Raises:
        SimulationError: a name that is none of `MODALITIES`.
    """
    for name in names:
        if name not in MODALITIES:
            raise SimulationError(f"no modality {name!r}; {suggest(name, MODALITIES)}")
    if not names:
        return {}
    _, _, share_width, share_height = preprocess.crop
    found = simulator.render_modalities(round(preprocess.size / share_width), round(preprocess.size / share_height))
    depth = np.repeat(depth_bytes(found["depth"])[..., None], 3, axis=-1)  # `crop` takes pictures
    pictures = {"depth": crop(depth, preprocess)[..., 0], "normals": crop(normal_bytes(found["normals"]), preprocess)}
    return {name: pictures[name] for name in names}
