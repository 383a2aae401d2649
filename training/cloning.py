"""Behaviour cloning of whole episodes with the LSTM policy: arrays in, weights and normalisation out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.common import Run, digest, iteration_rng, pick_device
from visarl.aim import Tracker, fit_camera
from visarl.bundle import Normalisation
from visarl.config import PolicyConfig, to_dict
from visarl.contract import ArmContract
from visarl.errors import DataError
from visarl.models.lstm_policy import LSTMPolicy
from visarl.robot.kinematics import tool_position
from visarl.training_options import TrainPolicy

EMBEDDING_FLOOR, PROPRIOCEPTION_FLOOR, TOOL_FLOOR_M = 0.05, 0.02, 0.01
"""Least standard deviation to divide by: what hardly varies in ten demos must not be blown up when it does later."""


@dataclass(frozen=True)
class Demonstration:
    """One episode as the policy sees it, float32."""

    name: str
    embedding: NDArray[np.float32]
    """(T, E); E may be zero"""
    proprioception: NDArray[np.float32]
    """(T, D)"""
    actions: NDArray[np.float32]
    """(T, A) physical units"""


@dataclass(frozen=True)
class Cloned:
    """What training leaves."""

    model: LSTMPolicy
    ladder: list[tuple[int, dict[str, Tensor]]]
    """(iteration, weights), the last one being the model's"""
    normalisation: Normalisation
    losses: dict[str, float]
    """train, train_shuffled and, with held-out demos, valid, valid_shuffled: the mean squared error of normalised
    actions; shuffled: with another episode's embeddings. A policy that ignores the picture scores the same in both."""


def clone(
    title: str,
    options: TrainPolicy,
    demos: Sequence[Demonstration],
    contract: ArmContract,
    config: PolicyConfig,
    keypoints: int = 0,
) -> Cloned:
    """Train on all demos but the held-out ones.

    Args:
        keypoints: so many keypoints, the effector's first, begin each embedding; 0 where the readout has none.

    Raises:
        DataError: too few demos or steps.
    """
    kept = demos[: max(0, len(demos) - options.holdout)]
    if not kept or min(len(demo.actions) for demo in demos) < 2:
        raise DataError(
            f"expected at least one demo beside the {options.holdout} held out and two steps in each, "
            f"found {[len(demo.actions) for demo in demos]} steps"
        )
    device = pick_device(options.device)
    normalisation = normalise(kept, contract, keypoints)
    torch.manual_seed(options.seed)
    model = LSTMPolicy(config, normalisation.state_dim, len(contract.action)).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.iterations)
    data = [_tensors(demo, normalisation, contract) for demo in kept]
    settings = {"model": to_dict(config), "data": digest(*(x.numpy() for triple in data for x in triple))}
    ladder = _Ladder(options.iterations, options.ladder)
    state = {"model": model, "optimiser": optimiser, "schedule": schedule, "ladder": ladder}
    noise = options.noise, options.embedding_noise
    model.train()
    with Run(title, options, options.iterations, state, settings) as run:
        for iteration in run:
            rng = iteration_rng(options.seed, iteration)
            chosen = rng.permutation(len(data))[: options.batch]
            states, targets, weight = _batch([data[i] for i in chosen], config.horizon, rng, noise)
            predicted, _ = model(states.to(device))
            loss = _loss(predicted, targets.to(device), weight.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            ladder.offer(iteration + 1, model)
            if iteration % 10 == 0:
                run.log(iteration, loss=loss.item(), lr=schedule.get_last_lr()[0])
    model.eval()
    losses = _losses("train", model, kept, normalisation, contract, device)
    if held := demos[len(kept) :]:
        losses |= _losses("valid", model, held, normalisation, contract, device)
    return Cloned(model.cpu(), ladder.rungs, normalisation, losses)


def normalise(demos: Sequence[Demonstration], contract: ArmContract, keypoints: int = 0) -> Normalisation:
    """Mean and deviation of what the policy sees; the scale of the actions.

    Translation has one scale and rotation has one, the largest in the demos: directions stay comparable, and the slow
    motions of a careful teacher still fill [-1, 1].
    """
    embedding = np.concatenate([demo.embedding for demo in demos])
    proprioception = np.concatenate([demo.proprioception for demo in demos])
    tool = tool_position(contract, proprioception)
    largest = np.abs(np.concatenate([demo.actions for demo in demos])).max(axis=0)
    high = contract.action.high
    scale = high.copy()
    for part in (slice(0, 3), slice(3, 6)):
        share = float((largest[part] / high[part]).max())
        scale[part] = high[part] * min(1.0, max(share, 0.1))
    return Normalisation(
        proprioception_mean=proprioception.mean(axis=0),
        proprioception_std=np.maximum(proprioception.std(axis=0), PROPRIOCEPTION_FLOOR),
        embedding_mean=embedding.mean(axis=0),
        embedding_std=np.maximum(embedding.std(axis=0), EMBEDDING_FLOOR),
        tool_mean=tool.mean(axis=0),
        tool_std=np.maximum(tool.std(axis=0), TOOL_FLOOR_M),
        action_scale=scale,
        camera=fit_camera(tool, embedding[:, :3]) if keypoints > 1 else np.zeros(0),
        targets=np.arange(1, keypoints) * 3,
    )


def _tensors(demo: Demonstration, n: Normalisation, contract: ArmContract) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised embedding (T, E), what is known beside it (T, state_dim - E), actions (T, A)."""
    tracker = Tracker(n.camera)
    pairs = zip(demo.embedding, demo.proprioception, strict=True)
    tracked = np.stack([n.track(tracker, embedding, joints, contract) for embedding, joints in pairs])
    state = n.state(tracked, demo.proprioception, contract)
    size = n.embedding_dim
    arrays = (state[:, :size], state[:, size:], demo.actions / n.action_scale)
    return tuple(torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays)  # type: ignore[return-value]


def _batch(
    data: list[tuple[Tensor, Tensor, Tensor]], horizon: int, rng: np.random.Generator, noise: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Whole episodes, padded: states (B, T, E + D + 3), targets (B, T, H, A), weights (B, T, H), zero where padded."""
    longest = max(len(actions) for _, _, actions in data)
    states, targets, weights = [], [], []
    for embedding, proprioception, actions in data:
        length = len(actions)
        noisy = [
            x + std * torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32)) if std > 0 else x
            for x, std in ((embedding, noise[1]), (proprioception, noise[0]))
        ]
        pad = (0, 0, 0, longest - length)
        states.append(torch.nn.functional.pad(torch.cat(noisy, dim=1), pad))
        ahead = torch.arange(longest)[:, None] + torch.arange(horizon)  # (T, H)
        targets.append(actions[ahead.clamp(max=length - 1)])
        weights.append((ahead < length).float())
    return torch.stack(states), torch.stack(targets), torch.stack(weights)


