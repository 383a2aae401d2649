"""Episode files as the arrays that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig
from visarl.data.episodes import EpisodeFile
from visarl.errors import DataError
from visarl.preprocess import shrink

SALIENCY = "saliency"
"""Key of the predicted maps beside the pictures: (T, R, S, S) uint8, 255 is 1."""


def picture_sets(episodes: EpisodeFile) -> Iterator[tuple[str, h5py.Group]]:
    """(name, group with `image`) of everything that has pictures: every camera frame where the file has them, beside
    the frames of the control steps."""
    for demo in episodes.demos:
        yield demo, episodes.file["data"][demo]["obs"]
        if episodes.has_frames:
            yield f"{demo} (every frame)", episodes.file["frames"][demo]


def pretraining_pictures(
    paths: Sequence[Path], size: int, preprocess: PreprocessConfig, with_saliency: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """All pictures of the files at `size`: (N, size, size, 3), and their maps (N, R, S, S) as stored.

    Every camera frame where a file has them, otherwise the frames of the control steps.

    Raises:
        DataError: no pictures, or no maps where they are asked for.
    """
    pictures: list[NDArray[np.uint8]] = []
    maps: list[NDArray[np.uint8]] = []
    for path in paths:
        with EpisodeFile(path, preprocess) as episodes:
            for name, group in picture_sets(episodes):
                if episodes.has_frames and not name.endswith(")"):
                    continue  # the control steps' frames are among them
                pictures.extend(shrink(picture, size) for picture in group["image"])
                if with_saliency:
                    maps.append(_maps(path, name, group))
    if not pictures:
        raise DataError(f"no pictures in {', '.join(map(str, paths))}")
    return np.stack(pictures), np.concatenate(maps) if with_saliency else None


def _maps(path: Path, name: str, group: h5py.Group) -> NDArray[np.uint8]:
    if SALIENCY not in group:
        raise DataError(f"{path}: {name} has no saliency maps; run `visarl label` on the file first")
    return np.asarray(group[SALIENCY][:])
