"""Cloning: what the policy is trained on, its diagnostics, and the bundle that comes out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.tiny import TINY, tiny_bundle
from training import train_encoder, train_policy, train_saliency
from training.agents import BundleAgent, DiagnosticAgent
from training.cloning import Demonstration, _batch, clone
from training.parts import load_encoder, load_saliency
from visarl.bundle import load_bundle
from visarl.config import PolicyConfig
from visarl.contract import get_contract
from visarl.errors import BundleError, ConfigError, DataError
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.tabletop import SceneTruth
from visarl.training_options import TrainPolicy


def policy_options(run: Path, out: Path, iterations: int = 2) -> TrainPolicy:
    return TrainPolicy(
        out=out,
        episodes=run / "clear.hdf5",
        saliency=run / "saliency" / train_saliency.PART,
        encoder=run / "encoder" / train_encoder.PART,
        components=4,
        iterations=iterations,
        threads=1,
        checkpoint_every=2,
        diagnostic_starts=0,
    )


def made_up(count: int = 4, steps: int = 30, seed: int = 0) -> list[Demonstration]:
    """Demonstrations whose action is the place that the embedding tells, less where the arm is."""
    rng = np.random.default_rng(seed)
    contract = get_contract("jaco2")
    found = []
    for i in range(count):
        goal = rng.uniform(-1, 1, 2).astype(np.float32)
        proprioception = np.zeros((steps, len(contract.proprioception)), np.float32)
        actions = np.zeros((steps, len(contract.action)), np.float32)
        at = rng.uniform(-1, 1, 2)
        for t in range(steps):
            proprioception[t, :2] = at
            actions[t, :2] = 0.01 * (goal - at)
            at = at + 0.1 * (goal - at)
        found.append(Demonstration(f"demo_{i}", np.tile(goal, (steps, 1)), proprioception, actions))
    return found


def test_cloning_learns_and_uses_the_embedding(tmp_path: Path) -> None:
    options = TrainPolicy(
        out=tmp_path, episodes=tmp_path, encoder=tmp_path, iterations=120, threads=1, lr=3e-3, holdout=1
    )
    cloned = clone("policy", options, made_up(6), get_contract("jaco2"), PolicyConfig(hidden=32))
    assert cloned.losses["train"] < 0.02
    assert cloned.losses["train_shuffled"] > 5 * cloned.losses["train"]
    assert set(cloned.losses) == {"train", "train_shuffled", "valid", "valid_shuffled"}
    assert [iteration for iteration, _ in cloned.ladder] == [75, 90, 105, 120]


def test_horizon_targets_end_with_the_episode(tmp_path: Path) -> None:
    horizon, lengths = 4, (7, 3)
    data = [tuple(torch.randn(length, size) for size in (2, 1, 2, 5)) for length in lengths]
    states, targets, weights = _batch(data, horizon, np.random.default_rng(0), (0.0, 0.0))
    assert states.shape == (2, 7, 5) and targets.shape == (2, 7, horizon, 5) and weights.shape == (2, 7, horizon)
    assert weights.sum() == (7 + 6 + 5 + 4) + (3 + 2 + 1 + 0)
    for (*_, actions), target, weight in zip(data, targets, weights, strict=True):
        for t, h in weight.nonzero().tolist():
            assert torch.equal(target[t, h], actions[t + h])

    options = TrainPolicy(out=tmp_path, episodes=tmp_path, encoder=tmp_path, iterations=2, threads=1, horizon=4)
    cloned = clone("policy", options, made_up(2), get_contract("jaco2"), PolicyConfig(hidden=8, horizon=4))
    assert np.isfinite(list(cloned.losses.values())).all()


def test_too_few_demonstrations(tmp_path: Path) -> None:
    options = TrainPolicy(out=tmp_path, episodes=tmp_path, encoder=tmp_path, holdout=2)
    with pytest.raises(DataError, match="at least one demo beside the 2 held out"):
        clone("policy", options, made_up(2), get_contract("jaco2"), PolicyConfig())


def test_the_bundle_acts(run: Path, tmp_path: Path) -> None:
    train_policy.main(policy_options(run, tmp_path))
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.task == "pick_red_block"
    assert bundle.config.encoder == TINY.encoder
    assert {"command", "commit", "seed", "seconds"} <= set(bundle.provenance)
    metrics = json.loads((tmp_path / "policy.json").read_text())
    assert set(metrics["diagnostics"]) == {"state", "nothing"}

    contract = get_contract("jaco2")
    state = ArmState(0, np.zeros(6), np.zeros(6), np.zeros(3), np.zeros(3), np.array([0, 0, 0, 1.0]))
    truth = SceneTruth("pick_red_block", 0, 0.0, {"object": np.zeros(3)}, {}, {}, False, False)
    frame = Frame(np.zeros((480, 640, 3), np.uint8), 0)
    parts = [tmp_path / f"diagnostic_{sees}" / "policy.safetensors" for sees in ("state", "nothing")]
    agents = [BundleAgent(bundle.folder, "torch"), *map(DiagnosticAgent, parts)]
    for agent in agents:
        agent.reset()
        contract.action.validate(agent.act(frame, state, truth))


def test_rgb_alone_needs_no_saliency(run: Path, tmp_path: Path) -> None:
    from tests.training.conftest import encoder_options

    train_encoder.main(dataclasses.replace(encoder_options(run, tmp_path / "encoder"), modalities=("rgb",)))
    options = dataclasses.replace(
        policy_options(run, tmp_path / "policy"),
        saliency=None,
        encoder=tmp_path / "encoder" / train_encoder.PART,
        readout="mean",
        diagnostics=False,
    )
    train_policy.main(options)
    assert not load_bundle(tmp_path / "policy" / "bundle").config.needs_saliency


def test_keypoints_need_an_encoder_that_sees_saliency(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the saliency part"):
        train_policy.main(dataclasses.replace(policy_options(run, tmp_path), saliency=None))


def test_unlabelled_episodes(run: Path, episodes: Path, tmp_path: Path) -> None:
    with h5py.File(episodes, "r+") as file:
        del file["data/demo_1/obs/saliency"]
    with pytest.raises(DataError, match="demo_1 has no saliency maps; run `visarl label`"):
        train_policy.main(dataclasses.replace(policy_options(run, tmp_path), episodes=episodes))


def test_parts_in_each_others_place(run: Path, tmp_path: Path) -> None:
    options = policy_options(run, tmp_path)
    with pytest.raises(BundleError, match="expected a part with 'encoder'.*encoder.safetensors .*visarl train encoder"):
        train_policy.main(dataclasses.replace(options, encoder=options.saliency))


def test_a_part_out_of_a_bundle_is_told_from_what_training_wrote(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    for kind, load in (("saliency", load_saliency), ("encoder", load_encoder)):
        with pytest.raises(BundleError, match=f"found one out of a bundle; give the {kind}.safetensors"):
            load(bundle.folder / f"{kind}.safetensors", torch.device("cpu"))
