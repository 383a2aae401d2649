"""Behaviour cloning of whole episodes with the LSTM policy: arrays in, weights and normalisation out.

A readout that is learned gets its gradient from the same loss, through the frozen encoder's tokens, which are kept in
16 bits: 66 kB a step at the preset 64, 170 MB for ten demonstrations of 250 steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.common import Run, digest, iteration_rng, pick_device
from visarl.aim import REACH_SIZE, SCALES_M, fit_camera, fit_plane, reach
from visarl.config import PolicyConfig, to_dict
from visarl.contract import ArmContract
from visarl.errors import DataError
from visarl.models.lstm_policy import LSTMPolicy
from visarl.models.readout import Readout
from visarl.normalisation import CLIP, Normalisation
from visarl.robot.kinematics import tool_axes, tool_position
from visarl.training_options import TrainPolicy

COMPONENT_NOISE = 1.0
"""[deviations] On the components beside keypoints: as much noise as there is signal, so that a clone aims by the
keypoints and takes from the components only what all demonstrations share."""
EMBEDDING_FLOOR, PROPRIOCEPTION_FLOOR, TOOL_FLOOR_M, AXES_FLOOR = 0.05, 0.02, 0.01, 0.02
"""Least standard deviation to divide by: what hardly varies in ten demos must not be blown up when it does later."""

GRASP, RELEASE = 1.0, -1.0
"""Ways of the gripper's command."""

Parts = dict[str, dict[str, Tensor]]
"""State dicts by part of a bundle: policy, and readout where it is learned."""


@dataclass(frozen=True)
class Demonstration:
    """One episode as the policy sees it, float32."""

    name: str
    embedding: NDArray[np.float32]
    """(T, E); E may be zero. Of a learned readout only its shape counts: it is made from `tokens`."""
    proprioception: NDArray[np.float32]
    """(T, D)"""
    actions: NDArray[np.float32]
    """(T, A) physical units"""
    tokens: Tensor | None = None
    """(T, n, dim) of the frozen encoder, where the readout is learned"""


@dataclass(frozen=True)
class Meaning:
    """What the numbers of an embedding are."""

    keypoints: tuple[str, ...] = ()
    """Roles of the keypoints (x, y, confidence) that begin it, the effector's first."""
    positions: tuple[str, ...] = ()
    """Roles of the true positions (x, y, z) that begin it."""
    readout: Readout | None = None
    """Makes it from the tokens and is to be trained; None: it is what it is."""

    @property
    def aims(self) -> tuple[str, ...]:
        """Roles of the targets."""
        return self.keypoints[1:] or self.positions

    @property
    def goals(self) -> list[int]:
        """Which of the targets are of no interest before something is grasped."""
        return [k for k, role in enumerate(self.aims) if role == "goal" and "object" in self.aims]


PLAIN = Meaning()


@dataclass(frozen=True)
class Cloned:
    """What training leaves."""

    model: LSTMPolicy
    ladder: list[tuple[int, Parts]]
    """(iteration, weights), the last one being the model's"""
    normalisation: Normalisation
    losses: dict[str, float]
    """train, train_shuffled and, with held-out demos, valid, valid_shuffled: the mean error of normalised actions,
    squared or, of chunks, absolute; shuffled: with another episode's embeddings. A policy that ignores the picture
    scores the same in both."""


