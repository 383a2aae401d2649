"""`visarl simulate`: the simulator in lockstep, straight into an episode file. No ROS, no bags."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from visarl.config import PreprocessConfig, get_preset
from visarl.contract import CONTROL_RATE_HZ, ArmContract
from visarl.data.align import active_range
from visarl.data.convert import MIN_STEPS, EpisodeReport
from visarl.data.episodes import (
    NUMBERS_BYTES,
    create,
    finish,
    new_dataset,
    normalise,
    reserve,
    write_header,
    write_steps,
    write_truth,
)
from visarl.data.files import writable
from visarl.errors import ConfigError, SimulationError
from visarl.options import Simulate
from visarl.preprocess import crop
from visarl.process import commit, uninterrupted
from visarl.robot.interfaces import ArmState, Frame
from visarl.sim.expert import Expert
from visarl.sim.modalities import FAR_M, NEAR_M, modality_pictures
from visarl.sim.rollout import Outcome, lockstep
from visarl.sim.seeds import EVALUATION_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from visarl.sim.tabletop import SceneTruth, Simulator
from visarl.sim.tasks import WORKSPACE, get_task

PATIENCE = 5
"""Failures allowed beyond one for each episode asked for; the expert succeeds nearly always."""
VALIDATION_SHARE = 0.1
TESTING_SEEDS = range(VALIDATION_SEEDS.start, EVALUATION_SEEDS.stop)

Array = NDArray[np.float64]


def main(options: Simulate) -> int:
    """Writes `options.out`; its last line on stdout is one line of JSON."""
    print(json.dumps(simulate(options)))
    return 0


def simulate(options: Simulate, console: Console | None = None) -> dict[str, Any]:
    """Write `options.episodes` episodes into a new file, one scene after the other from `options.seed` on.

    The file appears when all of them are in it; what was there before stays until then. The same options give the same
    episodes again.

    Returns:
        task, policy, perturbation, episodes, attempts, seeds of what is kept, steps, took_s, ms_per_step, out.

    Raises:
        ConfigError: an option out of range, or seeds that are not for this use; SimulationError: the expert fails too
        often, or OpenGL does not work here; DataError: the file cannot be written.
    """
    _check(options)
    preprocess = get_preset(options.preset).preprocess
    kept: list[int] = []
    began_s, attempts, steps = time.monotonic(), 0, 0
    with create(options.out) as file, _progress(console) as progress:
        bar = progress.add_task(f"simulating {options.task}", total=options.episodes)
        data = write_header(file, Simulator.contract, preprocess)
        simulator = Simulator(
            options.task, options.seed, options.disturbance, options.perturbation, videos=options.videos
        )
        try:
            while len(kept) < options.episodes:
                seed = options.seed + attempts
                _check_seeds(options, seed, seed)
                simulator.reset(seed=seed)
                attempts += 1
                episode, outcome = _play(simulator, options, preprocess)
                if outcome.success or options.failures or options.policy == "random":
                    with uninterrupted():
                        steps += _write(file, f"demo_{len(kept)}", episode, outcome, seed, options, preprocess)
                    kept.append(seed)
                    progress.advance(bar)
                if attempts - len(kept) > options.episodes + PATIENCE:
                    raise SimulationError(
                        f"{options.task}: the expert failed {attempts - len(kept)} times for {len(kept)} episodes with "
                        f"--disturbance {options.disturbance} and a limit of {_limit_s(options)} s; lower the one or "
                        "raise the other"
                    )
        finally:
            simulator.close()
        with uninterrupted():
            data.attrs["seeds"] = kept
            data.attrs["evaluation"] = options.evaluation
            data.attrs["commit"] = commit()
            for name in ("policy", "perturbation", "disturbance"):
                data.attrs[name] = getattr(options, name)
            finish(file, VALIDATION_SHARE)
    took_s = time.monotonic() - began_s
    return {
        "task": options.task,
        "policy": options.policy,
        "perturbation": options.perturbation,
        "episodes": len(kept),
        "attempts": attempts,
        "seeds": kept,
        "steps": steps,
        "took_s": round(took_s, 1),
        "ms_per_step": round(1e3 * took_s / steps, 1),
        "out": str(options.out),
    }


def _check(options: Simulate) -> None:
    if options.episodes < 1:
        raise ConfigError(f"simulate: expected at least 1 episode, found {options.episodes}")
    if options.limit_s is not None and options.limit_s * CONTROL_RATE_HZ < MIN_STEPS:
        raise ConfigError(
            f"simulate: limit_s {options.limit_s} s: expected at least {MIN_STEPS / CONTROL_RATE_HZ:g} s, the shortest "
            "episode that can be used"
        )
    _check_seeds(options, options.seed, options.seed + options.episodes - 1)
    writable(options.out)


def _check_seeds(options: Simulate, first: int, last: int) -> None:
    allowed = TESTING_SEEDS if options.evaluation else TRAIN_SEEDS
    if first in allowed and last in allowed:
        return
    fix = (
        "with --evaluation the file is to test on: choose a --seed there"
        if options.evaluation
        else "nothing is trained on those above: choose a lower --seed, or say --evaluation for a file to test on"
    )
    scenes = f"scene {first} is not" if first == last else f"scenes {first} to {last} are not all"
    raise ConfigError(f"simulate: {scenes} in {allowed.start} to {allowed.stop - 1}; {fix}")


def _limit_s(options: Simulate) -> float:
    return get_task(options.task).limit_s if options.limit_s is None else options.limit_s


class Wanderer:
    """Moves the hand from one random place above the table to the next, its fingers opening and closing.

    Args:
        seed: everything random follows from it.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng([seed, 5])
        self._left = 0

    def act(self, state: ArmState) -> Array:
        """The contract's action, (7,), for what the arm measures now."""
        if self._left == 0:
            self._left = int(self._rng.integers(10, 30))  # control periods
            spread = np.append(1.2 * np.array(WORKSPACE.half), 0.09)
            centre = np.append(WORKSPACE.centre, 0.13)
            self._goal = centre + spread * self._rng.uniform(-1, 1, 3)
            self._turn = self._rng.uniform(-0.15, 0.15)  # rad/s about the vertical
            self._gripper = float(self._rng.choice([-1.0, 0.0, 1.0]))
        self._left -= 1
        velocity = 2.0 * (self._goal - state.tool_position)
        velocity *= min(1.0, 0.08 / max(float(np.linalg.norm(velocity)), 1e-9))
        return np.concatenate([velocity, [0.0, 0.0, self._turn], [CONTROL_RATE_HZ * self._gripper]]) / CONTROL_RATE_HZ


