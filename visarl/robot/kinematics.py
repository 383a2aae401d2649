"""Where the hand is, from the joints: known geometry that ten demonstrations would be too few to learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visarl.contract import ArmContract
from visarl.errors import ContractError, suggest


def _turn(axis: ArrayLike, degrees: float) -> NDArray[np.float64]:
    """Rotation matrix about `axis` (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


_FLIP, _ELBOW, _WRIST = _turn((0, 1, 0), 180), _turn((0, -1, 1), 180), _turn((0, 1, np.sqrt(3)), 180)

LINKS: dict[str, tuple[tuple[tuple[float, float, float], NDArray[np.float64]], ...]] = {
    # Kinova's URDF of the j2s6s300: offset [m] and orientation of each joint's frame in the one before it, every joint
    # turning about its own z. The wrist's two links are bent by 60 degrees.
    "jaco2": (
        ((0.0, 0.0, 0.15675), _FLIP),
        ((0.0, 0.0016, -0.11875), _ELBOW),
        ((0.0, -0.410, 0.0), _FLIP),
        ((0.0, 0.2073, -0.0114), _ELBOW),
        ((0.0, -0.03703, -0.06414), _WRIST),
        ((0.0, -0.03703, -0.06414), _WRIST),
    ),
}

PINCH_M = {"jaco2": 0.185}
"""From the last joint's frame along its -z to the point between the fingertips."""


def tool_position(contract: ArmContract, proprioception: ArrayLike) -> NDArray[np.float64]:
    """The pinch point in the base frame.

    Args:
        contract: which arm.
        proprioception: (..., P), the joint positions [rad] first.

    Returns:
        (..., 3) [m]

    Raises:
        ContractError: the arm's geometry is not known here.
    """
    return _places(contract, proprioception, [(0.0, 0.0, -PINCH_M.get(contract.name, 0.0))])[0]


def tool_axes(contract: ArmContract, proprioception: ArrayLike) -> NDArray[np.float64]:
    """How the hand is turned: two of its axes in the base frame, the direction in which the fingers point and one
    across it.

    Args:
        contract: which arm.
        proprioception: (..., P), the joint positions [rad] first.

    Returns:
        (..., 6)

    Raises:
        ContractError: the arm's geometry is not known here.
    """
    wrist, ahead, across = _places(contract, proprioception, [(0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)])
    return np.concatenate([ahead - wrist, across - wrist], axis=-1)


def _places(contract: ArmContract, proprioception: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Points (N, 3) of the last joint's frame in the base frame, (N, ..., 3) [m]."""
    if contract.name not in LINKS:
        raise ContractError(f"no kinematics of the arm {contract.name!r}; {suggest(contract.name, LINKS)}")
    joints = np.asarray(proprioception, dtype=np.float64)[..., : contract.joints]
    given = np.asarray(points, dtype=np.float64)
    point = np.broadcast_to(given.reshape(len(given), *[1] * (joints.ndim - 1), 3), (len(given), *joints.shape[:-1], 3))
    for angle, (offset, turn) in reversed(list(zip(np.moveaxis(joints, -1, 0), LINKS[contract.name], strict=True))):
        sine, cosine, (x, y, z) = np.sin(angle), np.cos(angle), np.moveaxis(point, -1, 0)
        turned = np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=-1)
        point = turned @ turn.T + np.asarray(offset)
    return point
