"""What a study leaves to look at and to use: videos of our arm, the encoders' reconstructions, and a bundle a task."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.agents import BundleAgent
from training.card import write_card
from training.closed_loop import run_start
from training.common import console, track
from training.stages import Stages
from training.study.arms import ARMS, ENCODERS, OURS
from training.study.jobs import Figures, Plan
from training.study.verdict import Rate
from visarl import video
from visarl.bundle import load_bundle, save_bundle
from visarl.config import ModelConfig
from visarl.contract import CONTROL_RATE_HZ
from visarl.data.files import read_json
from visarl.inference import Perception
from visarl.overlay import overlay
from visarl.preprocess import crop
from visarl.sim.tabletop import Simulator
from visarl.training_options import Table5

STAGE = "videos"
SIDE = 320
"""Of each of a video's two pictures [pixels]."""
VIDEO_BYTES = 300_000
QUALITIES = (27, 31, 35, 39, 43)
"""x264's crf; the first that keeps a video below `VIDEO_BYTES`, else the last."""
TRIES = 3
"""Starts that are played again until one ends as it did before: on another machine rounding may decide otherwise."""
BUNDLE_MB = 30.0
"""More than that is too much for a repository."""


def make(
    options: Table5, config: ModelConfig, stages: Stages, plan: Plan, figures: Figures, found: dict[str, Any]
) -> None:
    """Put `table5_showcase` into `found`: files below the study's folder, copied into that of the documents.

    Keys: `videos` {task: {success, failure: {seed, file}}}, `bundles` {task: {id, training_seed, n, success, megabytes,
    file}}, `pictures` {encoder: file}.
    """
    if OURS not in options.arms:
        return
    out = options.out.absolute()
    after = [name for name in plan.stages if name.split("/")[0] in ("starts", "score")]
    stages.stages.update({name: plan.stages[name] for name in after})
    after += [name for task in options.tasks if (name := f"graph/{task}") in stages.stages]
    if not all((out / file).exists() for file in _files(_marked(stages))):
        (stages.folder / f"{STAGE}.json").unlink()  # done, and lost since

    def work(fresh: bool) -> dict[str, Any]:
        return {
            "videos": _videos(options, plan, figures, out),
            "bundles": {task: _bundle(options, plan, figures, found, task) for task in options.tasks},
            "pictures": _pictures(out),
        }

    made = found["table5_showcase"] = stages.run(STAGE, {"arms": options.arms, "tasks": options.tasks}, work, after)
    if options.docs is not None:
        for file in _files(made):
            if not (out / file).is_dir():
                (options.docs / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(out / file, options.docs / file)


def _marked(stages: Stages) -> dict[str, Any]:
    """What an earlier call says to have made."""
    marker = stages.folder / f"{STAGE}.json"
    return dict(read_json(marker)["figures"]) if marker.exists() else {}


def _files(made: dict[str, Any]) -> Iterator[str]:
    for ends in made.get("videos", {}).values():
        yield from (end["file"] for end in ends.values())
    yield from (bundle["file"] for bundle in made.get("bundles", {}).values())
    yield from made.get("pictures", {}).values()


# ---- videos ----------------------------------------------------------------------------------------------------------


class Film(Perception):
    """What a bundle that drives sees."""

    def __init__(self, bundle: Path) -> None:
        loaded = load_bundle(bundle)
        super().__init__(loaded)
        self._cut = loaded.config.preprocess
        self.pictures: list[NDArray[np.uint8]] = []
        """(SIDE, SIDE, 3) each"""
        self.maps: list[NDArray[np.float32]] = []
        """(roles, s, s) each"""
        self.agent = BundleAgent(bundle)
        self.agent._perception = self  # all else of the agent is as it always drives

    def perceive(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        embedding, maps = super().perceive(image)
        cut = crop(image, self._cut)
        self.pictures.append(np.asarray(cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8))
        self.maps.append(np.zeros((0, 1, 1), np.float32) if maps is None else maps)
        return embedding, maps

    def encode(self) -> bytes:
        """An MP4 of one start in real time, the camera's picture beside the saliency, as large as it may be."""
        data = b""
        for quality in QUALITIES:
            pairs = zip(self.pictures, self.maps, strict=True)
            both = (np.hstack([picture, overlay(picture, maps)]) for picture, maps in pairs)
            data = video.encode(both, CONTROL_RATE_HZ, quality)
            if len(data) <= VIDEO_BYTES:
                break
        return data


def _videos(options: Table5, plan: Plan, figures: Figures, out: Path) -> dict[str, Any]:
    """Of each task the first start that succeeded and the first that failed, played again."""
    made: dict[str, Any] = {}
    with track(2 * len(options.tasks), "videos") as progress:
        for task in options.tasks:
            simulator, made[task] = Simulator(task), {}
            try:
                for end, success in (("success", True), ("failure", False)):
                    scene = _film(options, plan, figures, simulator, success, out / "videos" / f"{task}-{end}.mp4")
                    if scene is not None:
                        made[task][end] = {"seed": scene, "file": f"videos/{task}-{end}.mp4"}
                    progress.advance(progress.task_ids[0])
            finally:
                simulator.close()
    return made


def _film(options: Table5, plan: Plan, figures: Figures, simulator: Simulator, success: bool, path: Path) -> int | None:
    """Write the video; its scene, or None if there is none."""
    jobs = {job.name: job for job in plan.jobs}
    names = [f"starts/{OURS}/{simulator.task.name}-{seed}" for seed in range(options.seeds)]
    ended = [(one["seed"], name) for name in names for one in figures[name]["starts"] if one["success"] == success]
    for scene, name in sorted(ended)[:TRIES]:
        film = Film(jobs[name].arguments["policy"])
        if run_start(simulator, film.agent, scene, limit_s=options.limit_s).success == success:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(film.encode())
            return int(scene)
        console().print(f"{simulator.task.name}: scene {scene} ended otherwise when it was played again")
    return None


# ---- pictures and bundles --------------------------------------------------------------------------------------------


def _pictures(out: Path) -> dict[str, str]:
    """The reconstructions of the first training seed's encoders."""
    made = {}
    for kind in ENCODERS:
        source = out / "encoder" / f"{kind}-0" / "reconstruction.png"
        if source.exists():
            made[kind] = f"pictures/reconstruction-{kind}.png"
            (out / made[kind]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, out / made[kind])
    return made


def validated(policy: dict[str, Any]) -> int:
    """Successes on validation scenes of the checkpoint that a policy's ladder gave."""
    return max((int(rung["success"]) for rung in policy.get("ladder", [])), default=0)


def _bundle(options: Table5, plan: Plan, figures: Figures, found: dict[str, Any], task: str) -> dict[str, Any]:
    """Save the task's best policy on validation scenes, with everything that was measured and its card."""
    seed = max(range(options.seeds), key=lambda s: (validated(figures[f"policy/{OURS}/{task}-{s}"]), -s))
    jobs = {job.name: job for job in plan.jobs}
    starts = jobs[f"starts/{OURS}/{task}-{seed}"]
    trained = load_bundle(starts.arguments["policy"])
    table, about = found["table5"], found["table5_about"]
    own = [start["success"] for start in figures[starts.name]["starts"]]
    mine = Rate(sum(own), len(own))
    first, end = about["seeds"]["evaluation"]
    evaluation = {arm: dict(of[task]) | {"seeds": f"{first}:{end}"} for arm, of in table.items()}
    evaluation[THIS] = _rated(mine, starts.arguments["seeds"])
    graph = about["graph"].get(task)
    if graph and seed == 0:
        evaluation[GRAPH] = _rated(Rate(graph["graph"], graph["n"]), starts.arguments["seeds"][: graph["n"]])
    metrics = dict(trained.metrics) | {
        "recording": dict(_figures(plan, f"demos/{task}/record")),
        "annotation": dict(_figures(plan, f"demos/{task}/click")),
        "evaluation": evaluation,
    }
    if f"score/{task}" in figures:
        metrics["saliency"] = figures[f"score/{task}"] | {"test_demos": options.test_demos}
    needed = [name for name in plan.stages if name.startswith(f"demos/{task}/")]
    needed += [f"saliency/{task}", f"label/{task}"]
    needed += [f"encoder/{ARMS[OURS].encoder}-{seed}", f"policy/{OURS}/{task}-{seed}"]
    seconds = {name: marker["seconds"] for name in needed if (marker := plan.stages[name].done()) is not None}
    origin = {key: about[key] for key in ("command", "commit", "made", "torch", "machine")}
    origin |= {"seed": seed, "seconds": round(sum(seconds.values()), 1), "stages": seconds}
    titles = {GRAPH: "this bundle, over the graph", THIS: "this bundle, in one process, the graph's latency modelled"}
    titles |= {arm: f"{ARMS[arm].title}; training seeds: {options.seeds}" for arm in table}
    bundle = save_bundle(
        options.out.absolute() / "bundles" / task,
        config=trained.config,
        task=task,
        parts={path.stem: trained.weights(path.stem) for path in sorted(trained.folder.glob("*.safetensors"))},
        normalisation=trained.normalisation,
        metrics=metrics,
        provenance=origin,
        card=write_card(task, trained.config, metrics, origin, titles, _note(options, figures, task, seed)),
        half=True,
    )
    size = sum(path.stat().st_size for path in bundle.folder.iterdir()) / 1e6
    if size > BUNDLE_MB:
        console().print(f"{bundle.folder}: {size:.0f} MB, more than the {BUNDLE_MB:.0f} MB that are good to ship")
    return {
        "id": bundle.id,
        "training_seed": seed,
        "n": mine.n,
        "success": mine.success,
        "megabytes": round(size, 1),
        "file": f"bundles/{task}",
    }


THIS, GRAPH = "this", "graph"


def _rated(rate: Rate, scenes: list[int]) -> dict[str, Any]:
    low, high = rate.interval
    return {
        "n": rate.n,
        "success": rate.success,
        "interval": [round(low, 3), round(high, 3)],
        "seeds": f"{scenes[0]}:{scenes[-1] + 1}",
    }


def _figures(plan: Plan, name: str) -> dict[str, Any]:
    marker = plan.stages[name].done()
    assert marker is not None  # the jobs that build on it are done
    return dict(marker["figures"])


def _note(options: Table5, figures: Figures, task: str, seed: int) -> str:
    trained = f"Training seed {seed} of {options.seeds} of the study of Table V"
    if options.select:
        done = validated(figures[f"policy/{OURS}/{task}-{seed}"])
        trained += f", chosen by {done} successes on {options.select} validation scenes"
    if len(options.tasks) > 1:
        trained += f"; its encoder saw the demonstrations of all {len(options.tasks)} tasks"
    return f"{trained}."
