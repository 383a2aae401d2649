"""Maps by source: what each shows, and where it refuses."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.tiny import TINY
from training.maps import maps_for, true_roles
from visarl.config import SaliencyConfig
from visarl.data.episodes import EpisodeFile
from visarl.errors import DataError

SALIENCY = TINY.saliency


def test_predicted_maps_are_the_labels(run: Path) -> None:
    with EpisodeFile(run / "episodes.hdf5") as file:
        assert np.array_equal(maps_for(file, "demo_0", "predicted", SALIENCY, 0), file.dataset("demo_0", "saliency")[:])


def test_oracle_maps_peak_at_the_truth(run: Path) -> None:
    with EpisodeFile(run / "episodes.hdf5") as file:
        maps, uv = maps_for(file, "demo_1", "oracle", SALIENCY, 0), file.file["data/demo_1/truth/uv"][:]
        assert true_roles(file, "demo_1") == ("effector", "object")
    size = SALIENCY.image_size
    assert maps.shape == (len(uv), 2, size, size) and maps.dtype == np.uint8
    peaks = np.array([[np.unravel_index(m.argmax(), m.shape) for m in step] for step in maps])  # rows, columns
    assert np.abs((peaks[..., ::-1] + 0.5) / size - uv).max() <= 0.5 / size + 1e-6
    above = (maps[0, 0] > 255 * np.exp(-0.5)).sum() / size**2
    assert above == pytest.approx(np.pi * SALIENCY.sigma**2, rel=0.3)


def test_oracle_maps_show_nothing_that_the_picture_does_not(episodes: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        truth = file["data/demo_0/truth"]
        truth["visible"][0, 1] = False
        truth["uv"][1, 0] = (1.2, 0.5)
    with EpisodeFile(episodes) as file:
        maps = maps_for(file, "demo_0", "oracle", SALIENCY, 0)
    assert maps[0, 0].any() and not maps[0, 1].any()
    assert maps[1, 1].any() and not maps[1, 0].any()


def test_the_paper_s_single_oracle_map_shows_all_roles(run: Path) -> None:
    with EpisodeFile(run / "episodes.hdf5") as file:
        both = maps_for(file, "demo_0", "oracle", SALIENCY, 0)
        one = maps_for(file, "demo_0", "oracle", SaliencyConfig(roles=("plain",), image_size=64), 0)
    assert np.array_equal(one[:, 0], both.max(axis=1))


def test_shuffled_maps_are_another_demos_and_stay_so(run: Path) -> None:
    path = run / "clear.hdf5"
    with EpisodeFile(path) as file:
        own, other = (file.dataset(demo, "saliency")[:] for demo in ("demo_0", "demo_1"))
        shuffled = maps_for(file, "demo_0", "shuffled", SALIENCY, 0)
        assert np.array_equal(shuffled, maps_for(file, "demo_0", "shuffled", SALIENCY, 0))
        assert not np.array_equal(shuffled, maps_for(file, "demo_0", "shuffled", SALIENCY, 1))
    assert shuffled.shape == own.shape
    places = [next(i for i, m in enumerate(other) if np.array_equal(m, found)) for found in shuffled]
    assert len(set(places)) > len(other) / 2  # drawn without repeats, in no order; still pictures may be alike
    assert places != sorted(places)


def test_what_a_file_does_not_have(episodes: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        del file["data/demo_1/obs/saliency"]
        del file["data/demo_1/truth"]
    with EpisodeFile(episodes) as file:
        for source, demo, words in (
            ("predicted", "demo_1", "visarl label"),
            ("shuffled", "demo_0", "demo_1 has no saliency maps"),
            ("oracle", "demo_1", "no truth"),
        ):
            with pytest.raises(DataError, match=words):
                maps_for(file, demo, source, SALIENCY, 0)
        with pytest.raises(DataError, match="not goal"):
            maps_for(file, "demo_0", "oracle", SaliencyConfig(roles=("effector", "object", "goal")), 0)
