"""How good a saliency map's peak is, on which the keypoint readout lives: how far off, on what, and whether it knows.

Distances in the picture are pixels at 256x256, as in the paper; on the table they are where the camera's rays through
the peak and through the truth meet the plane at the thing's height.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.scene_frames import TrueFrames
from visarl.aim import FADE_FROM
from visarl.config import PreprocessConfig
from visarl.contract import CAMERA_HEIGHT, CAMERA_WIDTH

PIXELS = 256
FALSE_PX = 20.0
"""A peak farther from the truth than two of a click's standard deviations shows something else."""
CLOSE_PX = 5.0
"""A peak so near is right: about 5 mm on the table."""
COVERED = 0.5
"""Something less visible than this counts as covered."""
BINS = 10

Array = NDArray[np.float64]


def peak_scores(points: Array, frames: TrueFrames, preprocess: PreprocessConfig) -> dict[str, Any]:
    """Figures by role.

    Args:
        points: (N, R, 3) from `keypoints`: x, y in [-1, 1] and a confidence, in the order of the frames' roles.

    Returns:
        For each role, over the frames that show it: `px` and `mm`, the distances' median and 95th percentile; `false`,
        the share of frames whose peak the policy trusts and that shows something else; `covered`, `missed`: how many
        frames hide more than half of it, and in which share of them its peak is no longer trusted or shows something
        else; `confidence`: `calibration`.
    """
    off, table = distances(points, frames, preprocess)
    found: dict[str, Any] = {}
    for i, role in enumerate(frames.roles):
        shown = np.isfinite(off[:, i])
        px, mm, sure = off[shown, i], table[shown, i], points[shown, i, 2]
        wrong = px > FALSE_PX
        covered = frames.visible[shown, i] < COVERED
        missed = wrong[covered] | (sure[covered] < FADE_FROM)
        found[role] = {
            "frames": int(shown.sum()),
            "px": _quantiles(px),
            "mm": _quantiles(mm),
            "false": _mean(wrong & (sure >= FADE_FROM)),
            "covered": int(covered.sum()),
            "missed": _mean(missed),
            "confidence": calibration(sure, px < CLOSE_PX),
        }
    return found


def distances(points: Array, frames: TrueFrames, preprocess: PreprocessConfig) -> tuple[Array, Array]:
    """(N, R) each: of the peaks from the truth in the picture [px at 256] and on the table [mm]; NaN where a frame does
    not show the role, or a ray does not meet its plane."""
    seen = (points[..., :2] + 1) / 2
    px = PIXELS * np.linalg.norm(seen - frames.uv, axis=-1)
    heights = frames.positions[..., 2]
    meet, truth = (on_plane(uv, heights, preprocess) for uv in (seen, frames.uv))
    return px, 1000 * np.linalg.norm(meet - truth, axis=-1)


def on_plane(uv: Array, height: Array, preprocess: PreprocessConfig) -> Array:
    """Where the rays of the simulated camera through (..., 2) shares of the cropped picture meet the planes at `height`
    (...,) [m] above the table: (..., 2) in the base frame [m]; NaN for a ray that does not go down to it.

    The camera as it is built: its jitter from scene to scene moves both ends of a distance alike.
    """
    from visarl.sim import scene  # here: it loads MuJoCo

    left, top, width, sides = preprocess.crop
    elevation = np.deg2rad(scene.CAMERA_ELEVATION_DEG)
    back = np.array([np.cos(elevation), 0.0, np.sin(elevation)])
    right = np.array([0.0, 1.0, 0.0])
    eye = scene.CAMERA_TARGET + scene.CAMERA_DISTANCE_M * back
    reach = 2 * np.tan(np.deg2rad(scene.CAMERA_FOVY_DEG) / 2)
    x = (left + uv[..., 0] * width - 0.5) * reach * CAMERA_WIDTH / CAMERA_HEIGHT
    y = (0.5 - top - uv[..., 1] * sides) * reach
    rays = x[..., None] * right + y[..., None] * np.cross(back, right) - back
    with np.errstate(divide="ignore", invalid="ignore"):
        far = (height - eye[2]) / rays[..., 2]
        return np.where((far > 0)[..., None], eye[:2] + far[..., None] * rays[..., :2], np.nan)


def calibration(confidence: Array, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Whether a peak that is said to be sure is right.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) whether the peak is within `CLOSE_PX`.

    Returns:
        `bins`: from, to, how many, their mean confidence, the share that is right. `ece`, the expected calibration
        error: the mean gap between the two. `auroc`: how likely a right peak is surer than a wrong one; None where
        there is but one kind.
    """
    bins, gap = [], 0.0
    for i in range(BINS):
        low, high = i / BINS, (i + 1) / BINS
        inside = (confidence >= low) & ((confidence < high) | (i == BINS - 1))
        if inside.any():
            said, is_right = float(confidence[inside].mean()), float(right[inside].mean())
            gap += abs(said - is_right) * float(inside.mean())
            bins.append([low, high, int(inside.sum()), round(said, 3), round(is_right, 3)])
    return {"bins": bins, "ece": round(gap, 4), "auroc": _auroc(confidence, right)}


def _auroc(scores: Array, positive: NDArray[np.bool_]) -> float | None:
    ups, downs = scores[positive], scores[~positive]
    if not len(ups) or not len(downs):
        return None
    return round(float((ups[:, None] > downs).mean() + 0.5 * (ups[:, None] == downs).mean()), 3)


def _quantiles(values: Array) -> list[float] | None:
    """Median and 95th percentile."""
    values = values[np.isfinite(values)]
    return [round(float(q), 2) for q in np.quantile(values, [0.5, 0.95])] if len(values) else None


def _mean(values: NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