def clone(
    title: str,
    options: TrainPolicy,
    demos: Sequence[Demonstration],
    contract: ArmContract,
    config: PolicyConfig,
    meaning: Meaning = PLAIN,
) -> Cloned:
    """Train on all demos but the held-out ones.

    Raises:
        DataError: too few demos or steps; TrainingError: the loss breaks.
    """
    demos = without_failed_tries(demos)
    kept = demos[: max(0, len(demos) - options.holdout)]
    if not kept or min(len(demo.actions) for demo in demos) < 2:
        raise DataError(
            f"expected at least one demo beside the {options.holdout} held out and two steps in each, "
            f"found {[len(demo.actions) for demo in demos]} steps"
        )
    device = pick_device(options.device)
    normalisation = normalise(kept, contract, meaning)
    torch.manual_seed(options.seed)
    model = LSTMPolicy(config, normalisation.state_dim, len(contract.action)).to(device)
    readout = None if meaning.readout is None else meaning.readout.to(device)
    trained: dict[str, Any] = {"policy": model} | ({} if readout is None else {"readout": readout})
    weights = [weight for part in trained.values() for weight in part.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.iterations)
    data = [_tensors(demo, normalisation, contract) for demo in kept]
    grasps, goals = [_turn(demo, GRASP) for demo in kept], meaning.goals
    arrays = [x.numpy() for triple in data for x in triple]
    arrays += [demo.tokens.numpy() for demo in kept if demo.tokens is not None]
    settings = {"model": to_dict(config), "data": digest(*arrays)}
    ladder = _Ladder(options.iterations, options.ladder, trained)
    state = {**trained, "optimiser": optimiser, "schedule": schedule, "ladder": ladder}
    noise = options.noise, _embedding_noise(options.embedding_noise, normalisation)
    model.train()
    with Run(title, options, options.iterations, state, settings) as run:
        for iteration in run:
            rng = iteration_rng(options.seed, iteration)
            chosen = rng.permutation(len(data))[: options.batch]
            batch = []
            for i in chosen:
                embedding, arm, way, actions = data[i]
                embedding = embedding if readout is None else _read(readout, kept[i])
                for goal in goals:
                    way = _elsewhere(way, goal, grasps[i], options.goal_shift * rng.standard_normal(2))
                batch.append((embedding, arm, way, actions))
            states, targets, weight = _batch(batch, config.horizon, rng, noise)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.amp and bf16(device)):
                predicted, _ = model(states.to(device))
            loss = _loss(predicted.float(), targets.to(device), weight.to(device), config)
            run.check(loss.item(), iteration)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            ladder.offer(iteration + 1)
            if iteration % 10 == 0:
                run.log(iteration, loss=loss.item(), lr=schedule.get_last_lr()[0])
    model.eval()
    if readout is not None:
        with torch.no_grad():
            demos = [replace(demo, embedding=_read(readout, demo).cpu().numpy()) for demo in demos]
    losses = _losses("train", model, demos[: len(kept)], normalisation, contract, device)
    if held := demos[len(kept) :]:
        losses |= _losses("valid", model, held, normalisation, contract, device)
    return Cloned(model.cpu(), ladder.rungs, normalisation, losses)


def bf16(device: torch.device) -> bool:
    """Whether the device computes with bfloat16; where it only emulates it, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


def _read(readout: Readout, demo: Demonstration) -> Tensor:
    """The embedding (T, E) of a learned readout, cut as the policy's input is."""
    assert demo.tokens is not None
    return readout(demo.tokens.to(next(readout.parameters()).device).float()).clamp(-CLIP, CLIP)


