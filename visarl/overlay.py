"""Saliency maps drawn over the picture that they belong to, for people."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS = ((0, 200, 255), (255, 110, 0), (120, 255, 60))
"""RGB of the first, second and third role: told apart by people who see no red against green, too."""

DIM = 0.55
"""Brightness that an uninteresting part of the picture keeps, so that the colours stand out."""


def overlay(picture: NDArray[np.uint8], maps: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`picture` (H, W, 3) uint8 RGB, dimmed, and `maps` (roles, h, w) in [0, 1], each glowing in its role's colour."""
    if not len(maps):
        return picture.copy()
    height, width = picture.shape[:2]
    result = picture.astype(np.float32) * DIM
    for index, saliency in enumerate(np.asarray(maps, dtype=np.float32)):
        weight = cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)[..., None]
        colour = np.array(COLOURS[index % len(COLOURS)], dtype=np.float32)
        bright = 0.45 * picture + 0.55 * colour
        result += weight * (bright - result)
    return np.clip(result, 0, 255).astype(np.uint8)
