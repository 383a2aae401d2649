"""A video is read back, by another reader, as what was put in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from visarl import video

COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (200, 200, 40), (128, 128, 128)]
"""RGB of the pictures in turn, left half; the right half is black."""


def pictures(count: int = 5, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    for i in range(count):
        image = np.zeros((height, width, 3), np.uint8)
        image[:, : width // 2] = COLOURS[i % len(COLOURS)]
        yield image


def read(data: bytes, path: Path) -> tuple[float, list[np.ndarray]]:
    """Rate and RGB pictures, as OpenCV plays them."""
    path.write_bytes(data)
    player = cv2.VideoCapture(str(path))
    assert player.isOpened()
    rate, found = player.get(cv2.CAP_PROP_FPS), []
    while (frame := player.read())[0]:
        found.append(frame[1][..., ::-1].astype(int))
    player.release()
    return rate, found


def test_every_picture_comes_back_in_its_turn_and_its_colours(tmp_path: Path) -> None:
    rate, found = read(video.encode(pictures(12), 10.0), tmp_path / "a.mp4")
    assert rate == pytest.approx(10.0) and len(found) == 12
    for before, after in zip(pictures(12), found, strict=True):
        assert after.shape == before.shape
        for half in (slice(4, 28), slice(36, 60)):
            assert after[4:44, half].mean(axis=(0, 1)) == pytest.approx(before[4:44, half].mean(axis=(0, 1)), abs=12)


@pytest.mark.parametrize("rate_hz", [1.0, 9.7, 30000 / 1001])
def test_it_lasts_as_long_as_the_pictures_at_their_rate(rate_hz: float, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video.encode(pictures(30, 16, 16), rate_hz))
    with av.open(tmp_path / "a.mp4") as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert np.diff(times) == pytest.approx(1 / rate_hz, rel=1e-3)


def test_a_view_into_another_picture_is_encoded_as_it_looks(tmp_path: Path) -> None:
    wide = next(pictures())
    turned = wide[:, ::-1]  # not contiguous: its memory is the unturned picture's
    _, found = read(video.encode([turned] * 3, 10.0), tmp_path / "a.mp4")
    assert found[1][4:44, 36:60].mean(axis=(0, 1)) == pytest.approx(COLOURS[0], abs=12)
    assert found[1][4:44, 4:28].mean() < 12
