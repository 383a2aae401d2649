"""Clicks for frames that nobody clicked on: a first model's peaks, where it is sure of them.

Ten clicked frames show a thing in ten places, in most of them with the hand about it, and a model may well learn the
hand. On the demonstrations' other frames, whose tables are those of the clicked ones, such a model is seldom wrong; a
second one that learns from them as well, varied as all are, has met the thing everywhere (pseudo-labels: Lee, 2013).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.parts import BATCH
from visarl.config import SaliencyConfig
from visarl.contract import ROLES
from visarl.data.annotations import Click
from visarl.models.readout import keypoints
from visarl.models.saliency import SaliencyNet
from visarl.preprocess import shrink, to_input

if TYPE_CHECKING:
    from training.train_saliency import ClickedPicture

SURE = 0.5
"""Least confidence of each peak."""
AGREEING = 8 / 256
"""Farthest that a peak moves where the picture is mirrored, as a share of the side."""


@torch.inference_mode()
def sure_clicks(model: SaliencyNet, pictures: NDArray[np.uint8]) -> list[ClickedPicture]:
    """Those of the cropped pictures (N, s, s, 3) on which `model` is sure of every role, with its peaks as clicks.

    Several things of one role have no one peak: maps of the role `plain` give nothing.
    """
    from training.train_saliency import ClickedPicture

    config = model.eval().config
    if not set(config.roles) <= set(ROLES):
        return []
    found = []
    for first in range(0, len(pictures), BATCH):
        some = pictures[first : first + BATCH]
        points, sure = _peaks(model, some, config)
        for picture, places, ok in zip(some, points, sure, strict=True):
            if ok:
                clicks = [Click(float(u), float(v), role) for role, (u, v) in zip(config.roles, places, strict=True)]
                found.append(ClickedPicture(picture, tuple(clicks)))
    return found


def _peaks(
    model: SaliencyNet, pictures: NDArray[np.uint8], config: SaliencyConfig
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N, R, 2) u, v as shares of the side, and (N,) whether all of them are to be trusted."""
    device = next(model.parameters()).device
    seen = to_input(np.stack([shrink(picture, config.image_size) for picture in pictures])).to(device)

    def look(view: Tensor) -> NDArray[np.float64]:
        return keypoints(model.predict(view), config.sigma).double().cpu().numpy()

    plain, wide, high = look(seen), look(seen.flip(-1)), look(seen.flip(-2))
    wide[..., 0] *= -1
    high[..., 1] *= -1
    apart = np.max([np.linalg.norm(plain[..., :2] - other[..., :2], axis=-1) for other in (wide, high)], axis=0) / 2
    least = np.min([view[..., 2] for view in (plain, wide, high)], axis=0)
    return (plain[..., :2] + 1) / 2, ((least > SURE) & (apart < AGREEING)).all(axis=1)
