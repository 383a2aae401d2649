"""How steady maps and peaks are on video: what flickers though nothing moved; what smoothing would give, and cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.peaks import PIXELS, distances
from training.scene_frames import TrueFrames
from training.score import Predictor
from visarl.aim import FADE_FROM
from visarl.data.annotations import render
from visarl.metrics import flicker

SMOOTHING = (0.0, 0.3, 0.6)
"""Shares of the map before that an exponential smoothing keeps a control period."""
NOISE, STILLS, COPIES = 4.0, 6, 8
"""A camera's noise [levels of 255, rms]; pictures of a scene at rest, and how often each is taken."""


def steadiness(model: Predictor, video: TrueFrames) -> dict[str, Any]:
    """Figures of consecutive frames at the control rate.

    Returns:
        `change`: mean absolute change of the true maps from frame to frame. By share of smoothing, `flicker`: of the
        change that is not theirs, and `px`: by role, the median distance of the peaks from the truth, which smoothing
        drags behind. `jitter_px`: by role, rms of a peak around its mean when a camera takes the same picture again.
    """
    config = model.config
    maps = model.maps(video.pictures)
    truths = np.stack(
        [render(video.clicks(i), config.roles, config.image_size, config.sigma) for i in range(len(maps))]
    )
    found: dict[str, Any] = {"smoothing": {}}
    for share in SMOOTHING:
        smooth = smoothed(maps, video.scenes, share)
        moved, found["change"] = flicker(smooth, truths, video.scenes)
        off, _ = distances(model.peaks(smooth), video, model.preprocess)
        px = {role: round(float(np.nanmedian(off[:, i])), 2) for i, role in enumerate(video.roles)}
        found["smoothing"][f"{share:g}"] = {"flicker": round(moved, 6), "px": px}
    found["change"] = round(found["change"], 6)
    found["jitter_px"] = _jitter(model, video)
    return found


def smoothed(maps: NDArray[np.floating], videos: NDArray[np.integer], share: float) -> NDArray[np.float32]:
    """Maps (N, ...) of videos (N,), each mixed with the smoothed one before it of the same video."""
    found = np.array(maps, np.float32)
    for i in range(1, len(found)):
        if videos[i] == videos[i - 1]:
            found[i] = share * found[i - 1] + (1 - share) * found[i]
    return found


def _jitter(model: Predictor, video: TrueFrames) -> dict[str, float | None]:
    rng = np.random.default_rng(0)
    spreads = []
    for i in np.linspace(0, len(video.pictures) - 1, STILLS).astype(int):
        noise = rng.normal(0, NOISE, (COPIES, *video.pictures[i].shape))
        copies = np.clip(np.round(video.pictures[i] + noise), 0, 255).astype(np.uint8)
        points = model.peaks(model.maps(copies))
        off = PIXELS / 2 * (points[..., :2] - points[..., :2].mean(axis=0))
        sure = (points[..., 2] >= FADE_FROM).all(axis=0)  # a lost peak has no place that could jump
        spreads.append(np.where(sure, np.sqrt((off**2).sum(axis=-1).mean(axis=0)), np.nan))
    rms = np.array(spreads)
    return {
        role: round(float(np.nanmedian(rms[:, i])), 2) if np.isfinite(rms[:, i]).any() else None
        for i, role in enumerate(video.roles)
    }
