"""Moving pictures for a background: generated ones, or a folder of the user's videos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl.errors import SimulationError

Picture = NDArray[np.uint8]

SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
VIDEO_SIZE, VIDEO_FRAMES = (240, 180), 600
"""Width and height at which a video is kept, the camera's aspect, and how many frames of it: 78 MB. It plays there and
back, so that it never jumps."""
USUAL_RATE_HZ = 30.0
"""Of a video that does not tell, or tells nonsense."""

NOISE_SIDE = 128
DRAWN = (160, 120)
"""Width and height at which generated clips are drawn, before they are enlarged."""
SHAPES = 6


class Clip(Protocol):
    """A moving picture without an end."""

    def frame(self, time_s: float, width: int, height: int) -> Picture:
        """What it shows at `time_s`, (height, width, 3) uint8 RGB. The same time gives the same picture."""


def clip(seed: int, folder: Path | None = None) -> Clip:
    """A scene's clip: generated, or one of the videos in `folder`, from somewhere in its middle.

    Raises:
        SimulationError: no videos there, or one that cannot be decoded.
    """
    rng = np.random.default_rng([seed, 6])
    if folder is None:
        return GeneratedClip(rng)
    found = videos(folder)
    return VideoClip(found[rng.integers(len(found))], rng.random())


def videos(folder: Path) -> list[Path]:
    """The videos in `folder`, by name.

    Raises:
        SimulationError: no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise SimulationError(f"{folder}: expected a folder of videos ({', '.join(SUFFIXES)}), found none")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SimulationError(f"{folder}: expected videos ({', '.join(SUFFIXES)}), found no such file in the folder")
    return found


class GeneratedClip:
    """Two sheets of coloured clouds that slide over each other, and shapes that wander before them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._sheets = [_clouds(rng), _clouds(rng)]
        self._angle = rng.uniform(-np.pi, np.pi, 2)
        self._spin = rng.uniform(-0.2, 0.2, 2)  # rad/s
        self._drift = rng.uniform(-20, 20, (2, 2))  # pixels of the sheet a second
        self._colours = rng.integers(0, 256, (SHAPES, 3)).tolist()
        self._radii = rng.uniform(0.04, 0.14, SHAPES) * DRAWN[0]
        self._corners = rng.choice([3, 4, 5, 24], SHAPES)  # the last is a disc to the eye
        self._phase = rng.uniform(0, 2 * np.pi, (SHAPES, 3))
        self._pace = rng.uniform(-1, 1, (SHAPES, 3)) * [0.6, 0.6, 1.0]  # rad/s: across, down, turning

    def frame(self, time_s: float, width: int, height: int) -> Picture:
        layers = []
        for sheet, angle, spin, drift in zip(self._sheets, self._angle, self._spin, self._drift, strict=True):
            turn = angle + spin * time_s
            rotation = 0.7 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            shift = drift * time_s - rotation @ np.array(DRAWN) / 2  # about the middle of what is drawn
            matrix = np.column_stack([rotation, shift])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            layers.append(cv2.warpAffine(sheet, matrix, DRAWN, flags=flags, borderMode=cv2.BORDER_WRAP))
        picture = cv2.addWeighted(layers[0], 0.6, layers[1], 0.4, 0)
        across, down, turning = (self._phase + self._pace * time_s).T
        centres = np.stack([0.5 + 0.5 * np.sin(across), 0.5 + 0.5 * np.sin(down)], axis=-1) * DRAWN
        for centre, radius, corners, turn, colour in zip(
            centres, self._radii, self._corners, turning, self._colours, strict=True
        ):
            angles = turn + 2 * np.pi * np.arange(corners) / corners
            outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
            cv2.fillPoly(picture, [np.round(16 * outline).astype(np.int32)], colour, cv2.LINE_AA, shift=4)
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _clouds(rng: np.random.Generator) -> Picture:
    """Coloured noise without a seam, coarse and fine at once, (NOISE_SIDE, NOISE_SIDE, 3) uint8."""
    x = np.fft.fftfreq(NOISE_SIDE) * NOISE_SIDE
    frequency = np.hypot(x[:, None], x[None, :])
    spectrum = np.where(frequency > 0, np.maximum(frequency, 1.0) ** -1.6, 0.0)[..., None]
    white = np.fft.fft2(rng.standard_normal((NOISE_SIDE, NOISE_SIDE, 3)), axes=(0, 1))
    noise = np.fft.ifft2(white * spectrum, axes=(0, 1)).real
    tone = noise / noise.std(axis=(0, 1))
    return np.clip(rng.uniform(70, 185, 3) + 60 * tone, 0, 255).astype(np.uint8)


class VideoClip:
    """A video file, there and back again.

    Args:
        start: where in it time 0 is, as a share of its length.

    Raises:
        SimulationError: the file cannot be decoded.
    """

    def __init__(self, path: Path, start: float = 0.0) -> None:
        self._frames, self._rate_hz = _decode(path, path.stat().st_mtime_ns)
        self._start = int(start * len(self._frames))

    def frame(self, time_s: float, width: int, height: int) -> Picture:
        last = len(self._frames) - 1
        index = (self._start + int(time_s * self._rate_hz)) % max(1, 2 * last)
        found = self._frames[min(index, 2 * last - index) if last else 0]
        return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


@lru_cache(maxsize=2)
def _decode(path: Path, changed_ns: int) -> tuple[list[Picture], float]:
    """The first frames of a video, small, and their rate; `changed_ns` tells another file of that name apart."""
    capture = cv2.VideoCapture(str(path))
    try:
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        frames: list[Picture] = []
        while len(frames) < VIDEO_FRAMES:
            ok, frame = capture.read()
            if not ok:
                break
            frames.append(_cover(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8), *VIDEO_SIZE))
    finally:
        capture.release()
    if not frames:
        raise SimulationError(f"{path}: expected a video that OpenCV can decode, found none; convert it to MP4 (H.264)")
    return frames, rate_hz if 1 <= rate_hz <= 240 else USUAL_RATE_HZ


def _cover(picture: Picture, width: int, height: int) -> Picture:
    """The largest middle part of that aspect, at that size."""
    rows, columns = picture.shape[:2]
    scale = min(columns / width, rows / height)
    wide, high = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (columns - wide) // 2, (rows - high) // 2
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    part = picture[top : top + high, left : left + wide]
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)
