"""The pictures of episode files and the maps that belong to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.synthetic import Scene, synthetic_bag
from training.dataset import SALIENCY, picture_sets, pretraining_pictures
from visarl.config import PreprocessConfig
from visarl.data.convert import convert
from visarl.data.episodes import EpisodeFile, edit
from visarl.errors import DataError
from visarl.preprocess import shrink

SMALL = PreprocessConfig(size=64)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bags: the first in a file of control steps, both in a file with every camera frame."""
    folder = tmp_path_factory.mktemp("converted")
    bags = [synthetic_bag(folder / f"bag{i}", Scene(seconds=1.2, seed=i)) for i in range(2)]
    convert(bags[:1], folder / "steps.hdf5", SMALL)
    convert(bags, folder / "frames.hdf5", SMALL, every_frame=True)
    return folder


@pytest.fixture
def files(converted: Path, tmp_path: Path) -> list[Path]:
    """Copies of both files, to be labelled and spoiled."""
    return [Path(shutil.copy(converted / name, tmp_path)) for name in ("steps.hdf5", "frames.hdf5")]


def label(path: Path) -> None:
    """Two maps for every picture, which tell the picture that they belong to."""
    with edit(path) as episodes:
        for _, group in picture_sets(episodes):
            maps = episodes.add_rows(group, SALIENCY, (len(group["image"]), 2, 8, 8), np.uint8)
            for i, picture in enumerate(group["image"]):
                maps[i] = told(picture)[:, None, None]


def told(picture: np.ndarray) -> np.ndarray:
    """Two numbers that differ from picture to picture: the moving hand's place."""
    yellow = np.argwhere((picture[..., 0] > 180) & (picture[..., 1] > 180) & (picture[..., 2] < 120))
    return np.round(3 * yellow.mean(axis=0)).astype(np.uint8)


def test_a_file_of_control_steps_gives_those_and_no_maps_unless_asked(files: list[Path]) -> None:
    pictures, maps = pretraining_pictures(files[:1], 32, SMALL, with_saliency=False)
    with EpisodeFile(files[0]) as episodes:
        expected = [shrink(picture, 32) for picture in episodes.load("demo_0", ["image"])["image"]]
    assert maps is None and pictures.dtype == np.uint8
    assert np.array_equal(pictures, expected)


def test_a_file_with_every_frame_gives_each_once(files: list[Path]) -> None:
    pictures, _ = pretraining_pictures(files[1:], 64, SMALL, with_saliency=False)
    with EpisodeFile(files[1]) as episodes:
        expected = np.concatenate([episodes.frames(demo)[0][:] for demo in episodes.demos])
    assert len(pictures) == 72 and np.array_equal(pictures, expected)


def test_each_map_stands_beside_its_picture_over_all_files(files: list[Path]) -> None:
    for path in files:
        label(path)
    pictures, maps = pretraining_pictures(files, 64, SMALL, with_saliency=True)
    assert maps is not None and maps.dtype == np.uint8
    assert np.array_equal(maps[..., 0, 0], [told(picture) for picture in pictures])
    assert len(np.unique(maps[..., 0, 0], axis=0)) > 20


def test_every_frame_needs_its_map_not_the_steps_alone(files: list[Path]) -> None:
    label(files[1])
    with edit(files[1]) as episodes:
        del episodes.file["frames/demo_1"][SALIENCY]
    with pytest.raises(DataError, match=r"demo_1 \(every frame\) has no saliency maps; run `visarl label`"):
        pretraining_pictures(files[1:], 32, SMALL, with_saliency=True)


def test_labelling_meets_the_pictures_of_both_kinds(files: list[Path]) -> None:
    found = []
    for path in files:
        with EpisodeFile(path) as episodes:
            found.append([(name, len(group["image"])) for name, group in picture_sets(episodes)])
    assert found[0] == [("demo_0", 12)]
    assert found[1] == [("demo_0", 12), ("demo_0 (every frame)", 36), ("demo_1", 12), ("demo_1 (every frame)", 36)]
