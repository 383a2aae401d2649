"""Which saliency model, and how many clicked frames: curves, peaks, steadiness and times, on scenes nobody has seen.

    visarl study saliency --out runs/saliency

Frames and clicks come from the simulator in lockstep: training frames from ten demonstrations' scenes, chosen as the
annotation tool proposes them; scored frames from evaluation scenes, with things on the table that no demonstration
shows. Interrupted, the same command goes on. `results.json` gets everything, `results.md` is its page.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from training.common import console, pick_device, provenance
from training.parts import load_saliency
from training.saliency_report import pictures_of
from training.scene_frames import DISTURBANCE_M_S, TrueFrames, scene_frames
from training.score import Predictor, part_predictor, score_frames
from training.stages import Stages
from training.steadiness import steadiness
from training.study.results import publish
from training.train_saliency import PART, ClickedPicture, train
from visarl.config import ModelConfig, SaliencyConfig, get_preset, to_dict
from visarl.contract import CONTROL_RATE_HZ
from visarl.data.annotations import looks, render, spread
from visarl.engines import make_engine
from visarl.models.saliency import Predict, build_saliency, saliency_loss
from visarl.overlay import overlay
from visarl.process import commit
from visarl.sim.perturb import Perturbation
from visarl.sim.seeds import EVALUATION_SEEDS, TRAIN_SEEDS
from visarl.sim.tasks import get_task
from visarl.training_options import SaliencyStudy, TrainSaliency

UNSEEN: Perturbation = "distractors"
DEMOS, TRAIN_EVERY = 10, 5
"""Demonstrations that frames are chosen from, and control steps between two of them."""
SCENES, SCORED_A_SCENE = 20, 5
VIDEOS, VIDEO_S = 3, 6.0
KEPT = ("pictures", "positions", "uv", "visible", "scenes", "roles")
TILES = 4
"""Of the best and of the worst pictures that are shown."""
VARIANTS: dict[str, dict[str, Any]] = {
    "picanet": {"model": "picanet"},
    "unet": {"model": "unet"},
    "unet_painted": {"model": "unet", "pretraining": 600},
    "frozen": {"model": "frozen", "pretraining": 600},
}
"""By name, what differs in `TrainSaliency`; `frozen` reads the features that painting the demonstrations' frames gave
PiCANet's backbone, for a machine without a hub."""


@dataclass(frozen=True)
class Plan:
    """How much of it is done."""

    tasks: tuple[str, ...]
    counts: tuple[int, ...]
    seeds: int
    """Training seeds."""
    shown: int = 5
    """Number of clicked frames after which the best and the worst maps are shown."""
    iterations: int = TrainSaliency.iterations


PLANS = {
    "tiny": Plan(("pick_red_block", "apple_to_bowl"), (1, 2), 1, 2, 2),
    "small": Plan(("pick_red_block", "apple_to_bowl"), (1, 2, 5, 10, 20), 1),
    "full": Plan(("pick_apple", "pick_red_block", "bread_to_plate", "apple_to_bowl"), (1, 2, 5, 10, 20), 3),
}
"""By preset: tiny is for tests, small for two cores and two hours, full for a GPU."""


def main(options: SaliencyStudy) -> None:
    study(options)


def study(options: SaliencyStudy) -> dict[str, Any]:
    """All of it; what `out/results.json` holds.

    Raises:
        ConfigError: an option that is refused.
    """
    began, made_by = time.monotonic(), commit()
    cv2.setNumThreads(0)
    torch.set_num_threads(options.threads)
    plan, config = PLANS[options.preset], get_preset(options.models)
    cells = [
        (task, variant, count, seed)
        for task in plan.tasks for variant in options.variants for count in plan.counts for seed in range(plan.seeds)
    ]  # fmt: skip
    minutes = _minutes(options, plan, config, cells)
    console().print(f"saliency study: {len(cells)} trainings, about {minutes:.0f} minutes with what is done")
    names = [f"frames/{task}" for task in plan.tasks] + [_name(*cell) for cell in cells]
    names += [f"time/{variant}" for variant in options.variants]
    stages, out = Stages(options.out / "stages", names), options.out.absolute()
    found: dict[str, Any] = {"cells": [], "time": {}}
    for task in plan.tasks:
        stages.run(f"frames/{task}", _frames_settings(config), lambda _, t=task: _make_frames(out, t, config))
    for cell in cells:
        settings = _cell_settings(options, plan, config, cell)

        def work(fresh: bool, cell: tuple[str, str, int, int] = cell) -> dict[str, Any]:
            return _cell(out, options, plan, config, cell, fresh)

        figures = stages.run(_name(*cell), settings, work, [f"frames/{cell[0]}"])
        found["cells"].append(dict(zip(("task", "variant", "count", "seed"), cell, strict=True)) | figures)
    for variant in options.variants:
        model = _of(config, variant, config.saliency.roles).saliency
        found["time"][variant] = stages.run(
            f"time/{variant}", {"model": to_dict(model)}, lambda _, m=model: frame_times(m)
        )
    spent = sum(stages.seconds.values())
    results = {"saliency": found, "saliency_about": provenance(0, spent, made_by)}
    if options.docs is not None:
        for picture in (out / "pictures").iterdir():
            (options.docs / "pictures").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, options.docs / "pictures" / picture.name)
    page = publish(options.docs or out, results)
    console().print(f"saliency study: {page} after {(time.monotonic() - began) / 60:.0f} minutes")
    return results


