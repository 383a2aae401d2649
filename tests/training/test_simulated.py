"""What `visarl simulate` writes goes through the rest: labels, an encoder, a policy, a bundle."""

from __future__ import annotations

from pathlib import Path

import h5py
import torch._dynamo  # noqa: F401  before the simulator renders

from tests.tiny import TINY
from training import label, train_encoder, train_policy, train_saliency
from visarl.bundle import load_bundle
from visarl.options import Simulate
from visarl.simulate import simulate
from visarl.training_options import Label, TrainEncoder, TrainPolicy


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
