"""Saliency, labelling, encoder: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from tests.tiny import TINY
from tests.training.conftest import encoder_options, saliency_options
from training import label, train_encoder, train_saliency
from training.common import pick_device, prepare
from training.parts import load_saliency
from training.train_encoder import crops, prepared, warm_cosine
from visarl.data.annotations import AnnotationFile
from visarl.errors import BundleError, ConfigError, DataError
from visarl.preprocess import as_picture
from visarl.process import ROOT
from visarl.sim.seeds import parse_seeds
from visarl.training_options import Label, TrainEncoder


def test_labels_lie_beside_every_picture(run: Path) -> None:
    with h5py.File(run / "episodes.hdf5") as file:
        for demo in file["data"].values():
            maps, pictures = demo["obs/saliency"], demo["obs/image"]
            assert maps.shape == (len(pictures), 2, 64, 64) and maps.dtype == np.uint8
            assert list(maps.attrs["roles"]) == ["effector", "object"]


def test_labels_are_the_models_maps(run: Path) -> None:
    model, _ = load_saliency(run / "saliency" / train_saliency.PART, torch.device("cpu"))
    from training.parts import predict_maps

    with h5py.File(run / "episodes.hdf5") as file:
        obs = file["data/demo_0/obs"]
        again = predict_maps(model, obs["image"][:5])
        # Batches of another size round differently: at most the last of 255 steps.
        assert np.abs(again.astype(int) - obs["saliency"][:5].astype(int)).max() <= 1


def test_labelling_again_replaces_the_maps(run: Path, episodes: Path) -> None:
    before = episodes.stat().st_size
    label.main(Label(episodes=episodes, saliency=run / "saliency" / train_saliency.PART, threads=1))
    assert episodes.stat().st_size < 2 * before
    with h5py.File(episodes) as file:
        assert file["data/demo_0/obs/saliency"][:].any()


def grey(picture: np.ndarray) -> np.ndarray:
    """A depth model of sorts."""
    return picture.mean(axis=-1) / 255


def test_what_an_estimator_makes_of_the_pictures_is_written_and_trained_on(
    run: Path, episodes: Path, tmp_path: Path
) -> None:
    label.main(Label(episodes=episodes, estimators=(f"depth={__name__}:grey",), threads=1))
    with h5py.File(episodes) as file:
        obs = file["data/demo_1/obs"]
        assert obs["depth"].shape == obs["image"].shape[:3] and obs["saliency"][:].any()
        assert np.abs(obs["depth"][3] - obs["image"][3].mean(axis=-1)).max() <= 1
    options = dataclasses.replace(encoder_options(run, tmp_path), episodes=[episodes])
    train_encoder.main(dataclasses.replace(options, modalities=("rgb", "saliency", "depth"), inputs=("rgb", "depth")))
    from training.parts import encode, load_encoder

    model, _ = load_encoder(tmp_path / train_encoder.PART, torch.device("cpu"))
    (tokens,) = encode(model, np.zeros((2, 96, 96, 3), np.uint8), None, {"depth": np.zeros((2, 96, 96), np.uint8)})
    assert tokens.shape == (2, 2 * TINY.encoder.grid**2 + 1, TINY.encoder.dim)
    columns = 3 * 3  # input, masked, reconstruction
    assert cv2.imread(str(tmp_path / train_encoder.PICTURE)).shape == (2 * 4 * 36, 2 * columns * 36, 3)


def test_labelling_with_nothing(episodes: Path) -> None:
    with pytest.raises(ConfigError, match="give --saliency, --estimators, or both"):
        label.main(Label(episodes=episodes))


LABEL_ON_A_FULL_DISK = """
import resource, sys
from visarl.cli import main
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(["label", "--episodes", sys.argv[1], "--saliency", sys.argv[2], "--threads", "1"]))
"""


def test_labelling_on_a_full_disk(run: Path, episodes: Path) -> None:
    """The kernel refuses what is beyond the limit. In a process of its own: HDF5 is known to crash over this."""
    before = episodes.read_bytes()
    words = [str(episodes), str(run / "saliency" / train_saliency.PART), str(len(before) + 1000)]
    found = subprocess.run([sys.executable, "-c", LABEL_ON_A_FULL_DISK, *words], capture_output=True, text=True)
    assert found.returncode == 1 and "make room or use another folder" in found.stderr, found.stderr
    assert episodes.read_bytes() == before


def test_labelling_with_another_preprocessing(run: Path, episodes: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        file["data"].attrs["preprocess"] = "0" * 16
    with pytest.raises(DataError, match="convert the bags again"):
        label.main(Label(episodes=episodes, saliency=run / "saliency" / train_saliency.PART, threads=1))


def test_labelling_with_no_part(run: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        label.main(Label(episodes=run / "episodes.hdf5", saliency=run / "nothing.safetensors"))


def test_frames_without_any_click(run: Path, tmp_path: Path) -> None:
    annotations = AnnotationFile.load(run / "clicks.json")
    annotations.frames = dict.fromkeys(annotations.frames, ())
    annotations.save(tmp_path / "clicks.json")
    options = dataclasses.replace(saliency_options(run, tmp_path), clicks=tmp_path / "clicks.json")
    with pytest.raises(DataError, match="without a click"):
        train_saliency.main(options)


def test_one_frame_without_clicks_is_allowed(run: Path, tmp_path: Path) -> None:
    annotations = AnnotationFile.load(run / "clicks.json")
    annotations.frames[next(iter(annotations.frames))] = ()
    annotations.save(tmp_path / "clicks.json")
    train_saliency.main(dataclasses.replace(saliency_options(run, tmp_path), clicks=tmp_path / "clicks.json"))
    assert (tmp_path / train_saliency.PART).exists()


def test_encoder_without_labels(run: Path, episodes: Path, tmp_path: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        del file["data/demo_0/obs/saliency"]
    with pytest.raises(DataError, match="demo_0 has no saliency maps"):
        train_encoder.main(dataclasses.replace(encoder_options(run, tmp_path), episodes=[episodes]))


def test_encoder_with_saliency_in_pretraining_only(run: Path, tmp_path: Path) -> None:
    train_encoder.main(dataclasses.replace(encoder_options(run, tmp_path), inputs=("rgb",)))
    from training.parts import encode, load_encoder

    model, _ = load_encoder(tmp_path / train_encoder.PART, torch.device("cpu"))
    (tokens,) = encode(model, np.zeros((2, 96, 96, 3), np.uint8), None)
    assert tokens.shape == (2, TINY.encoder.grid**2 + 1, TINY.encoder.dim)


def test_crops_are_the_same_for_all_modalities() -> None:
    grey = torch.randint(0, 256, (8, 48, 48), dtype=torch.uint8)
    stored = {"rgb": grey[..., None].expand(-1, -1, -1, 3), "depth": grey, "saliency": grey}
    theta = crops(np.random.default_rng(0), 8, 0.3, True)
    out = {name: as_picture(name, x) for name, x in prepared(stored, theta, 32).items()}
    assert out["rgb"].shape == (8, 32, 32, 3)
    for name in ("depth", "saliency"):
        assert np.abs(out["rgb"].astype(int) - out[name]).max() <= 1
    whole = prepared(stored, crops(np.random.default_rng(0), 8, 1.0, False), 48)
    assert np.array_equal(as_picture("depth", whole["depth"])[..., 0], grey.numpy())


def test_half_of_the_crops_are_the_whole_and_none_leaves_the_picture() -> None:
    theta = crops(np.random.default_rng(0), 1000, 0.25, True)
    share = theta[:, 1, 1]
    assert 0.4 < (share == 1).mean() < 0.6 and share.min() == pytest.approx(0.5, abs=0.01)
    assert (np.abs(theta[:, :, 2]) <= 1 - share[:, None] + 1e-6).all()
    assert 0.4 < (theta[:, 0, 0] < 0).mean() < 0.6
    assert (crops(np.random.default_rng(0), 1000, 0.25, False)[:, 0, 0] > 0).all()


def test_learning_rate_rises_and_falls() -> None:
    rates = [warm_cosine(i, 100, 0.1) for i in range(100)]
    assert np.argmax(rates) in (9, 10) and rates[0] == pytest.approx(0.1) and rates[-1] < 0.01


@pytest.mark.parametrize("name", ["iterations", "batch", "lr", "threads"])
def test_counts_that_make_no_sense_are_refused(tmp_path: Path, name: str) -> None:
    options = TrainEncoder(out=tmp_path, episodes=[tmp_path], **{name: 0})
    with pytest.raises(ConfigError, match=f"{name}: expected more than 0, found 0"):
        prepare(options)


@pytest.mark.parametrize(
    "script", ["train_saliency", "label", "train_encoder", "train_policy", "evaluate", "score", "pipeline"]
)
def test_a_script_can_be_run_by_its_path(script: str) -> None:
    command = [sys.executable, str(ROOT / "training" / f"{script}.py"), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0 and "usage:" in found.stdout, found.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda")


@pytest.mark.parametrize(("text", "expected"), [("3:6", [3, 4, 5]), ("7", [7]), ("1,5", [1, 5])])
def test_seeds(text: str, expected: list[int]) -> None:
    assert parse_seeds(text) == expected


@pytest.mark.parametrize("text", ["", "a:b", "5:5", "1:2:3", "-1"])
def test_bad_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        parse_seeds(text)
