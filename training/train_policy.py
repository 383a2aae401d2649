"""Clone the demonstrations with the LSTM policy on the frozen encoder, and write the bundle.

    visarl train policy --episodes runs/demo/episodes.hdf5 --saliency runs/demo/saliency/saliency.safetensors \\
        --encoder runs/demo/encoder/encoder.safetensors --out runs/demo/policy

Two diagnostics come with it: the same policy on the true positions of things, and on proprioception alone. If the first
fails, demonstrations or policy are the bottleneck; if the second succeeds, the pictures are not needed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.agents import BundleAgent, DiagnosticAgent, GivenMapsAgent, Sees
from training.cloning import Cloned, Demonstration, Meaning, Parts, clone
from training.closed_loop import AgentFactory, run_starts
from training.common import console, prepare, provenance, write_json
from training.dataset import ESTIMATOR, require_modality, taught
from training.maps import maps_for
from training.parts import encode, load_encoder, load_saliency
from visarl.bundle import Bundle, save_bundle, save_part
from visarl.config import (
    CHUNK,
    ESTIMATED,
    EncoderConfig,
    ModelConfig,
    PolicyConfig,
    ReadoutConfig,
    SaliencyConfig,
    to_dict,
)
from visarl.contract import ROLES, ArmContract
from visarl.data.align import active_range
from visarl.data.episodes import EpisodeFile, normalise
from visarl.errors import ConfigError, DataError
from visarl.models.readout import Readout, token_mean
from visarl.preprocess import unit_maps
from visarl.process import commit
from visarl.sim.seeds import VALIDATION_SEEDS
from visarl.sim.tasks import TASKS
from visarl.training_options import TrainPolicy

BUNDLE, STATE_PART = "bundle", "policy.safetensors"


@dataclass(frozen=True)
class Episode:
    """One demonstration of the file."""

    name: str
    proprioception: NDArray[np.float32]
    """(T, D)"""
    actions: NDArray[np.float32]
    """(T, A), physical"""
    positions: dict[str, NDArray[np.float32]]
    """By role but the effector's, (T, 3) [m], where the simulator told them"""
    pictures: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """(T, S, S, 3), where the encoder runs"""
    maps: NDArray[np.uint8] | None = None
    """(T, R, s, s)"""
    others: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Depth (T, S, S) and normals (T, S, S, 3), where the encoder sees them"""


def main(options: TrainPolicy) -> None:
    bundle = train(options)
    console().print(f"policy: {bundle.folder} ({bundle.id})")


def train(options: TrainPolicy) -> Bundle:
    """The recipe. Writes and returns the bundle, `out/bundle`; the diagnostics lie beside it.

    Raises:
        DataError: the episode file lacks maps or has too few demos; ConfigError: readout and encoder do not fit;
        TrainingError: the loss breaks.
    """
    began, made_by = time.monotonic(), commit()
    device = prepare(options)
    config, models = _models(options, device)
    with taught(options.episodes, config.preprocess) as file:
        contract, task = file.contract, task_of(file)
        _check_starts(options, config, task, file)
        config = dataclasses.replace(config, arm=contract.name)
        episodes = [read_episode(file, demo, config, options) for demo in file.demos]
    readout = Readout(config.readout, config.saliency.roles, config.encoder, config.saliency.sigma)
    demos = observe(models.get("encoder"), readout, episodes)
    meaning = Meaning(
        keypoints=config.saliency.roles if config.readout.kind == "keypoints" else (),
        readout=readout if config.readout.learned else None,
    )
    cloned = clone("policy", options, demos, contract, config.policy, meaning)
    metrics: dict[str, Any] = {
        "policy_losses": cloned.losses, "demos": len(demos), "steps": _steps(episodes), "maps": options.maps,
    }  # fmt: skip
    if options.diagnostics:
        metrics["diagnostics"] = diagnostics(options, episodes, contract, config.policy, task)
    parts = {name: model.state_dict() for name, model in (models | {"readout": readout}).items()}
    write = partial(_write, options, config, task, parts, cloned, began, made_by)

    def agent_of(rung: int, weights: Parts) -> AgentFactory:
        folder = write(options.out / "ladder" / str(rung), weights, {}).folder
        if options.maps == "predicted" or not config.needs_saliency:
            return partial(BundleAgent, folder)
        return partial(GivenMapsAgent, folder, options.maps, options.episodes)

    weights, ladder = choose(options, task, cloned, agent_of)
    bundle = write(options.out / BUNDLE, weights, metrics | ladder)
    write_json(options.out / "policy.json", metrics | ladder)
    return bundle


def _models(options: TrainPolicy, device: torch.device) -> tuple[ModelConfig, dict[str, torch.nn.Module]]:
    """The configuration, and the trained models that go into the bundle.

    Raises:
        ConfigError: a part is missing, or two do not fit.
    """
    readout = ReadoutConfig(options.readout, options.components)
    models: dict[str, torch.nn.Module] = {}
    encoder_config, saliency_config, prepared = EncoderConfig(), SaliencyConfig(), {}
    if readout.reads_tokens:
        if options.encoder is None:
            raise ConfigError(f"encoder: the readout {options.readout!r} reads its tokens; give the encoder part")
        encoder, prepared[options.encoder] = load_encoder(options.encoder, device)
        models["encoder"], encoder_config = encoder, encoder.config
    if "saliency" in encoder_config.inputs:
        if options.saliency is None:
            raise ConfigError("saliency: this policy sees saliency maps; give the saliency part that predicts them")
        saliency, prepared[options.saliency] = load_saliency(options.saliency, torch.device("cpu"))
        models["saliency"], saliency_config = saliency, saliency.config
    one, other = list(prepared)[0], list(prepared)[-1]
    if prepared[one] != prepared[other]:
        raise ConfigError(f"{other} and {one} were trained on differently prepared pictures")
    config = ModelConfig(
        preprocess=prepared[one],
        saliency=saliency_config,
        encoder=encoder_config,
        readout=readout,
        policy=_policy(options),
    )
    return config, models


def _policy(options: TrainPolicy) -> PolicyConfig:
    horizon = (CHUNK if options.head == "chunk" else 1) if options.horizon is None else options.horizon
    return PolicyConfig(horizon=horizon, head=options.head)


def train_state(options: TrainPolicy) -> dict[str, Any]:
    """The ceiling: the same policy told where things truly are. Writes `out/policy.safetensors`, see `DiagnosticAgent`.

    Returns:
        The losses, and how the rungs of the ladder did.

    Raises:
        DataError: the file knows no truth, or has too few demos.
    """
    prepare(options)
    with taught(options.episodes) as file:
        contract, task = file.contract, task_of(file)
        episodes = [read_episode(file, demo) for demo in file.demos]
    if not all(episode.positions for episode in episodes):
        raise DataError(f"{options.episodes}: does not tell where things are; only the simulator knows")
    cloned, write = _clone_state(options, "state", episodes, contract, _policy(options))

    def agent_of(rung: int, weights: Parts) -> AgentFactory:
        return partial(DiagnosticAgent, write(options.out / "ladder" / f"{rung}.safetensors", weights))

    weights, ladder = choose(options, task, cloned, agent_of)
    write(options.out / STATE_PART, weights)
    metrics = {"policy_losses": cloned.losses, "demos": len(episodes), "steps": _steps(episodes), **ladder}
    write_json(options.out / "policy.json", metrics)
    return metrics


def _check_starts(options: TrainPolicy, config: ModelConfig, task: str, file: EpisodeFile) -> None:
    """Before the work what would fail after it.

    Raises:
        ConfigError: closed-loop starts are asked for, and the simulator does not have the task or would show the
        encoder another depth than the estimated one that it learns from.
    """
    if options.select > 0 and config.needs_encoder:
        pictures = file.file["data"][file.demos[0]]["obs"]
        for name in config.encoder.inputs:
            if name in ESTIMATED and name in pictures and ESTIMATOR in pictures[name].attrs:
                raise ConfigError(
                    f"select: {options.episodes} has {name} by {pictures[name].attrs[ESTIMATOR]}, and closed-loop "
                    "starts would show what the simulator renders; leave --select at 0, which takes the last checkpoint"
                )
    if task not in TASKS and (options.select > 0 or (options.diagnostics and options.diagnostic_starts > 0)):
        raise ConfigError(
            f"{options.episodes}: the simulator has no task {task!r} to start in ({', '.join(TASKS)}); with "
            "--diagnostic-starts 0 and --select 0 nothing is started"
        )


def task_of(file: EpisodeFile) -> str:
    """The one task of the file's demos.

    Raises:
        DataError: there are several.
    """
    tasks = {str(file.attributes(demo)["task"]) for demo in file.demos}
    if len(tasks) != 1:
        raise DataError(f"{file.path}: expected demonstrations of one task, found {', '.join(sorted(tasks)) or 'none'}")
    return tasks.pop()


def read_episode(
    file: EpisodeFile, demo: str, config: ModelConfig | None = None, options: TrainPolicy | None = None
) -> Episode:
    """One demonstration; with what `config` looks at.

    Raises:
        DataError: it has no saliency maps, or no truth for those of an oracle; a modality is missing; the arm never
        moves, or a number is not finite.
    """
    has_truth = "truth" in file.file["data"][demo]
    loaded = file.load(demo, ["proprioception", "actions_physical", *(["truth"] if has_truth else [])])
    bag = file.attributes(demo).get("bag", "its bag")
    if not all(np.isfinite(loaded[name]).all() for name in ("proprioception", "actions_physical")):
        raise DataError(
            f"{file.path}: {demo} ({bag}): expected finite numbers, found NaN or Inf; convert without that bag"
        )
    if active_range(normalise(loaded["actions_physical"], file.contract)) == (0, 0):
        raise DataError(f"{file.path}: {demo} ({bag}): the arm never moves in it; convert without that bag")
    positions: dict[str, NDArray[np.float32]] = {}
    if has_truth:
        names = loaded["truth"]["names"]
        positions = {r: loaded["truth"]["positions"][:, names.index(r)] for r in ROLES[1:] if r in names}
    episode = Episode(demo, loaded["proprioception"], loaded["actions_physical"], positions)
    if config is None or options is None:
        return episode
    if config.needs_encoder:
        others = [name for name in config.encoder.inputs if name in ESTIMATED]
        for name in others:
            require_modality(file, demo, name)
        seen = file.load(demo, ["image", *others])
        episode = dataclasses.replace(episode, pictures=seen.pop("image"), others=seen)
    if config.needs_saliency:
        maps = maps_for(file, demo, options.maps, config.saliency, options.seed)
        episode = dataclasses.replace(episode, maps=maps)
    return episode


@torch.inference_mode()
def observe(encoder: Any, readout: Readout, episodes: Sequence[Episode]) -> list[Demonstration]:
    """Fit the readout on all frames, then read each. Of a learned one the tokens are kept instead, in 16 bits."""
    tokens = [
        None
        if encoder is None
        else torch.cat([t.half().cpu() for t in encode(encoder, episode.pictures, episode.maps, episode.others)])
        for episode in episodes
    ]
    seen = [t for t in tokens if t is not None]
    if seen:
        readout.fit(torch.cat([token_mean(t.float()) for t in seen]))
    found = []
    for episode, t in zip(episodes, tokens, strict=True):
        if readout.config.learned:
            embedding, kept = np.zeros((len(episode.actions), readout.dim), np.float32), t
        else:
            maps = None if episode.maps is None else torch.from_numpy(unit_maps(episode.maps))
            embedding, kept = readout(None if t is None else t.float(), maps).numpy(), None
        found.append(Demonstration(episode.name, embedding, episode.proprioception, episode.actions, kept))
    return found


def diagnostics(
    options: TrainPolicy, episodes: Sequence[Episode], contract: ArmContract, config: PolicyConfig, task: str
) -> dict[str, Any]:
    """The same policy on the true positions, where the file has them, and on proprioception alone."""
    found: dict[str, Any] = {}
    for sees in Sees.__args__:
        if sees == "state" and not all(episode.positions for episode in episodes):
            continue  # a real robot's demonstrations: nobody knows the truth
        own = dataclasses.replace(options, out=options.out / f"diagnostic_{sees}")
        cloned, write = _clone_state(own, sees, episodes, contract, config)
        part = write(own.out / STATE_PART, cloned.ladder[-1][1])
        found[sees] = {"losses": cloned.losses}
        if options.diagnostic_starts > 0:
            agent = partial(DiagnosticAgent, part)
            found[sees] |= _rollouts(agent, task, options.diagnostic_starts, options.workers)
    return found


def _clone_state(
    options: TrainPolicy, sees: Sees, episodes: Sequence[Episode], contract: ArmContract, config: PolicyConfig
) -> tuple[Cloned, Callable[[Path, Parts], Path]]:
    """A policy without pictures, and what writes its part."""
    roles = [] if sees == "nothing" else [role for role in ROLES if role in episodes[0].positions]
    demos = [Demonstration(e.name, _positions(e, roles), e.proprioception, e.actions) for e in episodes]
    cloned = clone(f"sees {sees}", options, demos, contract, config, Meaning(positions=tuple(roles)))
    normalisation = {k: v.tolist() for k, v in vars(cloned.normalisation).items()}

    def write(path: Path, weights: Parts) -> Path:
        described = {"arm": contract.name, "policy": to_dict(config), "roles": roles, "normalisation": normalisation}
        save_part(path, weights["policy"], described)
        return path

    return cloned, write


def _positions(episode: Episode, roles: Sequence[str]) -> NDArray[np.float32]:
    nothing = np.zeros((len(episode.actions), 0), np.float32)
    return np.concatenate([nothing, *(episode.positions[role] for role in roles)], axis=1)


def choose(
    options: TrainPolicy, task: str, cloned: Cloned, agent_of: Callable[[int, Parts], AgentFactory]
) -> tuple[Parts, dict[str, Any]]:
    """The weights of the rung with most closed-loop successes on validation seeds, the later of equals; and how all
    did, as `ladder`. Without `select` the last."""
    if options.select < 1 or len(cloned.ladder) < 2:
        return cloned.ladder[-1][1], {}
    found = []
    for iteration, weights in cloned.ladder:
        agent = agent_of(iteration, weights)
        found.append({"iteration": iteration, **_rollouts(agent, task, options.select, options.workers)})
    best = max(found, key=lambda rung: (rung["success"], rung["iteration"]))
    return dict(cloned.ladder)[best["iteration"]], {"ladder": found}


def _rollouts(make_agent: AgentFactory, task: str, count: int, workers: int) -> dict[str, int]:
    starts = run_starts(make_agent, task, VALIDATION_SEEDS[:count], workers=workers)
    return {"n": len(starts), "success": sum(start.success for start in starts)}


def _write(
    options: TrainPolicy,
    config: ModelConfig,
    task: str,
    parts: Parts,
    cloned: Cloned,
    began: float,
    made_by: str,
    folder: Path,
    weights: Parts,
    metrics: dict[str, Any],
) -> Bundle:
    return save_bundle(
        folder,
        config=config,
        task=task,
        parts={**parts, **weights},
        normalisation=cloned.normalisation,
        metrics=metrics,
        provenance={**provenance(options.seed, time.monotonic() - began, made_by), "maps": options.maps},
        half=options.half,
    )


def _steps(episodes: Sequence[Episode]) -> int:
    return sum(len(episode.actions) for episode in episodes)


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["train", "policy", *sys.argv[1:]]))
