"""The pictures of episode files and the maps that belong to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.data.synthetic import Scene, synthetic_bag
from training import dataset
from training.dataset import SALIENCY, Frames, Wanted, picture_sets
from training.maps import maps_for
from visarl.config import PreprocessConfig, SaliencyConfig
from visarl.data.convert import convert
from visarl.data.episodes import EpisodeFile, edit
from visarl.errors import DataError
from visarl.preprocess import resize, shrink

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


def frames(paths: list[Path], size: int, *modalities: str, **wanted: Any) -> dict[str, np.ndarray]:
    found = Frames(paths, SMALL, Wanted(modalities, size, **wanted))
    return {n: x.numpy() for n, x in found.batch(np.arange(len(found)), torch.device("cpu")).items()}


def test_a_file_of_control_steps_gives_those_and_nothing_unless_asked(files: list[Path]) -> None:
    found = frames(files[:1], 32, "rgb")
    with EpisodeFile(files[0]) as episodes:
        expected = [shrink(picture, 32) for picture in episodes.load("demo_0", ["image"])["image"]]
    assert list(found) == ["rgb"] and found["rgb"].dtype == np.uint8
    assert np.array_equal(found["rgb"], expected)


def test_a_file_with_every_frame_gives_each_once(files: list[Path]) -> None:
    pictures = frames(files[1:], 64, "rgb")["rgb"]
    with EpisodeFile(files[1]) as episodes:
        expected = np.concatenate([episodes.frames(demo)[0][:] for demo in episodes.demos])
    assert len(pictures) == 72 and np.array_equal(pictures, expected)


def test_each_map_stands_beside_its_picture_over_all_files_in_any_order(files: list[Path]) -> None:
    for path in files:
        label(path)
    found = Frames(files, SMALL, Wanted(("rgb", "saliency"), 64))
    chosen = np.random.default_rng(0).permutation(len(found))
    batch = found.batch(chosen, torch.device("cpu"))
    maps = batch["saliency"].numpy()
    assert maps.shape == (84, 64, 64) and maps.dtype == np.uint8
    assert np.array_equal(maps[:, 0, 0], [told(picture).max() for picture in batch["rgb"].numpy()])
    assert len(np.unique(maps[:, 0, 0])) > 10


def test_files_of_tasks_with_other_roles_go_together(files: list[Path]) -> None:
    label(files[1])
    with edit(files[0]) as episodes:
        maps = episodes.add_observation("demo_0", SALIENCY, (3, 16, 16), np.uint8)
        maps[:] = np.array([1, 2, 3])[None, :, None, None]
    found = frames(files, 32, "saliency")["saliency"]
    assert (found[:12] == 3).all() and len(found) == 84


def test_frames_are_decoded_once_and_anew_where_the_file_changes(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    label(files[0])
    before = frames(files[:1], 32, "rgb", "saliency")
    kept = sorted(Path(f"{files[0]}.frames").iterdir())
    with monkeypatch.context() as context:
        context.setattr(dataset, "shrink", None)
        again = frames(files[:1], 32, "rgb", "saliency")
    assert all(np.array_equal(before[name], again[name]) for name in before)
    with edit(files[0]) as episodes:
        episodes.file["data/demo_0/obs/image"][:] = 7
    assert (frames(files[:1], 32, "rgb")["rgb"] == 7).all()
    left = sorted(Path(f"{files[0]}.frames").iterdir())
    assert len(kept) == 2 and len(left) == 1 and left[0] not in kept


def test_frames_of_a_folder_that_cannot_be_written_stay_in_memory(files: list[Path]) -> None:
    Path(f"{files[0]}.frames").write_text("in the way")
    assert len(frames(files[:1], 32, "rgb")["rgb"]) == 12


def test_depth_and_normals_are_read_where_the_file_has_them(files: list[Path]) -> None:
    with edit(files[0]) as episodes:
        episodes.add_observation("demo_0", "depth", (48, 48), np.uint8)[:] = 50
        episodes.add_observation("demo_0", "normals", (48, 48, 3), np.uint8)[:] = (1, 2, 3)
    found = frames(files[:1], 32, "rgb", "depth", "normals")
    assert found["depth"].shape == (12, 32, 32) and (found["depth"] == 50).all()
    assert found["normals"].shape == (12, 32, 32, 3) and (found["normals"] == (1, 2, 3)).all()
    with pytest.raises(DataError, match="demo_0 has no depth; `visarl simulate --modalities depth`"):
        frames(files[1:], 32, "rgb", "depth")


def test_maps_by_source(files: list[Path]) -> None:
    label(files[1])
    predicted = frames(files[1:], 32, "saliency")["saliency"]
    shuffled = [frames(files[1:], 32, "saliency", maps="shuffled", seed=seed)["saliency"] for seed in (0, 1)]
    oracle = frames(files[1:], 32, "rgb", "saliency", maps="oracle")
    assert len(predicted) == 72 and len(shuffled[0]) == len(oracle["rgb"]) == len(oracle["saliency"]) == 24
    assert not np.array_equal(*shuffled)
    with EpisodeFile(files[1]) as episodes:
        expected = maps_for(episodes, "demo_0", "oracle", SaliencyConfig(), 0).max(axis=1)
    assert abs(oracle["saliency"][0].astype(int) - resize(expected[0], 32)).max() <= 1


def test_every_frame_needs_its_map_not_the_steps_alone(files: list[Path]) -> None:
    label(files[1])
    with edit(files[1]) as episodes:
        del episodes.file["frames/demo_1"][SALIENCY]
    with pytest.raises(DataError, match=r"demo_1 \(every frame\) has no saliency maps; run `visarl label`"):
        frames(files[1:], 32, "rgb", "saliency")


def test_labelling_meets_the_pictures_of_both_kinds(files: list[Path]) -> None:
    found = []
    for path in files:
        with EpisodeFile(path) as episodes:
            found.append([(name, len(group["image"])) for name, group in picture_sets(episodes)])
    assert found[0] == [("demo_0", 12)]
    assert found[1] == [("demo_0", 12), ("demo_0 (every frame)", 36), ("demo_1", 12), ("demo_1 (every frame)", 36)]