def _name(task: str, variant: str, count: int, seed: int) -> str:
    return f"cell/{task}/{variant}-{count}-{seed}"


def _of(config: ModelConfig, variant: str, roles: tuple[str, ...]) -> ModelConfig:
    saliency = dataclasses.replace(config.saliency, model=VARIANTS[variant]["model"], roles=roles)
    return dataclasses.replace(config, saliency=saliency)


def _frames_settings(config: ModelConfig) -> dict[str, Any]:
    return {
        "preprocess": to_dict(config.preprocess), "unseen": UNSEEN, "demos": [DEMOS, TRAIN_EVERY],
        "scenes": [SCENES, SCORED_A_SCENE], "videos": [VIDEOS, VIDEO_S],
    }  # fmt: skip


def _cell_settings(
    options: SaliencyStudy, plan: Plan, config: ModelConfig, cell: tuple[str, str, int, int]
) -> dict[str, Any]:
    wanted = dataclasses.asdict(_training(Path(), options, plan, cell))
    ignored = ("out", "bags", "clicks", "threads", "device", "checkpoint_every", "restart", "weights")
    plain = {key: value for key, value in wanted.items() if key not in ignored}
    return plain | {"config": to_dict(_of(config, cell[1], get_task(cell[0]).roles)), "count": cell[2]}


def _make_frames(out: Path, task: str, config: ModelConfig) -> dict[str, Any]:
    """Training, scored and video frames of a task into files."""
    learnt = scene_frames(task, TRAIN_SEEDS[:DEMOS], TRAIN_EVERY, config.preprocess, disturbance=DISTURBANCE_M_S)
    every = round(CONTROL_RATE_HZ * get_task(task).limit_s / 2 / SCORED_A_SCENE)
    scored = scene_frames(task, EVALUATION_SEEDS[:SCENES], every, config.preprocess, UNSEEN)
    filmed = EVALUATION_SEEDS[SCENES : SCENES + VIDEOS]
    video = scene_frames(task, filmed, 1, config.preprocess, UNSEEN, limit_s=VIDEO_S)
    for name, frames in (("train", learnt), ("scored", scored), ("video", video)):
        path = out / "frames" / f"{task}-{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{key: getattr(frames, key) for key in KEPT})
    return {"train": len(learnt.pictures), "scored": len(scored.pictures), "video": len(video.pictures)}


def load_frames(out: Path, task: str, name: str) -> TrueFrames:
    """Those that a study's first stage left."""
    with np.load(out / "frames" / f"{task}-{name}.npz") as file:
        values = {key: file[key] for key in file.files}
    return TrueFrames(**{**values, "roles": tuple(values["roles"].tolist())})


def _training(folder: Path, options: SaliencyStudy, plan: Plan, cell: tuple[str, str, int, int]) -> TrainSaliency:
    task, variant, _, seed = cell
    return TrainSaliency(
        out=folder, bags=folder, clicks=folder, seed=seed, iterations=plan.iterations, device=options.device,
        threads=options.threads, roles=get_task(task).roles, **VARIANTS[variant] | _short(variant, plan),
    )  # fmt: skip


def _short(variant: str, plan: Plan) -> dict[str, int]:
    """No more iterations of pretraining than of training."""
    pretraining = VARIANTS[variant].get("pretraining", 0)
    return {"pretraining": min(pretraining, plan.iterations)} if pretraining else {}


