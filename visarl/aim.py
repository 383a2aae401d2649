"""From the hand to what a keypoint shows, in the picture. No torch: a launcher imports it with the bundle.

The joints tell where the hand is to a millimetre, a saliency map where the effector seems to be to a centimetre. The
effector's keypoints of the demonstrations, taken together, calibrate the camera against the arm; from then on the
hand's place in the picture follows from the joints. Where the hand opens and closes in the demonstrations tells how
high the things lie that it works on, and with that a keypoint is a place on the table. Nobody measures anything, and
the camera may stand anywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.errors import DataError

FADE_FROM, FADE_TO = 0.35, 0.15
"""Confidence at which a keypoint starts to fade, and at which it is gone: then its coordinates are (0, 0), the middle
of the picture, and say nothing. In between it moves there smoothly, so that a flickering map causes no jump."""

SCALES_M = (0.10, 0.03)
"""Offsets [m] at which a finer copy of them levels off."""
REACH_SIZE = 3 * (1 + len(SCALES_M))

SCALES = (0.3, 0.08)
"""The same in the picture [half its side]: about 10 cm and 3 cm on the table."""
AIM_SIZE = 2 * (1 + len(SCALES))

_TRUSTED = 0.4
"""Least confidence of an effector's keypoint that takes part in the calibration."""
_KEPT = 0.8
"""Share of the keypoints that the second fit keeps: false peaks are few but far off."""
_LEAST = 30
_PLANES_M = np.linspace(-0.05, 0.15, 101)
"""Heights that are tried for a thing's plane, around the base's own."""


def fit_camera(tool: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """The projection from the base frame into the picture (direct linear transform, Hartley and Zisserman, ch. 7).

    Args:
        tool: (N, 3) pinch point [m].
        points: (N, 3) the effector's keypoint at the same time: x and y in [-1, 1], confidence.

    Returns:
        (12,) the camera matrix, row by row.

    Raises:
        DataError: too few keypoints are confident, or the hand hardly moved.
    """
    tool, points = np.asarray(tool, dtype=np.float64), np.asarray(points, dtype=np.float64)
    sure = points[:, 2] >= _TRUSTED
    if sure.sum() < _LEAST or np.ptp(tool[sure], axis=0).min() < 0.02:
        raise DataError(
            f"calibration: {int(sure.sum())} of {len(points)} frames show the effector clearly; expected at least "
            f"{_LEAST}, with the hand moving 2 cm in each direction. Train saliency longer, click "
            "the effector on more frames, or record longer"
        )
    tool, seen = tool[sure], points[sure, :2]
    camera = _solve(tool, seen)
    error = np.linalg.norm(project(camera, tool) - seen, axis=1)
    kept = error <= np.quantile(error, _KEPT)
    return _solve(tool[kept], seen[kept])


def _solve(tool: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, scale = tool.mean(axis=0), tool.std()
    # Centred and scaled, or the least squares would be dominated by units.
    place = np.concatenate([(tool - centre) / scale, np.ones((len(tool), 1))], axis=1)
    zero = np.zeros_like(place)
    rows = np.concatenate(
        [
            np.concatenate([place, zero, -seen[:, :1] * place], axis=1),
            np.concatenate([zero, place, -seen[:, 1:] * place], axis=1),
        ]
    )
    solution = np.linalg.svd(rows, full_matrices=False)[2][-1].reshape(3, 4)
    undo = np.diag([1 / scale] * 3 + [1.0])
    undo[:3, 3] = -centre / scale
    camera = solution @ undo
    return np.asarray((camera / np.linalg.norm(camera)).ravel())


def project(camera: ArrayLike, tool: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) [m] to (..., 2): x to the right and y down in [-1, 1] over the picture."""
    tool = np.asarray(tool, dtype=np.float64)
    place = np.concatenate([tool, np.ones((*tool.shape[:-1], 1))], axis=-1) @ np.reshape(camera, (3, 4)).T
    return np.asarray(place[..., :2] / place[..., 2:])


def locate(camera: ArrayLike, point: ArrayLike, plane: float) -> NDArray[np.float64]:
    """Where the ray through a place in the picture meets the horizontal plane at the height `plane` [m].

    Args:
        camera: (12,) from `fit_camera`.
        point: (..., 2) x and y in [-1, 1]; what follows is ignored.

    Returns:
        (..., 2) x and y in the base frame [m].
    """
    one, two, three = np.reshape(camera, (3, 4))
    point = np.asarray(point, dtype=np.float64)
    # Two linear equations in two unknowns, a . (x, y, plane, 1) = 0 and the same with b, by Cramer's rule.
    a, b = one - point[..., 0, None] * three, two - point[..., 1, None] * three
    a_rest, b_rest = a[..., 2] * plane + a[..., 3], b[..., 2] * plane + b[..., 3]
    x = a[..., 1] * b_rest - b[..., 1] * a_rest
    y = b[..., 0] * a_rest - a[..., 0] * b_rest
    return np.asarray(np.stack([x, y], axis=-1) / (a[..., 0] * b[..., 1] - b[..., 0] * a[..., 1])[..., None])


def fit_plane(camera: ArrayLike, tool: ArrayLike, points: ArrayLike) -> float:
    """The height of a thing's plane [m], from moments at which the hand was right above it.

    Args:
        camera: (12,) from `fit_camera`.
        tool: (N, 3) pinch point at those moments [m].
        points: (N, 3) the thing's keypoint: x, y, confidence.
    """
    tool, points = np.asarray(tool, dtype=np.float64), np.asarray(points, dtype=np.float64)
    error = [
        float(np.median(np.linalg.norm(locate(camera, points, height) - tool[:, :2], axis=1))) for height in _PLANES_M
    ]
    return float(_PLANES_M[int(np.argmin(error))])


def reach(tool: ArrayLike, place: ArrayLike) -> NDArray[np.float64]:
    """From the hand to a place at three scales, (..., 3) and (..., 3) [m] to (..., 9).

    A grasp is decided in the last two centimetres, a tenth of what a coordinate ranges over: a policy of ten
    demonstrations cannot resolve them unless something in its input changes quickly there.
    """
    offset = np.asarray(place, dtype=np.float64) - np.asarray(tool, dtype=np.float64)
    return np.concatenate([offset / SCALES_M[0], *(np.tanh(offset / scale) for scale in SCALES_M)], axis=-1)


def aim(camera: ArrayLike, tool: ArrayLike, point: ArrayLike) -> NDArray[np.float64]:
    """From the hand to a keypoint at three scales, in the picture: what bundles had before `reach`. A hand that is
    nearer and one that is higher look alike there.

    Args:
        camera: (12,) from `fit_camera`.
        tool: (..., 3) pinch point [m].
        point: (..., 3) keypoint: x, y, confidence.

    Returns:
        (..., 6): the offset in x and y at the coarsest scale, then levelling off at each of `SCALES`; 0 where the
        keypoint is lost.
    """
    point = np.asarray(point, dtype=np.float64)
    offset = (point[..., :2] - project(camera, tool)) * trust(point[..., 2:])
    return np.concatenate([offset / SCALES[0], *(np.tanh(offset / scale) for scale in SCALES)], axis=-1)


def trust(confidence: ArrayLike) -> NDArray[np.float64]:
    """1 from `FADE_FROM` on, where a keypoint is trusted, 0 up to `FADE_TO`, where it is lost; any shape."""
    return np.clip((np.asarray(confidence, dtype=np.float64) - FADE_TO) / (FADE_FROM - FADE_TO), 0.0, 1.0)
