"""What a trained saliency model makes of a frame: clicks to suggest, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.data.annotations import SIGMA, Click
from visarl.errors import ConfigError
from visarl.preprocess import shrink

LEAST = 0.25
"""A peak below this is no suggestion."""
MOST = 3
"""Clicks that are suggested for one role at most: two hands, three apples; more is noise."""
NEAR = 3.0
"""What lies within so many standard deviations of a peak belongs to it."""


@dataclass(frozen=True)
class Suggestion:
    """A click that the model would make."""

    click: Click
    sure: float
    """Height of the map there, in [0, 1]."""


class Predictor:
    """A saliency model, from a part's file or from a bundle; calls wait for each other."""

    def __init__(self, path: Path, preprocess: PreprocessConfig) -> None:
        """
        Raises:
            BundleError: no such model, or a damaged one.
            ConfigError: it has learned on pictures of another crop than `preprocess` makes.
        """
        import torch

        torch.set_num_threads(1)  # small pictures: threads that wait for each other cost more than they bring
        # The loader of parts is training's, so that every model that it trains can suggest, too.
        from training.parts import load_saliency, predict_maps
        from visarl.bundle import load_bundle
        from visarl.inference import SaliencyModel

        self._lock = Lock()
        if path.is_dir():
            bundle = load_bundle(path)
            self.roles, learned = bundle.config.saliency.roles, bundle.config.preprocess
            self._run = SaliencyModel(bundle, engine="torch").saliency_batch
        else:
            model, learned = load_saliency(path, torch.device("cpu"))
            self.roles = model.config.roles
            self._run = lambda pictures: predict_maps(model, pictures).astype(np.float32) / np.float32(255)
        self._size = learned.size
        if learned.crop != preprocess.crop:
            raise ConfigError(
                f"{path}: it learned on the crop {learned.crop}, the clicks are on {preprocess.crop}; give the preset "
                "that it was trained with"
            )

    def maps(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Cropped pictures (N, s, s, 3) uint8 of any size → maps (N, roles, S, S) in [0, 1]."""
        with self._lock:
            return self._run(np.stack([shrink(picture, self._size) for picture in pictures]))

    def suggest(self, picture: NDArray[np.uint8]) -> list[Suggestion]:
        """A click for every peak of each role's map on a cropped picture (s, s, 3), at most MOST a role."""
        found = []
        for role, values in zip(self.roles, self.maps(picture[None])[0], strict=True):
            for peak, mask in peaks(values):
                rows, columns = np.nonzero(mask)
                weights = values[rows, columns]
                v = float(np.average(rows + 0.5, weights=weights)) / len(values)
                u = float(np.average(columns + 0.5, weights=weights)) / len(values)
                found.append(Suggestion(Click(u, v, role), peak))
        return found


def peaks(values: NDArray[np.float32]) -> list[tuple[float, NDArray[np.bool_]]]:
    """The heights of a map's (S, S) peaks, the highest first, and which of its pixels belong to each: at most MOST, of
    at least LEAST, and none that is the flank of a higher one NEAR it."""
    import cv2

    size = len(values)
    found: list[NDArray[np.float64]] = []
    disc = _far(np.array([size // 2, size // 2]), size) <= 1
    left = np.where(values < cv2.dilate(values, disc.astype(np.uint8)), np.float32(0), values)
    while len(found) < MOST and left.max() >= LEAST:
        found.append(_far(np.unravel_index(int(left.argmax()), left.shape), size))
        left[found[-1] <= 1] = 0  # a plateau has many highest pixels
    heights = [float(values[far == 0].item()) for far in found]
    closest = np.min(found, axis=0) if found else None
    return [(height, (far <= 1) & (far == closest)) for height, far in zip(heights, found, strict=True)]


def doubts(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """How unsure the model is of each frame, in [0, 1], from its maps (N, R, S, S): 0 where every role has one high
    peak and nothing beside it, 1 where there is no peak."""
    found = np.ones(len(maps))
    for index, frame in enumerate(maps):
        sure = []
        for values in frame:
            peak, mask = _peak(values)
            sure.append(peak * float(values[mask].sum() / max(values.sum(), 1e-9)))
        found[index] = 1 - np.mean(sure)
    return found


def least_sure(doubt: Sequence[float] | NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Indices of the `share` of frames with the greatest doubt, at least one; the most doubtful first."""
    order = np.argsort(-np.asarray(doubt), kind="stable")
    return order[: max(1, round(share * len(order)))]


def _peak(values: NDArray[np.float32]) -> tuple[float, NDArray[np.bool_]]:
    """A map's (S, S) maximum, and which of its pixels lie around it."""
    at = np.unravel_index(int(values.argmax()), values.shape)
    return float(values[at]), _far(at, len(values)) <= 1


def _far(at: Sequence[np.intp] | NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """How far each pixel of a map (size, size) is from the pixel `at`, squared; 1 is as far as what belongs to it."""
    near = np.arange(size)
    rows, columns = (near - at[0]) ** 2, (near - at[1]) ** 2
    return np.asarray((rows[:, None] + columns[None, :]) / (NEAR * SIGMA * size) ** 2)
