"""Frames with everything that the simulator knew of them, recorded or not: what maps and peaks are scored on."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # noqa: F401 - before the simulator: loaded lazily, after MuJoCo's EGL, it crashes the process
from numpy.typing import NDArray

from training.common import track
from visarl.config import PreprocessConfig
from visarl.contract import ROLES
from visarl.data.annotations import Click, FrameKey
from visarl.data.bags import IMAGE, TRUTH, Bag, decode_image
from visarl.errors import DataError
from visarl.preprocess import crop
from visarl.robot.interfaces import ArmState
from visarl.sim.expert import Expert
from visarl.sim.modalities import modality_pictures
from visarl.sim.perturb import Perturbation
from visarl.sim.rollout import lockstep
from visarl.sim.tabletop import SceneTruth, Simulator

DISTURBANCE_M_S = 0.015
"""On the frames that something learns from, as demonstrations have it."""
_SEEN_AT = (320, 240)  # a share of some hundred pixels is precise enough


@dataclass(frozen=True)
class TrueFrames:
    """Frames of several scenes, one scene after the other, each in the order of time."""

    pictures: NDArray[np.uint8]
    """(N, s, s, 3) cropped"""
    positions: NDArray[np.float64]
    """(N, R, 3) in the base frame [m]"""
    uv: NDArray[np.float64]
    """(N, R, 2) shares of the cropped picture; NaN where it does not show the role"""
    visible: NDArray[np.float64]
    """(N, R) which share of the role's pixels nothing hides; NaN where nobody knows"""
    scenes: NDArray[np.int64]
    """(N,) seed of each frame's scene"""
    roles: tuple[str, ...]
    others: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Depth (N, s, s) and normals (N, s, s, 3), where asked for, as episode files keep them"""

    def clicks(self, frame: int) -> tuple[Click, ...]:
        """What a careful person would click on it."""
        return tuple(
            Click(float(u), float(v), role)
            for role, (u, v) in zip(self.roles, self.uv[frame], strict=True)
            if np.isfinite((u, v)).all()
        )


def scene_frames(
    task: str,
    seeds: Sequence[int],
    every: int,
    preprocess: PreprocessConfig,
    perturbation: Perturbation = "none",
    disturbance: float = 0.0,
    limit_s: float | None = None,
    modalities: Sequence[str] = (),
) -> TrueFrames:
    """One in `every` control steps of the scripted expert at work, in a scene a seed.

    Args:
        perturbation: `distractors` puts things on the table that no demonstration shows. Tasks with distractors of
            their own show such on evaluation seeds anyway.
        disturbance: on the motion [m/s rms]; demonstrations have some.
        limit_s: stop after so much of each scene; None lets it end.
        modalities: of `sim.modalities.MODALITIES`, beside the pictures.
    """
    pictures, positions, uv, visible, scenes = [], [], [], [], []
    others: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in modalities}
    left, top, width, height = preprocess.crop
    simulator = Simulator(task, seeds[0], disturbance, perturbation)
    try:
        roles = tuple(role for role in ROLES if role in simulator.truth().positions)
        with track(len(seeds), f"scenes of {task}") as progress:
            for seed in seeds:
                simulator.reset(seed=seed)
                expert, steps = Expert(seed, task), 0

                def note(*_: Any) -> None:
                    nonlocal steps  # noqa: B023 - called within the loop's body
                    steps += 1
                    if (steps - 1) % every:
                        return
                    image, truth, _ = simulator.render_with_truth()
                    seen = simulator.visibility(*_SEEN_AT)
                    pictures.append(crop(image, preprocess))
                    positions.append([truth.positions[role] for role in roles])
                    uv.append([truth.uv[role] if truth.visible[role] else (np.nan, np.nan) for role in roles])
                    visible.append([seen[role] for role in roles])
                    scenes.append(truth.seed)
                    for name, shown in modality_pictures(simulator, modalities, preprocess).items():
                        others[name].append(shown)

                def act(_: Any, state: ArmState, truth: SceneTruth) -> NDArray[np.float64]:
                    return expert.act(truth, state)  # noqa: B023

                lockstep(simulator, act, limit_s or simulator.task.limit_s, note, pictures=False)
                progress.advance(progress.task_ids[0])
    finally:
        simulator.close()
    shares = (np.array(uv).reshape(-1, len(roles), 2) - [left, top]) / [width, height]
    shares[((shares < 0) | (shares > 1)).any(axis=-1)] = np.nan
    return TrueFrames(
        np.stack(pictures),
        np.array(positions),
        shares,
        np.array(visible),
        np.array(scenes),
        roles,
        {name: np.stack(shown) for name, shown in others.items()},
    )


def bag_frames(
    bags: Iterable[Path], preprocess: PreprocessConfig, every_s: float, without: Container[FrameKey] = ()
) -> TrueFrames:
    """Frames of bags with `sim/truth`, `every_s` apart, but for those in `without`.

    Raises:
        DataError: a bag has no pictures or no truth, they are of different roles, or no frame is left.
    """
    pictures, places, scenes, roles = [], [], [], ()
    left, top, width, height = preprocess.crop
    for number, path in enumerate(bags):
        last = -np.inf
        with Bag(path) as bag:
            bag.require(IMAGE, TRUTH)
            known: dict[int, Any] = {stamp: message for _, stamp, message in bag.messages([TRUTH])}
            for _, stamp, _, data in bag.raw([IMAGE]):
                if stamp not in known or stamp - last < every_s * 1e9:
                    continue
                last = stamp
                if FrameKey(path.name, stamp) in without:
                    continue
                truth = known[stamp]
                if roles and tuple(truth.names) != roles:
                    raise DataError(f"{path}: its truth is of {', '.join(truth.names)}, others' of {', '.join(roles)}")
                roles = tuple(truth.names)
                pictures.append(crop(decode_image(bag.decode(IMAGE, data), f"{path}: {IMAGE} at {stamp}"), preprocess))
                shares = (np.column_stack([truth.u, truth.v]) - [left, top]) / [width, height]
                hidden = ~np.asarray(truth.visible, bool) | ((shares < 0) | (shares > 1)).any(axis=1)
                shares[hidden] = np.nan
                places.append((shares, [[p.x, p.y, p.z] for p in truth.positions]))
                scenes.append(number)
    if not pictures:
        raise DataError("no frames to score beside those that were trained on; give bags with others")
    uv = np.array([shares for shares, _ in places])
    return TrueFrames(
        np.stack(pictures),
        np.array([positions for _, positions in places], dtype=np.float64),
        uv,
        np.full(uv.shape[:2], np.nan),
        np.array(scenes),
        roles,
    )
