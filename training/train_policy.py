"""Clone the demonstrations with the LSTM policy on the frozen encoder, and write the bundle.

    visarl train policy --episodes runs/demo/episodes.hdf5 --saliency runs/demo/saliency/saliency.safetensors \\
        --encoder runs/demo/encoder/encoder.safetensors --out runs/demo/policy

Two diagnostics come with it: the same policy on the true object position, and on proprioception alone. If the first
fails, demonstrations or policy are the bottleneck; if the second succeeds, the pictures are not needed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.agents import BundleAgent, DiagnosticAgent, Sees
from training.cloning import Cloned, Demonstration, clone
from training.closed_loop import run_starts
from training.common import console, prepare, provenance, write_json
from training.dataset import SALIENCY
from training.parts import encode, load_encoder, load_saliency
from visarl.bundle import Bundle, save_bundle, save_part
from visarl.config import ModelConfig, PolicyConfig, ReadoutConfig, SaliencyConfig, to_dict
from visarl.contract import ArmContract
from visarl.data.episodes import EpisodeFile
from visarl.errors import ConfigError, DataError
from visarl.models.readout import Readout, token_mean
from visarl.preprocess import unit_maps
from visarl.process import commit
from visarl.sim.seeds import VALIDATION_SEEDS
from visarl.training_options import TrainPolicy

BUNDLE = "bundle"


@dataclass(frozen=True)
class Episode:
    """One demonstration of the file."""

    name: str
    pictures: NDArray[np.uint8]
    """(T, S, S, 3)"""
    maps: NDArray[np.uint8] | None
    """(T, R, s, s)"""
    proprioception: NDArray[np.float32]
    """(T, D)"""
    actions: NDArray[np.float32]
    """(T, A), physical"""
    object_position: NDArray[np.float32] | None
    """(T, 3) [m], where the simulator told it"""


def main(options: TrainPolicy) -> None:
    bundle = train(options)
    console().print(f"policy: {bundle.folder} ({bundle.id})")


def train(options: TrainPolicy) -> Bundle:
    """The recipe. Writes and returns the bundle, `out/bundle`; the diagnostics lie beside it.

    Raises:
        DataError: the episode file lacks maps or has too few demos; ConfigError: readout and encoder do not fit.
    """
    began, made_by = time.monotonic(), commit()
    device = prepare(options)
    encoder, preprocess = load_encoder(options.encoder, device)
    needs_saliency = "saliency" in encoder.config.inputs
    saliency = None
    saliency_config = SaliencyConfig()
    if needs_saliency:
        if options.saliency is None:
            raise ConfigError("saliency: this encoder sees saliency maps; give the saliency part that predicts them")
        saliency, theirs = load_saliency(options.saliency, torch.device("cpu"))
        saliency_config = saliency.config
        if theirs != preprocess:
            raise ConfigError(f"{options.saliency} and {options.encoder} were trained on differently prepared pictures")
    with EpisodeFile(options.episodes, preprocess) as file:
        contract, task = file.contract, task_of(file)
        episodes = [read_episode(file, demo, needs_saliency) for demo in file.demos]
    config = ModelConfig(
        arm=contract.name,
        preprocess=preprocess,
        saliency=saliency_config,
        encoder=encoder.config,
        readout=ReadoutConfig(options.readout, options.components),
        policy=PolicyConfig(horizon=options.horizon),
    )
    readout = Readout(config.readout, config.saliency.roles, config.encoder, config.saliency.sigma)
    embeddings = embed(encoder, readout, episodes)
    demos = [
        Demonstration(episode.name, embedding, episode.proprioception, episode.actions)
        for episode, embedding in zip(episodes, embeddings, strict=True)
    ]
    keypoints = len(config.saliency.roles) if options.readout == "keypoints" else 0
    cloned = clone("policy", options, demos, contract, config.policy, keypoints)
    metrics: dict[str, Any] = {"policy_losses": cloned.losses, "demos": len(demos), "steps": _steps(episodes)}
    if options.diagnostics:
        metrics["diagnostics"] = diagnostics(options, episodes, contract, config.policy, task)
    parts = {"encoder": encoder.state_dict(), "readout": readout.state_dict()}
    if saliency is not None:
        parts["saliency"] = saliency.state_dict()
    write = partial(_write, options, config, task, parts, cloned, began, made_by)
    if options.select > 0 and len(cloned.ladder) > 1:
        ladder = climb(options, task, cloned, write)
        metrics["ladder"] = ladder
        best = max(ladder, key=lambda rung: (rung["success"], rung["iteration"]))
        weights = dict(cloned.ladder)[best["iteration"]]
    else:
        weights = cloned.ladder[-1][1]
    bundle = write(options.out / BUNDLE, weights, metrics)
    write_json(options.out / "policy.json", metrics)
    return bundle


def task_of(file: EpisodeFile) -> str:
    """The one task of the file's demos.

    Raises:
        DataError: there are several.
    """
    tasks = sorted({str(file.attributes(demo)["task"]) for demo in file.demos})
    if len(tasks) != 1:
        raise DataError(f"{file.path}: expected demonstrations of one task, found {', '.join(tasks) or 'none'}")
    return tasks[0]


def read_episode(file: EpisodeFile, demo: str, needs_saliency: bool) -> Episode:
    """Arrays of one demo.

    Raises:
        DataError: no saliency maps although they are needed.
    """
    keys = ["image", "proprioception", "actions_physical"]
    if needs_saliency:
        if SALIENCY not in file.observations(demo):
            raise DataError(f"{file.path}: {demo} has no saliency maps; run `visarl label` on the file first")
        keys.append(SALIENCY)
    has_truth = "truth" in file.file["data"][demo]
    loaded = file.load(demo, [*keys, *(["truth"] if has_truth else [])])
    position = None
    if has_truth and "object" in loaded["truth"]["names"]:
        position = loaded["truth"]["positions"][:, loaded["truth"]["names"].index("object")]
    return Episode(
        demo, loaded["image"], loaded.get(SALIENCY), loaded["proprioception"], loaded["actions_physical"], position
    )


@torch.inference_mode()
def embed(encoder: Any, readout: Readout, episodes: Sequence[Episode]) -> list[NDArray[np.float32]]:
    """Fit the readout on all frames, then read each: (T, dim) an episode."""
    tokens = [
        torch.cat([batch.float().cpu() for batch in encode(encoder, episode.pictures, episode.maps)])
        for episode in episodes
    ]
    readout.fit(torch.cat([token_mean(t) for t in tokens]))
    found = []
    for episode, t in zip(episodes, tokens, strict=True):
        maps = None if episode.maps is None else torch.from_numpy(unit_maps(episode.maps))
        found.append(readout(t, maps).numpy())
    return found


def diagnostics(
    options: TrainPolicy, episodes: Sequence[Episode], contract: ArmContract, config: PolicyConfig, task: str
) -> dict[str, Any]:
    """The same policy on the true object position, where the file has it, and on proprioception alone."""
    found: dict[str, Any] = {}
    for sees in Sees.__args__:
        if sees == "object" and any(episode.object_position is None for episode in episodes):
            continue  # a real robot's demonstrations: nobody knows the truth
        folder = options.out / f"diagnostic_{sees}"
        own = dataclasses.replace(options, out=folder)
        demos = [Demonstration(e.name, _seen(e, sees), e.proprioception, e.actions) for e in episodes]
        cloned = clone(f"diagnostic, sees {sees}", own, demos, contract, config)
        part = folder / "policy.safetensors"
        normalisation = {k: v.tolist() for k, v in vars(cloned.normalisation).items()}
        save_part(
            part,
            cloned.model.state_dict(),
            {"arm": contract.name, "policy": to_dict(config), "sees": sees, "normalisation": normalisation},
        )
        found[sees] = {"losses": cloned.losses}
        if options.diagnostic_starts > 0:
            found[sees] |= _rollouts(partial(DiagnosticAgent, part), task, options.diagnostic_starts)
    return found


def _seen(episode: Episode, sees: str) -> NDArray[np.float32]:
    if sees == "object":
        assert episode.object_position is not None
        return episode.object_position
    return np.zeros((len(episode.actions), 0), np.float32)


def climb(options: TrainPolicy, task: str, cloned: Cloned, write: Any) -> list[dict[str, Any]]:
    """Closed-loop success of each rung on validation seeds."""
    found = []
    for iteration, weights in cloned.ladder:
        bundle = write(options.out / "ladder" / str(iteration), weights, {})
        found.append({"iteration": iteration, **_rollouts(partial(BundleAgent, bundle.folder), task, options.select)})
    return found


def _rollouts(make_agent: Any, task: str, count: int) -> dict[str, int]:
    starts = run_starts(make_agent, task, VALIDATION_SEEDS[:count])
    return {"n": len(starts), "success": sum(start.success for start in starts)}


def _write(
    options: TrainPolicy,
    config: ModelConfig,
    task: str,
    parts: dict[str, Any],
    cloned: Cloned,
    began: float,
    made_by: str,
    folder: Path,
    weights: dict[str, torch.Tensor],
    metrics: dict[str, Any],
) -> Bundle:
    return save_bundle(
        folder,
        config=config,
        task=task,
        parts={**parts, "policy": weights},
        normalisation=cloned.normalisation,
        metrics=metrics,
        provenance=provenance(options.seed, time.monotonic() - began, made_by),
        half=options.half,
    )


def _steps(episodes: Sequence[Episode]) -> int:
    return sum(len(episode.actions) for episode in episodes)


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["train", "policy", *sys.argv[1:]]))