@dataclass
class _Episode:
    """What an episode leaves, step by step. Whole episodes are kept in memory: only their end tells what they are."""

    stamps: list[int] = field(default_factory=list)
    pictures: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    states: list[Array] = field(default_factory=list)
    actions: list[Array] = field(default_factory=list)
    truths: list[SceneTruth] = field(default_factory=list)


def _play(simulator: Simulator, options: Simulate, preprocess: PreprocessConfig) -> tuple[_Episode, Outcome]:
    episode = _Episode()
    act = _actor(simulator, options)

    def note(frame: Frame | None, state: ArmState, truth: SceneTruth, action: Array) -> None:
        assert frame is not None  # lockstep was asked for pictures
        episode.stamps.append(round(1e9 * truth.time_s))
        episode.states.append(simulator.contract.proprioception.validate(state.proprioception()))
        episode.actions.append(action)
        episode.truths.append(truth)
        seen = {"image": crop(frame.image, preprocess)}
        seen |= modality_pictures(simulator, options.modalities, preprocess)
        for key, picture in seen.items():
            episode.pictures.setdefault(key, []).append(picture)

    return episode, lockstep(simulator, act, _limit_s(options), note)


def _actor(simulator: Simulator, options: Simulate) -> Callable[[Frame | None, ArmState, SceneTruth], Array]:
    if options.policy == "random":
        wanderer = Wanderer(simulator.seed)
        return lambda frame, state, truth: wanderer.act(state)
    expert = Expert(simulator.seed, simulator.task.name)
    return lambda frame, state, truth: expert.act(truth, state)


def _write(
    file: h5py.File,
    demo: str,
    episode: _Episode,
    outcome: Outcome,
    seed: int,
    options: Simulate,
    preprocess: PreprocessConfig,
) -> int:
    """Its steps, the idle ones at both ends left out as `visarl convert` does; how many."""
    contract: ArmContract = Simulator.contract
    actions = np.stack(episode.actions)
    first, last = active_range(normalise(actions, contract))
    steps = slice(first, last)
    stamps, truths = episode.stamps[steps], episode.truths[steps]
    pictures = {key: found[steps] for key, found in episode.pictures.items()}
    reserve(file, sum(sum(p.nbytes for p in found) for found in pictures.values()) + len(stamps) * NUMBERS_BYTES)
    group = file["data"].create_group(demo)
    write_steps(
        group,
        contract,
        stamps=stamps,
        actions=actions[steps],
        states=episode.states[steps],
        image_stamps=stamps,
        state_stamps=stamps,
        success=outcome.success,
    )
    for key, found in pictures.items():
        new_dataset(group["obs"], key, (len(found), *found[0].shape), np.uint8)[:] = np.stack(found)
    if "depth" in pictures:
        group["obs/depth"].attrs["range_m"] = [NEAR_M, FAR_M]
    names = truths[0].names
    write_truth(
        group,
        preprocess,
        names=names,
        positions=[[truth.positions[name] for name in names] for truth in truths],
        uv=[[truth.uv[name] for name in names] for truth in truths],
        visible=[[truth.visible[name] for name in names] for truth in truths],
    )
    report = EpisodeReport(
        bag=f"{options.task}-{seed}",
        demo=demo,
        task=options.task,
        label="success" if outcome.success else "failure",
        steps=len(stamps),
        frames=len(episode.stamps),
        idle_head=first,
        idle_tail=len(episode.stamps) - last,
        gaps=0,
        unpaired=0,
        stale=0,
        clipped=0,
        frame_age_ms_p50=0.0,  # in lockstep the action answers the frame of its own instant
        frame_age_ms_max=0.0,
        state_error_ms_p50=0.0,
        state_error_ms_max=0.0,
    )
    for key, value in asdict(report).items():
        if key not in ("demo", "steps"):
            group.attrs[key] = value
    group.attrs["seed"] = seed
    return len(stamps)


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console or Console(stderr=True),
    )
