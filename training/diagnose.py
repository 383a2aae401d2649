"""Why a policy is bad: what stands out in demonstrations, in their timing, and in what a bundle makes of them.

    visarl diagnose --bundle runs/bread/policy/bundle --episodes runs/bread/test.h5 --bags runs/bread/test_bags

The bundle's own models look at the file's pictures, as on the robot: whatever maps the file holds are not read. Without
`--bundle` the demonstrations alone are judged. The page goes to stderr; the last line on stdout is one line of JSON,
and `--out` gets all figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.cloning import Demonstration, loss_of, shuffled, without_failed_tries
from training.common import console, pick_device, track, write_json
from training.diagnosis import Diagnosis, Judged, as_json, page
from training.findings import Finding, Recorded, lost, of_demonstrations
from training.parts import encode, predict_maps
from training.policy_findings import (
    Scored,
    beyond,
    camera,
    knows,
    looks,
    moves,
    seen_in_training,
    trusted,
)
from training.train_policy import read_episode, task_of
from visarl.bundle import Bundle, load_bundle
from visarl.config import ESTIMATED
from visarl.data.bags import ARM_STATE, IMAGE, TELEOP_ACTION, bag_report, find_bags
from visarl.data.episodes import EpisodeFile
from visarl.errors import ConfigError, DataError
from visarl.inference import Policy, load_module
from visarl.models.lstm_policy import LSTMPolicy
from visarl.models.multimae import Encoder
from visarl.models.readout import Readout
from visarl.models.saliency import build_saliency
from visarl.preprocess import unit_maps
from visarl.training_options import Diagnose


def main(options: Diagnose) -> None:
    found = diagnose(options)
    console().print(page(found))
    if options.out is not None:
        write_json(options.out, as_json(found))
    off = [finding.name for finding in found.off]
    print(json.dumps({"task": found.task, "demos": len(found.episodes), "findings": len(found.findings), "off": off}))


def diagnose(options: Diagnose) -> Diagnosis:
    """
    Raises:
        DataError: the file or the bags cannot be used, or show another task than the bundle's.
        BundleError: the bundle cannot be used; ConfigError: it drives another arm.
    """
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    bundle = None if options.bundle is None else load_bundle(options.bundle)
    with EpisodeFile(options.episodes, None if bundle is None else bundle.config.preprocess) as file:
        contract, task = file.contract, task_of(file)
        if bundle is not None:
            _fits(bundle, file, task)
        reports = None if options.bags is None else _bags(file, options.bags)
        episodes = _read(file, bundle, device)
        findings = of_demonstrations(episodes, contract)
        if reports is not None:
            findings.append(lost(reports, [name for name in file.demos if name not in reports]))
    judged = None
    if bundle is not None:
        judged = judge(bundle, [episode.demo for episode in episodes], options.threads)
        findings += of_policy(judged, episodes)
    return Diagnosis(contract, task, options.episodes, episodes, findings, judged)


def _fits(bundle: Bundle, file: EpisodeFile, task: str) -> None:
    if file.contract.name != bundle.config.arm:
        raise ConfigError(
            f"{file.path}: demonstrations of the arm {file.contract.name!r}, the bundle drives {bundle.config.arm!r}; "
            "give demonstrations of the bundle's arm"
        )
    if task != bundle.task:
        raise DataError(
            f"{file.path}: demonstrations of {task!r}, the bundle was trained for {bundle.task!r}; give demonstrations "
            "of the bundle's task, or look at these alone, without --bundle"
        )


def _bags(file: EpisodeFile, root: Path) -> dict[str, Any]:
    """What the demos' recordings below `root` hold of the topics that training reads, by demo.

    Raises:
        DataError: it holds none of them, or one cannot be read.
    """
    bags = {path.name: path for path in find_bags(root)}
    names = {demo: str(file.attributes(demo)["bag"]) for demo in file.demos}
    found = {demo: bags[name] for demo, name in names.items() if name in bags}
    if not found:
        raise DataError(
            f"{root}: expected the recordings of {file.path}, such as {next(iter(names.values()))}, found "
            f"{', '.join(sorted(bags)[:3])}; give the folder from which it was converted"
        )
    read = (IMAGE, ARM_STATE, TELEOP_ACTION)
    return {demo: [report for report in bag_report(path) if report.topic in read] for demo, path in found.items()}


def _read(file: EpisodeFile, bundle: Bundle | None, device: torch.device) -> list[Recorded]:
    """The file's episodes; with a bundle also what it makes of their pictures."""
    look = None if bundle is None else _Eyes(bundle, device)
    episodes = []
    with track(len(file.demos), "looking at the demos") as progress:
        for name in file.demos:
            loaded, facts = read_episode(file, name), file.attributes(name)
            if len(loaded.actions) < 2:
                raise DataError(f"{file.path}: {name} has one step only; delete its recording and convert again")
            stamps = file.load(name, ["stamp", "image_stamp"])
            embedding = np.zeros((len(loaded.actions), 0), np.float32) if look is None else look(file, name)
            demo = Demonstration(name, embedding, loaded.proprioception, loaded.actions)
            episodes.append(
                Recorded(demo, str(facts["bag"]), stamps["stamp"], stamps["image_stamp"], int(facts.get("stale", 0)))
            )
            progress.advance(progress.task_ids[0])
    return episodes


