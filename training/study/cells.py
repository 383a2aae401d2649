"""The jobs of a study, as functions that a worker process calls by name."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from training import diagnose, label, probe, score, train_encoder, train_policy, train_saliency
from training.agents import BundleAgent, DiagnosticAgent, GivenMapsAgent, Maps
from training.closed_loop import Agent, run_start
from training.common import write_json
from visarl.bundle import load_bundle
from visarl.data import recorder
from visarl.data.convert import convert
from visarl.sim.tabletop import Simulator
from visarl.training_options import Diagnose, Label, Probe, ScoreSaliency, TrainEncoder, TrainPolicy, TrainSaliency


def saliency(fresh: bool, options: TrainSaliency) -> dict[str, Any]:
    """Train a task's saliency model."""
    train_saliency.main(replace(options, restart=fresh))
    return {}


def labels(fresh: bool, options: Label) -> dict[str, Any]:
    """Write its maps into the episode file."""
    label.main(options)
    return {}


def encoder(fresh: bool, options: TrainEncoder, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Pretrain an encoder on all tasks' pictures.

    Args:
        config: instead of the options' preset.
    """
    if config is not None:
        path = options.out / "preset.json"
        write_json(path, config)
        options = replace(options, preset=str(path))
    train_encoder.main(replace(options, restart=fresh))
    return {}


def policy(fresh: bool, options: TrainPolicy) -> dict[str, Any]:
    """Clone; the losses, and how the rungs of the ladder did on validation scenes."""
    return train_policy.train(replace(options, restart=fresh)).metrics


def state_policy(fresh: bool, options: TrainPolicy) -> dict[str, Any]:
    """Clone on the true positions."""
    return train_policy.train_state(replace(options, restart=fresh))


def rollouts(
    fresh: bool,
    policy: Path,
    maps: Maps | None,
    episodes: Path,
    task: str,
    seeds: list[int],
    limit_s: float | None,
    stay_s: float,
) -> dict[str, Any]:
    """Closed-loop starts, one after the other in this process.

    Args:
        policy: a bundle, or the part of a policy on true positions.
        maps: whose; None for the policy on true positions.
        episodes: the task's labelled file.
        limit_s: None takes the task's.
        stay_s: for which a policy goes on after success [s].
    """
    agent: Agent
    if maps is None:
        agent = DiagnosticAgent(policy)
    else:
        agent = BundleAgent(policy) if maps == "predicted" else GivenMapsAgent(policy, maps, episodes)
    simulator = _simulator(task)
    starts = [run_start(simulator, agent, seed, limit_s=limit_s, stay_s=stay_s) for seed in seeds]
    return {"starts": [asdict(start) for start in starts]}


def saliency_scores(fresh: bool, options: ScoreSaliency) -> dict[str, Any]:
    """The predicted maps on demonstrations that nothing was trained on."""
    return score.score(options)


def held_out(fresh: bool, bundles: dict[str, Path], bags: Path, task: str) -> dict[str, Any]:
    """The policies' losses on demonstrations that nothing was trained on, with their own pictures and with another's.

    Args:
        bundles: by arm.
    """
    preprocess = load_bundle(next(iter(bundles.values()))).config.preprocess
    file = bags.with_name("test_episodes.hdf5")
    convert(recorder.episodes(bags, task), file, preprocess)
    losses = {}
    for arm, bundle in bundles.items():
        judged = diagnose.diagnose(Diagnose(episodes=file, bundle=bundle, device="cpu", threads=1)).judged
        assert judged is not None  # there is a bundle
        losses[arm] = {"own": judged.scored.own, "other": judged.scored.other}
    return losses


def probes(fresh: bool, kinds: list[str], several: list[Probe]) -> dict[str, Any]:
    """What encoders know of a task's scenes, all of them asked about the same frames; `error_mm` by kind."""
    return {kind: found["error_mm"] for kind, found in zip(kinds, probe.probe_all(several), strict=True)}


@lru_cache(maxsize=1)
def _simulator(task: str) -> Simulator:
    """A worker's simulator: building one takes as long as an episode."""
    return Simulator(task)
