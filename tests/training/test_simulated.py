"""What `visarl simulate` writes goes through the rest: labels, an encoder, a policy, a bundle; so does what estimators
write."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch._dynamo  # noqa: F401  before the simulator renders

from tests.tiny import TINY
from tests.training.conftest import encoder_options
from tests.training.test_train_policy import policy_options
from training import evaluate, label, train_encoder, train_policy, train_saliency
from training.agents import BundleAgent
from visarl.bundle import Bundle, load_bundle
from visarl.errors import ConfigError, DataError
from visarl.inference import Perception
from visarl.options import Simulate
from visarl.robot.interfaces import Frame
from visarl.sim.tabletop import Simulator
from visarl.simulate import simulate
from visarl.training_options import Evaluate, Label, TrainEncoder, TrainPolicy


def test_from_the_simulator_to_a_bundle_without_a_bag(run: Path, tmp_path: Path) -> None:
    episodes, preset = tmp_path / "episodes.h5", str(run / "preset.json")
    options = Simulate(
        out=episodes, task="pick_red_block", episodes=2, limit_s=2.0, failures=True, preset=preset,
        modalities=("depth", "normals"),
    )  # fmt: skip
    made = simulate(options)
    assert made["episodes"] == 2 and made["steps"] > 20

    saliency = run / "saliency" / train_saliency.PART
    label.main(Label(episodes=episodes, saliency=saliency, threads=1))
    with h5py.File(episodes) as file:
        for demo in file["data"].values():
            steps = int(demo.attrs["num_samples"])
            assert demo["obs/saliency"].shape == (steps, len(TINY.saliency.roles), 64, 64)
            assert demo["obs/depth"].shape == (steps, 96, 96), "labelling keeps what else is there"

    small = {"preset": preset, "iterations": 2, "threads": 1}
    modalities, inputs = ("rgb", "saliency", "depth", "normals"), ("rgb", "saliency")
    train_encoder.main(
        TrainEncoder(
            out=tmp_path / "encoder", episodes=[episodes], batch=4, modalities=modalities, inputs=inputs, **small
        )
    )
    train_policy.main(
        TrainPolicy(
            out=tmp_path / "policy", episodes=episodes, saliency=saliency, readout="mean", diagnostics=False,
            encoder=tmp_path / "encoder" / train_encoder.PART, iterations=2, threads=1,
        )
    )  # fmt: skip
    bundle = load_bundle(tmp_path / "policy" / "bundle")
    assert bundle.task == "pick_red_block" and bundle.config.encoder.modalities == modalities
    inputs = ("rgb", "depth", "normals")
    seeing = policy(episodes, tmp_path / "seeing", encoder(episodes, tmp_path / "seen", inputs, run))
    assert seeing.config.encoder.inputs == inputs and not seeing.config.needs_saliency
    starts = evaluate.evaluate(Evaluate(bundle=seeing.folder, seeds="500:501", limit_s=0.5, workers=1))["starts"]
    assert starts[0]["steps"] == 5, "the simulator renders what no camera gives"

    simulator = Simulator("pick_red_block", 500)
    try:
        picture, truth, stamp_ns = simulator.render_with_truth()
        by_sensor, by_function = BundleAgent(seeing.folder, "torch"), BundleAgent(seeing.folder, "torch", FLAT)
        actions = []
        for agent in (by_sensor, by_function):
            agent.reset()
            agent.look(simulator)
            actions.append(agent.act(Frame(picture, stamp_ns), simulator.state(), truth))
    finally:
        simulator.close()
    assert np.abs(actions[0] - actions[1]).max() > 1e-6, "the rendered depth and normals are looked at"


def encoder(episodes: Path, out: Path, inputs: tuple[str, ...], run: Path) -> Path:
    train_encoder.main(dataclasses.replace(encoder_options(run, out), episodes=[episodes], modalities=inputs))
    return out / train_encoder.PART


def policy(episodes: Path, out: Path, part: Path, saliency: Path | None = None) -> Bundle:
    """On the encoder `part`; with `saliency` by keypoints, too."""
    options = TrainPolicy(
        out=out, episodes=episodes, saliency=saliency, encoder=part, readout="keypoints" if saliency else "mean",
        components=4, diagnostics=False, iterations=2, threads=1,
    )  # fmt: skip
    train_policy.main(options)
    return load_bundle(out / "bundle")


def brightness(picture: np.ndarray) -> np.ndarray:
    """A depth model of sorts."""
    return picture.mean(axis=-1) / 255


FLAT = (f"depth={__name__}:brightness", f"normals={__name__}:flat")


def darkness(picture: np.ndarray) -> np.ndarray:
    return 1 - brightness(picture)


def flat(picture: np.ndarray) -> np.ndarray:
    """Normals of a wall that faces the camera."""
    return np.broadcast_to([0.0, 0.0, 1.0], picture.shape)


def test_a_policy_sees_what_estimators_wrote(run: Path, tmp_path: Path) -> None:
    inputs, files = ("rgb", "saliency", "depth", "normals"), []
    for depth in (brightness, darkness):
        files.append(Path(shutil.copy(run / "clear.hdf5", tmp_path / f"{depth.__name__}.h5")))
        estimators = (f"depth={__name__}:{depth.__name__}", f"normals={__name__}:flat")
        label.main(Label(episodes=files[-1], estimators=estimators, threads=1))
    part = encoder(files[0], tmp_path / "encoder", inputs, run)
    made = [policy(file, tmp_path / file.stem, part, run / "saliency" / train_saliency.PART) for file in files]
    assert made[0].config.encoder.inputs == inputs
    one, other = (bundle.weights("readout")["center"] for bundle in made)
    assert not torch.allclose(one, other, atol=1e-3), "the same pictures and maps: what differs is the depth"
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    embedding, _ = Perception(made[0], "torch", estimators={"depth": brightness, "normals": flat}).perceive(image)
    assert embedding.shape == made[0].normalisation.embedding_std.shape and np.isfinite(embedding).all()


def test_what_a_policy_lacks_is_told_before_the_work(run: Path, tmp_path: Path) -> None:
    episodes = Path(shutil.copy(run / "clear.hdf5", tmp_path / "episodes.h5"))
    label.main(Label(episodes=episodes, estimators=(f"depth={__name__}:brightness",), threads=1))
    part = encoder(episodes, tmp_path / "encoder", ("rgb", "saliency", "depth"), run)
    options = dataclasses.replace(policy_options(run, tmp_path / "policy"), encoder=part)
    with pytest.raises(DataError, match="demo_0 has no depth; `visarl simulate --modalities depth` .*--estimators"):
        train_policy.main(options)
    with pytest.raises(ConfigError, match="select: .* has depth by .*brightness, and .* leave --select at 0"):
        train_policy.main(dataclasses.replace(options, episodes=episodes, select=2))
    assert not (tmp_path / "policy" / "checkpoint.pt").exists()