class _Eyes:
    """A bundle's perception on a file's pictures, many at once."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        config = bundle.config
        readout = Readout(config.readout, config.saliency.roles, config.encoder, config.saliency.sigma)
        self._readout = load_module(readout, bundle, "readout")
        self._saliency = self._encoder = None
        if config.needs_saliency:
            self._saliency = load_module(build_saliency(config.saliency), bundle, "saliency").to(device)
        if config.needs_encoder:
            self._encoder = load_module(Encoder(config.encoder), bundle, "encoder").to(device)
        self._others = [name for name in config.encoder.inputs if name in ESTIMATED and config.needs_encoder]

    @torch.inference_mode()
    def __call__(self, file: EpisodeFile, demo: str) -> NDArray[np.float32]:
        """(T, E), see `Demonstration`."""
        others = file.load(demo, ["image", *self._others])
        pictures = others.pop("image")
        maps = None if self._saliency is None else predict_maps(self._saliency, pictures)
        tokens = None
        if self._encoder is not None:
            tokens = torch.cat([some.float().cpu() for some in encode(self._encoder, pictures, maps, others)])
        found: NDArray[np.float32] = self._readout(
            tokens, None if maps is None else torch.from_numpy(unit_maps(maps))
        ).numpy()
        return found


def judge(bundle: Bundle, demos: Sequence[Demonstration], threads: int = 1) -> Judged:
    """The policy's losses, and its actions, driven along the demonstrations as on the robot."""
    n, contract, config = bundle.normalisation, bundle.contract, bundle.config
    taken = without_failed_tries(demos)
    seen = seen_in_training(n, (taken, demos))
    model = load_module(LSTMPolicy(config.policy, n.state_dim, len(contract.action)), bundle, "policy")

    each, each_other = (
        {demo.name: loss_of(model, [demo], n, contract, torch.device("cpu")) for demo in those}
        for those in (taken, shuffled(taken))
    )
    # As in a batch of all: every action that is predicted counts once.
    counts = {d.name: sum(max(0, len(d.actions) - ahead) for ahead in range(config.policy.horizon)) for d in taken}
    told = [demo.name for demo in taken[seen:] or taken]
    weights = [counts[name] for name in told]
    actions = np.concatenate([demo.actions for demo in taken]) / n.action_scale
    error = actions - actions.mean(axis=0)
    scored = Scored(
        own=float(np.average([each[name] for name in told], weights=weights)),
        other=float(np.average([each_other[name] for name in told], weights=weights)),
        mean_action=float((np.square(error) if config.policy.head == "step" else np.abs(error)).mean()),
        each=each,
        each_other=each_other,
        seen=seen,
    )
    policy = Policy(bundle, threads)
    done = []
    for demo in taken:
        policy.reset()
        pairs = zip(demo.embedding, demo.proprioception, strict=True)
        done.append(np.stack([policy.act(embedding, joints) for embedding, joints in pairs]))
    roles = config.saliency.roles if config.readout.kind == "keypoints" else ()
    return Judged(bundle, scored, taken, done, roles)


def of_policy(judged: Judged, episodes: Sequence[Recorded]) -> list[Finding]:
    """What the policy makes of the demonstrations."""
    n, contract = judged.bundle.normalisation, judged.bundle.contract
    demos, policy = np.concatenate([demo.actions for demo in judged.demos]), np.concatenate(judged.actions)
    findings = [
        looks(judged.scored),
        knows(judged.scored),
        moves(demos, policy, contract),
        beyond(demos, n, contract),
        *trusted(episodes, judged.roles),
    ]
    placed = camera(episodes, n, contract) if len(n.camera) else None
    return [*findings, *([] if placed is None else [placed])]


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["diagnose", *sys.argv[1:]]))
