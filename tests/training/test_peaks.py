"""Peaks: distances in the picture and on the table, what is called false and missed, and calibration."""

from __future__ import annotations

import numpy as np
import pytest

from training.peaks import calibration, distances, on_plane, peak_scores
from training.scene_frames import TrueFrames, scene_frames
from visarl.config import PreprocessConfig

CROP = PreprocessConfig()


@pytest.fixture(scope="module")
def frames() -> TrueFrames:
    return scene_frames("pick_red_block", [3, 4], 15, CROP, limit_s=4.5)


def points(frames: TrueFrames, confidence: float = 0.9) -> np.ndarray:
    """Perfect peaks."""
    return np.dstack([2 * frames.uv - 1, np.full(frames.uv.shape[:2], confidence)])


def test_frames_of_scenes_know_what_they_show(frames: TrueFrames) -> None:
    assert frames.roles == ("effector", "object") and frames.scenes.tolist() == [3, 3, 3, 4, 4, 4]
    assert frames.pictures.shape == (6, CROP.size, CROP.size, 3)
    assert ((frames.visible >= 0) & (frames.visible <= 1)).all() and frames.visible[:, 1].max() > 0.8
    for i in np.flatnonzero(frames.visible[:, 1] > 0.9):
        click = next(c for c in frames.clicks(i) if c.role == "object")
        red, green, blue = frames.pictures[i, int(click.v * CROP.size), int(click.u * CROP.size)].astype(int)
        assert red > 90 and red > 2 * max(green, blue)


def test_rays_through_the_picture_meet_the_table_where_things_stand(frames: TrueFrames) -> None:
    found = on_plane(frames.uv, frames.positions[..., 2], CROP)
    # The scene's camera is off its nominal place by up to 3 mm and 0.3 degrees.
    assert np.linalg.norm(found - frames.positions[..., :2], axis=-1).max() < 0.012
    assert np.isnan(on_plane(np.array([0.5, 0.5]), np.array(2.0), CROP)).all()  # above the camera


def test_distances_are_of_the_peak_from_the_truth(frames: TrueFrames) -> None:
    px, mm = distances(points(frames), frames, CROP)
    assert np.abs(px).max() < 1e-9 and np.abs(mm).max() < 1e-6
    off = points(frames)
    off[:, 1, 0] += 2 * 5 / 256  # five pixels to the right
    px, mm = distances(off, frames, CROP)
    assert px[:, 1] == pytest.approx(5) and px[:, 0] == pytest.approx(0)
    # 60 cm away, 40 degrees make 44 cm: 256 pixels are about that, nearer things less.
    assert ((mm[:, 1] > 6) & (mm[:, 1] < 11)).all()


def test_false_and_missed_peaks() -> None:
    n = 10
    uv = np.full((n, 1, 2), 0.5)
    visible = np.array([[1.0]] * 6 + [[0.3]] * 4)
    frames = TrueFrames(
        np.zeros((n, 8, 8, 3), np.uint8), np.full((n, 1, 3), [0.48, 0.0, 0.02]), uv, visible, np.arange(n), ("object",)
    )
    peaks = points(frames)
    peaks[0, 0, 0] += 2 * 21 / 256  # trusted, and on something else
    peaks[1, 0] = [1.0, 1.0, 0.1]  # lost, and says so
    peaks[6, 0, 2] = 0.1  # covered, and lost
    peaks[7, 0, 0] += 1.0  # covered, and drawn away
    found = peak_scores(peaks, frames, CROP)["object"]
    assert found["frames"] == 10 and found["false"] == 0.2
    assert found["covered"] == 4 and found["missed"] == 0.5
    assert found["px"][0] == 0 and found["px"][1] > 20
    # Nobody knows what is hidden, or the picture shows none of it.
    frames.visible[:] = np.nan
    assert peak_scores(peaks, frames, CROP)["object"]["missed"] is None
    frames.uv[:] = np.nan
    assert peak_scores(peaks, frames, CROP)["object"]["px"] is None


def test_calibration() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0, 1, 20_000)
    honest = calibration(said, rng.uniform(0, 1, len(said)) < said)
    assert honest["ece"] < 0.02 and 0.8 < honest["auroc"] < 0.87  # 5/6
    assert sum(count for _, _, count, _, _ in honest["bins"]) == len(said)
    assert all(low <= mean <= high and abs(mean - right) < 0.05 for low, high, _, mean, right in honest["bins"])
    boastful = calibration(np.ones(100), np.arange(100) < 30)
    assert boastful["ece"] == pytest.approx(0.7) and boastful["auroc"] == 0.5
    assert calibration(np.full(5, 0.9), np.ones(5, bool))["auroc"] is None
