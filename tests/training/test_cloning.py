"""What the loss of cloning counts, what it normalises by, and what a run keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from training.cloning import (
    COMPONENT_NOISE,
    EMBEDDING_FLOOR,
    PROPRIOCEPTION_FLOOR,
    TOOL_FLOOR_M,
    Cloned,
    Demonstration,
    _batch,
    _embedding_noise,
    _loss,
    _losses,
    _tensors,
    clone,
    normalise,
)
from visarl.config import PolicyConfig
from visarl.contract import get_contract
from visarl.errors import ConfigError, DataError
from visarl.models.lstm_policy import LSTMPolicy
from visarl.training_options import TrainPolicy

CONTRACT = get_contract("jaco2")
EMBEDDING = 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def demonstration(steps: int, seed: int, spread: float = 1.0) -> Demonstration:
    """Whose numbers are all different."""
    rng = np.random.default_rng(seed)
    return Demonstration(
        f"demo_{seed}",
        (spread * rng.normal(size=(steps, EMBEDDING))).astype(np.float32),
        (0.1 * spread * rng.normal(size=(steps, len(CONTRACT.proprioception)))).astype(np.float32),
        (CONTRACT.action.high * rng.uniform(-0.5, 0.5, (steps, len(CONTRACT.action)))).astype(np.float32),
    )


DEMOS = [demonstration(steps, seed) for seed, steps in enumerate((9, 4, 6))]


def train(folder: Path, demos: list[Demonstration], **changes: int) -> Cloned:
    options = TrainPolicy(out=folder, episodes=folder, encoder=folder, iterations=8, threads=1, lr=1e-2)
    return clone("policy", dataclasses.replace(options, **changes), demos, CONTRACT, PolicyConfig(hidden=8))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


# ---- what goes in --------------------------------------------------------------------------------------------------


def test_what_hardly_varies_is_divided_by_the_floor_and_the_rest_by_its_own_deviation() -> None:
    still, lively = (normalise([demonstration(50, 0, spread)], CONTRACT) for spread in (1e-4, 5.0))
    assert still.embedding_std == pytest.approx(np.full(EMBEDDING, EMBEDDING_FLOOR))
    assert still.proprioception_std == pytest.approx(np.full(len(CONTRACT.proprioception), PROPRIOCEPTION_FLOOR))
    assert still.tool_std == pytest.approx(np.full(3, TOOL_FLOOR_M))
    demo = demonstration(50, 0, 5.0)
    assert lively.embedding_std == pytest.approx(demo.embedding.std(axis=0), rel=1e-5)
    assert lively.proprioception_std == pytest.approx(demo.proprioception.std(axis=0), rel=1e-5)
    assert (lively.tool_std > 5 * TOOL_FLOOR_M).all()


def test_translation_and_rotation_have_one_scale_each_and_a_slow_one_is_not_blown_up() -> None:
    high = CONTRACT.action.high
    for shares, expected in (
        ([0.5, -0.1, 0.0, 0.2, 0.0, -0.3, 0.1], [0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 1.0]),
        ([0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 1.0]),
        ([0.0, 0.0, 1.5, 0.9, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 1.0]),
    ):
        actions = np.stack([high * 0, high * shares]).astype(np.float32)
        demo = dataclasses.replace(demonstration(2, 0), actions=actions)
        assert normalise([demo], CONTRACT).action_scale == pytest.approx(high * expected, rel=1e-5)


# ---- what it counts ------------------------------------------------------------------------------------------------


def policy(horizon: int = 1) -> LSTMPolicy:
    torch.manual_seed(0)
    state_dim = normalise(DEMOS, CONTRACT).state_dim
    return LSTMPolicy(PolicyConfig(hidden=8, horizon=horizon), state_dim, len(CONTRACT.action)).eval()


@torch.no_grad()
@pytest.mark.parametrize("horizon", [1, 5])
def test_padding_has_no_weight(horizon: int) -> None:
    """A batch scores as its episodes do one by one, each step of each action ahead counting once."""
    model, n = policy(horizon), normalise(DEMOS, CONTRACT)
    data = [_tensors(demo, n, CONTRACT) for demo in DEMOS]
    rng = np.random.default_rng(0)

    def score(episodes: list[tuple[torch.Tensor, ...]]) -> tuple[float, float]:
        states, targets, weight = _batch(episodes, horizon, rng, (0.0, 0.0))
        return float(_loss(model(states)[0], targets, weight, model.config)), float(weight.sum())

    together, weight = score(data)
    apart, weights = np.array([score([episode]) for episode in data]).T
    assert weight == weights.sum() == sum(max(0, len(d.actions) - h) for d in DEMOS for h in range(horizon))
    assert together == pytest.approx(float((apart * weights).sum() / weights.sum()), rel=1e-5)


def test_the_targets_of_a_step_are_its_own_action_and_those_that_follow() -> None:
    n, horizon = normalise(DEMOS, CONTRACT), 3
    data = [_tensors(demo, n, CONTRACT) for demo in DEMOS]
    _, targets, weight = _batch(data, horizon, np.random.default_rng(0), (0.0, 0.0))
    for i, demo in enumerate(DEMOS):
        wanted = demo.actions / n.action_scale
        for t, h in np.argwhere(weight[i].numpy() > 0):
            assert targets[i, t, h].numpy() == pytest.approx(wanted[t + h], rel=1e-5)
        assert len(demo.actions) == (weight[i, :, 0] > 0).sum()


def test_noise_goes_where_it_is_meant_and_repeats_with_its_generator() -> None:
    data = [_tensors(demo, normalise(DEMOS, CONTRACT), CONTRACT) for demo in DEMOS[:1]]

    def states(on_proprioception: float, on_embedding: float, seed: int = 0) -> torch.Tensor:
        return _batch(data, 1, np.random.default_rng(seed), (on_proprioception, on_embedding))[0][0]

    clean = states(0.0, 0.0)
    blurred, shaken = states(0.0, 0.5) - clean, states(0.5, 0.0) - clean
    assert (blurred[:, :EMBEDDING] != 0).all() and not blurred[:, EMBEDDING:].any()
    assert (shaken[:, EMBEDDING:] != 0).all() and not shaken[:, :EMBEDDING].any()
    assert float(shaken[:, EMBEDDING:].std()) == pytest.approx(0.5, rel=0.2)
    assert torch.equal(states(0.5, 0.5), states(0.5, 0.5)) and not torch.equal(states(0.5, 0.5), states(0.5, 0.5, 1))


def test_of_keypoints_only_the_components_are_blurred() -> None:
    plain = normalise(DEMOS, CONTRACT)
    assert not _embedding_noise(None, plain).any() and (_embedding_noise(0.5, plain) == 0.5).all()
    # Effector, object and goal as keypoints, of which the policy is told whether the last two are trusted; and 3 more.
    beside = dataclasses.replace(
        plain, embedding_mean=np.zeros(12), embedding_std=np.ones(12), camera=np.eye(3, 4).ravel(),
        targets=np.array([3, 6]), planes=np.zeros(2), heights=np.zeros(2),
    )  # fmt: skip
    assert _embedding_noise(None, beside).tolist() == [0, 0, *[COMPONENT_NOISE] * 3]
    assert _embedding_noise(0.25, beside).tolist() == [0, 0, 0.25, 0.25, 0.25]
    assert not _embedding_noise(0.0, beside).any()


@torch.no_grad()
def test_another_episodes_embeddings_cost_nothing_where_they_are_ignored_and_something_where_not() -> None:
    model, n = policy(), normalise(DEMOS, CONTRACT)
    for count in (3, 1):
        losses = _losses("train", model, DEMOS[:count], n, CONTRACT, torch.device("cpu"))
        assert abs(losses["train_shuffled"] / losses["train"] - 1) > 1e-5
    model.input[0].weight[:, :EMBEDDING] = 0
    for count in (3, 1):
        losses = _losses("train", model, DEMOS[:count], n, CONTRACT, torch.device("cpu"))
        assert losses["train_shuffled"] == pytest.approx(losses["train"], rel=1e-6)


def test_what_is_held_out_is_scored_and_teaches_nothing(tmp_path: Path) -> None:
    one, other = (train(tmp_path / str(i), [*DEMOS, demonstration(7, 90 + i, 3.0 + i)], holdout=1) for i in range(2))
    assert same(one.model.state_dict(), other.model.state_dict())
    assert one.normalisation.embedding_std == pytest.approx(other.normalisation.embedding_std)
    assert one.losses["train"] == other.losses["train"] and one.losses["valid"] != other.losses["valid"]


@pytest.mark.parametrize("holdout", [3, 5])
def test_to_hold_out_all_there_is_leaves_nothing_to_learn_from(holdout: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"beside the {holdout} held out .* found \[9, 4, 6\] steps"):
        train(tmp_path, DEMOS, holdout=holdout)


# ---- what it keeps -------------------------------------------------------------------------------------------------


def test_the_ladder_keeps_the_weights_of_its_time_also_when_a_run_goes_on(tmp_path: Path) -> None:
    first = train(tmp_path, DEMOS)
    rungs = [weights["policy"] for _, weights in first.ladder]
    assert [iteration for iteration, _ in first.ladder] == [5, 6, 7, 8]
    assert not any(same(one, other) for one, other in zip(rungs, rungs[1:], strict=False))
    assert same(rungs[-1], first.model.state_dict())
    again = train(tmp_path, DEMOS)  # nothing is left to do
    assert [iteration for iteration, _ in again.ladder] == [5, 6, 7, 8]
    assert all(same(one, other["policy"]) for one, (_, other) in zip(rungs, again.ladder, strict=True))


def test_a_run_does_not_go_on_with_other_demonstrations(tmp_path: Path) -> None:
    train(tmp_path, DEMOS)
    with pytest.raises(ConfigError, match="began with other settings .data was '.*--restart"):
        train(tmp_path, [*DEMOS[:2], demonstration(6, 77)])