def normalise(demos: Sequence[Demonstration], contract: ArmContract, meaning: Meaning = PLAIN) -> Normalisation:
    """Mean and deviation of what the policy sees; the scale of the actions; camera and heights to aim by.

    Translation has one scale and rotation has one, the largest in the demos: directions stay comparable, and the slow
    motions of a careful teacher still fill [-1, 1]. What a learned readout makes is left as it is, and
    so is the trust in keypoints.
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
    learned, seen = meaning.readout is not None, len(meaning.keypoints) > 1
    targets = np.arange(1, len(meaning.keypoints)) * 3 if seen else np.arange(len(meaning.positions)) * 3
    relative = len(targets) > 0
    mean, std = embedding.mean(axis=0), np.maximum(embedding.std(axis=0), EMBEDDING_FLOOR)
    left = np.arange(len(mean)) if learned else targets + 2 if seen else np.zeros(0, int)
    mean[left], std[left] = 0.0, 1.0
    hand, floor = (tool_axes(contract, proprioception), AXES_FLOOR) if relative else (tool, TOOL_FLOOR_M)
    plain = Normalisation(
        proprioception_mean=proprioception.mean(axis=0),
        proprioception_std=np.maximum(proprioception.std(axis=0), PROPRIOCEPTION_FLOOR),
        embedding_mean=mean,
        embedding_std=std,
        tool_mean=hand.mean(axis=0),
        tool_std=np.maximum(hand.std(axis=0), floor),
        action_scale=scale,
        camera=fit_camera(tool, embedding[:, :3]) if seen else np.zeros(0),
        targets=targets,
        proprioception_seen=_seen(contract, relative),
    )
    return _measured(plain, demos, contract, meaning.keypoints[1:]) if seen else plain


def _seen(contract: ArmContract, relative: bool) -> NDArray[np.int64]:
    """Which numbers of the proprioception a policy is to see.

    Not the joints' velocities: in demonstrations they tell the action that was just done, and a clone that repeats it
    never starts again where it has once stopped. With targets not the joints' positions either (`Normalisation`).
    """
    positions = np.arange(0 if relative else contract.joints)
    return np.concatenate([positions, np.arange(2 * contract.joints, len(contract.proprioception))])


def _measured(
    n: Normalisation, demos: Sequence[Demonstration], contract: ArmContract, roles: Sequence[str]
) -> Normalisation:
    """With the heights of the planes on which the keypoints of `roles` lie, and of the hand that works there.

    The hand is right above a goal when it opens, and above anything else when it closes.
    """
    planes, heights = [], []
    tracked = [n.track_all(demo.embedding, demo.proprioception, contract) for demo in demos]
    tools = [tool_position(contract, demo.proprioception) for demo in demos]
    for target, role in zip(n.targets.astype(int), roles, strict=True):
        # Where the hand never turns that way, it works where it is lowest.
        turns = [_turn(demo, RELEASE if role == "goal" else GRASP) for demo in demos]
        moments = [turn or int(tool[:, 2].argmin()) for turn, tool in zip(turns, tools, strict=True)]
        hand = np.array([tool[moment] for tool, moment in zip(tools, moments, strict=True)])
        points = np.array([t[moment, target : target + 3] for t, moment in zip(tracked, moments, strict=True)])
        planes.append(fit_plane(n.camera, hand, points))
        heights.append(float(np.median(hand[:, 2])))
    return replace(n, planes=np.array(planes), heights=np.array(heights))


def without_failed_tries(demos: Sequence[Demonstration]) -> list[Demonstration]:
    """Where a demo closes the hand more often than most do, what it did before it opened the hand for its last tries.

    One of ten demonstrations that opens the hand in mid-air, because the thing had slipped, teaches a clone to do so:
    of what was slipping it has seen too little.
    """
    closings = [gripper_turns(demo, GRASP) for demo in demos]
    usual = int(np.median([len(steps) for steps in closings])) if closings else 0
    found = []
    for demo, steps in zip(demos, closings, strict=True):
        first = 0
        if len(steps) > usual > 0:
            opened = gripper_turns(demo, RELEASE)
            first = int(opened[opened < steps[-usual]][-1])
        found.append(demo if not first else _from(demo, first))
    return found


def _from(demo: Demonstration, first: int) -> Demonstration:
    return replace(
        demo,
        embedding=demo.embedding[first:],
        proprioception=demo.proprioception[first:],
        actions=demo.actions[first:],
        tokens=None if demo.tokens is None else demo.tokens[first:],
    )


def gripper_turns(demo: Demonstration, way: float) -> NDArray[np.int64]:
    """The steps at which the gripper's command turns to `way`, `GRASP` or `RELEASE`."""
    gripper = demo.actions[:, -1]
    moving = np.flatnonzero(np.abs(gripper) > 0.1)  # a person's finger rests between two pushes of the button
    signs = np.sign(gripper[moving]) * way
    return moving[1:][(signs[1:] > 0) & (signs[:-1] < 0)]


def _turn(demo: Demonstration, way: float) -> int:
    """The last of them; 0 where there is none."""
    turns = gripper_turns(demo, way)
    return int(turns[-1]) if len(turns) else 0


def _elsewhere(way: Tensor, target: int, before: int, shift: NDArray[np.float64]) -> Tensor:
    """`way` as if, until the step `before`, the `target` had lain elsewhere on the table by `shift` (2,) [m]."""
    moved, columns = way.clone(), slice(target * REACH_SIZE, (target + 1) * REACH_SIZE)
    offset = SCALES_M[0] * way[:before, columns][:, :3].numpy() + np.append(shift, 0.0)
    moved[:before, columns] = torch.from_numpy(reach(np.zeros(3), offset)).float()
    return moved


def _tensors(demo: Demonstration, n: Normalisation, contract: ArmContract) -> tuple[Tensor, ...]:
    """The three stretches of the policy's input, embedding, arm and way to the targets, each (T, n), and actions
    (T, A), normalised."""
    tracked = n.track_all(demo.embedding, demo.proprioception, contract)
    state = n.state(tracked, demo.proprioception, contract)
    stretches = np.split(state, np.cumsum(n.sizes)[:-1], axis=1)
    arrays = (*stretches, demo.actions / n.action_scale)
    return tuple(torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays)