def _cell(
    out: Path, options: SaliencyStudy, plan: Plan, config: ModelConfig, cell: tuple[str, str, int, int], fresh: bool
) -> dict[str, Any]:
    task, variant, count, seed = cell
    learnt = load_frames(out, task, "train")
    chosen = chosen_frames(learnt, max(plan.counts), seed)[:count]
    pictures = [ClickedPicture(learnt.pictures[i], learnt.clicks(i)) for i in chosen]
    folder = out / "models" / task / f"{variant}-{count}-{seed}"
    wanted = dataclasses.replace(_training(folder, options, plan, cell), restart=fresh)
    own = _of(config, variant, get_task(task).roles)
    began = time.monotonic()
    # Pretraining does not know the clicks: all counts of a task and a seed begin from one.
    train(wanted, own, pictures, learnt.pictures, folder.with_name(f"{variant}-{seed}-pretraining"))
    seconds = time.monotonic() - began
    model = part_predictor(*load_saliency(folder / PART, pick_device(options.device)))
    scored = load_frames(out, task, "scored")
    figures = score_frames(model, scored)
    if count == plan.shown and seed == 0:
        best_and_worst(model, scored, out / pictures_of(task, variant))
    return figures | {
        "train_s": round(seconds, 1),
        "clicks": sum(len(picture.clicks) for picture in pictures),
        "steady": steadiness(model, load_frames(out, task, "video")),
    }


def best_and_worst(model: Predictor, frames: TrueFrames, path: Path) -> None:
    """The frames whose maps are nearest to the truth above, those that are farthest off below; the truth circled."""
    config, shown = model.config, []
    for i, picture in enumerate(frames.pictures):
        maps = np.asarray(model.predict(picture[None])[0], np.float32)
        truth = render(frames.clicks(i), config.roles, config.image_size, config.sigma)
        tile = overlay(picture, maps).copy()
        for click in frames.clicks(i):
            place = round(click.u * len(tile)), round(click.v * len(tile))
            cv2.circle(tile, place, 7, (255, 255, 255), 1, cv2.LINE_AA)
        shown.append((float(np.abs(maps.max(axis=0) - truth.max(axis=0)).mean()), i, tile))
    shown.sort(key=lambda one: one[:2])
    rows = [np.hstack([tile for *_, tile in row]) for row in (shown[:TILES], shown[::-1][:TILES])]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def chosen_frames(frames: TrueFrames, count: int, seed: int) -> list[int]:
    """Indices of the frames that the annotation tool would propose, the first ones first."""
    features = np.stack([looks(picture) for picture in frames.pictures])
    return spread(features, frames.scenes, min(count, len(features)), seed)


def frame_times(config: SaliencyConfig, repeats: int = 30) -> dict[str, Any]:
    """Milliseconds a picture with one thread, medians, by engine; parameters in millions."""
    torch.manual_seed(0)
    net = build_saliency(config).eval()
    size, found = config.image_size, {"parameters_m": round(sum(p.numel() for p in net.parameters()) / 1e6, 2)}
    picture = torch.randn(1, 3, size, size)
    # What an engine converts is kept by its name, which stands for these weights and no others.
    name = "study-" + hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:12]
    threads = torch.get_num_threads()
    for engine in ("openvino", "torch"):
        try:
            run = make_engine(Predict(net), [(3, size, size)], engine, 1, name)
        except Exception as error:  # an engine that is not installed leaves a gap
            console().print(f"time: {engine} left out ({error})")
            continue
        taken = []
        for _ in range(repeats + 5):
            began = time.perf_counter()
            run(picture)
            taken.append(time.perf_counter() - began)
        found[engine] = round(1000 * float(np.median(taken[5:])), 2)
    torch.set_num_threads(threads)
    return found


def _minutes(
    options: SaliencyStudy, plan: Plan, config: ModelConfig, cells: Sequence[tuple[str, str, int, int]]
) -> float:
    """What the trainings will take on this machine, from a few steps of each model now; frames and scores beside."""
    device, total = pick_device(options.device), 0.0
    batch = TrainSaliency.batch
    for variant in options.variants:
        net = build_saliency(_of(config, variant, config.saliency.roles).saliency).to(device).train()
        size = config.saliency.image_size
        pictures, target = torch.randn(batch, 3, size, size), torch.rand(batch, len(config.saliency.roles), size, size)
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            saliency_loss(net(pictures.to(device)), target.to(device)).backward()
            taken.append(time.perf_counter() - began)
        step = min(taken) + _AUGMENT_S * batch
        mine = [cell for cell in cells if cell[1] == variant]
        total += len(mine) * (plan.iterations * step + _SCORE_S)
        pretrainings = len({(task, seed) for task, _, _, seed in mine})
        total += pretrainings * VARIANTS[variant].get("pretraining", 0) * 3 * step
    return (total + _FRAMES_S * len(plan.tasks)) / 60


_AUGMENT_S, _SCORE_S, _FRAMES_S = 0.005, 15.0, 60.0
"""Of a picture, a trained model, a task: rough, beside the steps that are timed."""
