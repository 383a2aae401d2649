"""Two short made-up demonstrations, converted and labelled, with models of the smallest size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.tiny import TINY
from tests.unit.data.synthetic import Scene, synthetic_bag
from training import label, train_encoder, train_saliency
from visarl.config import to_dict
from visarl.data.annotations import Click, render, simulated_clicks
from visarl.data.convert import convert
from visarl.training_options import Label, TrainEncoder, TrainSaliency


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the pipeline's: bags, clicks, episodes, saliency and encoder parts, each trained for two steps."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "preset.json").write_text(json.dumps(to_dict(TINY)))
    bags = [synthetic_bag(folder / "bags" / f"demo-{i}", Scene(seconds=2.0, seed=i)) for i in range(2)]
    simulated_clicks(bags, 3, 0, TINY.preprocess).save(folder / "clicks.json")
    convert(bags, folder / "episodes.hdf5", TINY.preprocess)
    train_saliency.main(saliency_options(folder, folder / "saliency"))
    label.main(Label(episodes=folder / "episodes.hdf5", saliency=folder / "saliency" / train_saliency.PART, threads=1))
    train_encoder.main(encoder_options(folder, folder / "encoder"))
    see_clearly(Path(shutil.copy(folder / "episodes.hdf5", folder / "clear.hdf5")))
    return folder


def see_clearly(path: Path) -> None:
    """Put the true maps in the place of those of a model of two steps, and a hand that moves in all directions: what
    the camera's calibration needs, and made-up demonstrations with a hardly trained model do not have."""
    with h5py.File(path, "r+") as file:
        for number, demo in enumerate(file["data"].values()):
            steps = int(demo.attrs["num_samples"])
            joints = np.random.default_rng(number).normal(0, 0.1, (steps, 6)).cumsum(axis=0)
            demo["obs/proprioception"][:, :6] = [0.1, 2.5, 4.6, 0.3, -1.2, 0.5] + 0.3 * np.sin(joints)
            maps = demo["obs/saliency"]
            for step, points in enumerate(demo["truth/uv"]):
                clicks = [
                    Click(float(u), float(v), role) for (u, v), role in zip(points, TINY.saliency.roles, strict=True)
                ]
                maps[step] = np.round(255 * render(clicks, TINY.saliency.roles, maps.shape[-1])).astype(np.uint8)


@pytest.fixture
def episodes(run: Path, tmp_path: Path) -> Path:
    """A copy of the episode file, to be spoiled."""
    return Path(shutil.copy(run / "episodes.hdf5", tmp_path / "episodes.hdf5"))


def saliency_options(run: Path, out: Path, iterations: int = 2) -> TrainSaliency:
    return TrainSaliency(
        out=out,
        bags=run / "bags",
        clicks=run / "clicks.json",
        preset=str(run / "preset.json"),
        iterations=iterations,
        batch=2,
        threads=1,
        checkpoint_every=2,
    )


def encoder_options(run: Path, out: Path, iterations: int = 2) -> TrainEncoder:
    return TrainEncoder(
        out=out,
        episodes=[run / "episodes.hdf5"],
        preset=str(run / "preset.json"),
        iterations=iterations,
        batch=4,
        threads=1,
        checkpoint_every=2,
    )