def _embedding_noise(std: float | None, n: Normalisation) -> NDArray[np.float32]:
    """What `TrainPolicy.embedding_noise` means for each number of the embedding that the policy sees."""
    trusts = len(n.planes)
    if std is None:
        std = COMPONENT_NOISE if trusts else 0.0
    return np.where(np.arange(len(n.embedding_seen)) < trusts, 0.0, std).astype(np.float32)


def _batch(
    data: Sequence[tuple[Tensor, ...]],
    horizon: int,
    rng: np.random.Generator,
    noise: tuple[float, float | NDArray[np.float32]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Whole episodes, padded: states (B, T, n), targets (B, T, H, A), weights (B, T, H), zero where padded.

    Args:
        data: see `_tensors`.
        noise: on the arm, on each number of the embedding; none on the way to the targets.
    """
    longest = max(len(actions) for *_, actions in data)
    states, targets, weights = [], [], []
    for embedding, arm, way, actions in data:
        length = len(actions)
        noisy = [
            x + torch.from_numpy(std * rng.standard_normal(tuple(x.shape), dtype=np.float32)) if np.any(std) else x
            for x, std in ((embedding, noise[1]), (arm, noise[0]))
        ]
        pad = (0, 0, 0, longest - length)
        states.append(torch.nn.functional.pad(torch.cat([*noisy, way], dim=1), pad))
        ahead = torch.arange(longest)[:, None] + torch.arange(horizon)  # (T, H)
        targets.append(actions[ahead.clamp(max=length - 1)])
        weights.append((ahead < length).float())
    return torch.stack(states), torch.stack(targets), torch.stack(weights)


def _loss(predicted: Tensor, targets: Tensor, weight: Tensor, config: PolicyConfig) -> Tensor:
    error = predicted - targets
    error = (error.square() if config.head == "step" else error.abs()).mean(dim=-1)
    return (error * weight).sum() / weight.sum()


def _losses(
    name: str,
    model: LSTMPolicy,
    demos: Sequence[Demonstration],
    n: Normalisation,
    contract: ArmContract,
    device: torch.device,
) -> dict[str, float]:
    """The loss, and the loss with another episode's embeddings."""
    both = {name: demos, f"{name}_shuffled": shuffled(demos)}
    return {label: loss_of(model, those, n, contract, device) for label, those in both.items()}


def shuffled(demos: Sequence[Demonstration]) -> list[Demonstration]:
    """Each with the embeddings of the next one, stretched to its length; one alone with its own, played backwards."""
    found = []
    for i, demo in enumerate(demos):
        other = demos[(i + 1) % len(demos)].embedding
        if len(demos) == 1:
            other = other[::-1]
        index = np.linspace(0, len(other) - 1, len(demo.actions)).round().astype(int)
        found.append(replace(demo, embedding=other[index]))
    return found


@torch.no_grad()
def loss_of(
    model: LSTMPolicy, demos: Sequence[Demonstration], n: Normalisation, contract: ArmContract, device: torch.device
) -> float:
    """The mean error of normalised actions over all steps, squared or, of chunks, absolute."""
    episodes = [_tensors(demo, n, contract) for demo in demos]
    states, targets, weight = _batch(episodes, model.config.horizon, np.random.default_rng(0), (0.0, 0.0))
    predicted, _ = model(states.to(device))
    return float(_loss(predicted, targets.to(device), weight.to(device), model.config))


class _Ladder:
    """Weights kept on the way, evenly over the last half of training: the lowest loss is often not the best policy."""

    def __init__(self, iterations: int, rungs: int, parts: dict[str, Any]) -> None:
        self.at = {round(iterations * (1 - 0.5 * i / max(1, rungs))) for i in range(max(1, rungs))}
        self.rungs: list[tuple[int, Parts]] = []
        self._parts = parts

    def offer(self, iteration: int) -> None:
        if iteration in self.at:
            kept = {name: _copy(part.state_dict()) for name, part in self._parts.items()}
            self.rungs.append((iteration, kept))

    def state_dict(self) -> dict[str, object]:
        return {"rungs": [[iteration, weights] for iteration, weights in self.rungs]}

    def load_state_dict(self, state: dict[str, list[tuple[int, Parts]]]) -> None:
        self.rungs = [(iteration, weights) for iteration, weights in state["rungs"]]


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