def _loss(predicted: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    error = (predicted - targets).square().mean(dim=-1)
    return (error * weight).sum() / weight.sum()


@torch.no_grad()
def _losses(
    name: str,
    model: LSTMPolicy,
    demos: Sequence[Demonstration],
    n: Normalisation,
    contract: ArmContract,
    device: torch.device,
) -> dict[str, float]:
    """The loss, and the loss with the embeddings of the next episode, stretched to this one's length.

    One episode alone sees its own, played backwards.
    """
    shuffled = []
    for i, demo in enumerate(demos):
        other = demos[(i + 1) % len(demos)].embedding
        if len(demos) == 1:
            other = other[::-1]
        index = np.linspace(0, len(other) - 1, len(demo.actions)).round().astype(int)
        shuffled.append(replace(demo, embedding=other[index]))
    result = {}
    for label, those in ((name, demos), (f"{name}_shuffled", shuffled)):
        episodes = [_tensors(demo, n, contract) for demo in those]
        states, targets, weight = _batch(episodes, model.config.horizon, np.random.default_rng(0), (0.0, 0.0))
        predicted, _ = model(states.to(device))
        result[label] = float(_loss(predicted, targets.to(device), weight.to(device)))
    return result


class _Ladder:
    """Weights kept on the way, evenly over the last half of training: the lowest loss is often not the best policy."""

    def __init__(self, iterations: int, rungs: int) -> None:
        self.at = {round(iterations * (1 - 0.5 * i / max(1, rungs))) for i in range(max(1, rungs))}
        self.rungs: list[tuple[int, dict[str, Tensor]]] = []

    def offer(self, iteration: int, model: LSTMPolicy) -> None:
        if iteration in self.at:
            self.rungs.append((iteration, {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}))

    def state_dict(self) -> dict[str, object]:
        return {"rungs": [[iteration, weights] for iteration, weights in self.rungs]}

    def load_state_dict(self, state: dict[str, list[tuple[int, dict[str, Tensor]]]]) -> None:
        self.rungs = [(iteration, weights) for iteration, weights in state["rungs"]]
