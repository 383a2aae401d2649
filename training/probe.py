"""What a frozen encoder knows: linear regression from its embedding to where things are.

    visarl probe --encoder runs/demo/encoder/encoder.safetensors --saliency runs/demo/saliency/saliency.safetensors \\
        --task pick_red_block

The regression learns on frames of training scenes and is asked about scenes that nobody has seen, as they are and with
other looks. The last line on stdout is one line of JSON. Errors are distances; the interval holds 95 % of what drawing
the scenes again (bootstrap) gives. Beside them stands who always answers with the mean position.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # before the simulator: loaded lazily, after MuJoCo's EGL, it crashes the process
from numpy.typing import NDArray
from torch import Tensor

from training.common import console, pick_device, track, write_json
from training.maps import draw
from training.parts import encode, load_encoder, load_saliency, predict_maps
from visarl.config import PreprocessConfig, SaliencyConfig
from visarl.contract import ROLES
from visarl.errors import ConfigError
from visarl.models.multimae import Encoder
from visarl.models.readout import token_mean
from visarl.preprocess import crop
from visarl.sim.expert import Expert
from visarl.sim.rollout import lockstep
from visarl.sim.seeds import TRAIN_SEEDS
from visarl.sim.tabletop import Simulator
from visarl.training_options import Probe, parse_seeds

READOUTS = ("mean", "global", "modality_mean")
DISTURBANCE_M_S = 0.015
"""On the training frames, as demonstrations have it."""
STRENGTHS = np.logspace(-1, 5, 13)
"""Of the ridge regression, to choose from by leaving scenes out."""
FOLDS = 5
RESAMPLES = 1000


@dataclass(frozen=True)
class Views:
    """Frames of several scenes and what is true of them."""

    pictures: NDArray[np.uint8]
    """(N, s, s, 3) cropped"""
    positions: NDArray[np.float64]
    """(N, R, 3) in the base frame [m]"""
    uv: NDArray[np.float64]
    """(N, R, 2) shares of the picture; NaN where it does not show the role"""
    scenes: NDArray[np.int64]
    """(N,) seed of each frame's scene"""
    roles: tuple[str, ...]


def main(options: Probe) -> None:
    began = time.monotonic()
    result = probe(options)
    for condition, found in result["error_mm"].items():
        for readout, errors in found.items():
            told = ", ".join(
                f"{role} {e['xy']:.0f} ({e['interval'][0]:.0f} to {e['interval'][1]:.0f})" for role, e in errors.items()
            )
            console().print(f"{condition:>14} {readout:>13}: {told} mm")
    console().print(f"probe: after {time.monotonic() - began:.0f} s")
    print(json.dumps(result))


def probe(options: Probe) -> dict[str, Any]:
    """The figures of the JSON line; `error_mm`: condition → readout (or trivial) → role → xy, its interval, xyz.

    Raises:
        ConfigError: maps or seeds that the options do not provide for.
        BundleError: a part that cannot be used.
    """
    device = pick_device(options.device)
    torch.set_num_threads(options.threads)
    encoder, preprocess = load_encoder(options.encoder, device)
    mapper = Mapper(options, preprocess, device) if "saliency" in encoder.config.inputs else None
    seeds = parse_seeds(options.seeds)
    if set(seeds) & set(TRAIN_SEEDS) or options.scenes > len(TRAIN_SEEDS):
        raise ConfigError(
            f"seeds {options.seeds}: expected scenes that training never sees, {TRAIN_SEEDS.stop} and above, and at "
            f"most {len(TRAIN_SEEDS)} training scenes"
        )
    learnt = look(options.task, TRAIN_SEEDS[: options.scenes], options.every, preprocess, disturbance=DISTURBANCE_M_S)
    features = embed(encoder, learnt, mapper)
    models = {name: Ridge(x, _targets(learnt), learnt.scenes) for name, x in features.items()}
    trivial = _targets(learnt).mean(axis=0)
    errors: dict[str, Any] = {}
    for condition in options.conditions:
        views = look(options.task, seeds, options.every, preprocess, condition)
        seen = embed(encoder, views, mapper)
        predicted = {name: model.predict(seen[name]) for name, model in models.items()}
        predicted["trivial"] = np.broadcast_to(trivial, (len(views.pictures), len(trivial)))
        errors[condition] = {name: _errors(values, views) for name, values in predicted.items()}
    result = {
        "task": options.task,
        "encoder": options.encoder.name if options.encoder.parent == Path() else str(options.encoder.parent.name),
        "modalities": encoder.config.modalities,
        "inputs": encoder.config.inputs,
        "maps": options.maps,
        "train_frames": len(learnt.pictures),
        "seeds": options.seeds,
        "error_mm": errors,
    }
    if options.out is not None:
        write_json(options.out, result)
    return result


def look(
    task: str,
    seeds: Iterable[int],
    every: int,
    preprocess: PreprocessConfig,
    perturbation: str = "none",
    disturbance: float = 0.0,
) -> Views:
    """Frames of the scripted expert at work, one in `every` control steps drawn at random, in a scene a seed."""
    pictures, positions, uv, scenes = [], [], [], []
    seeds = list(seeds)
    left, top, width, height = preprocess.crop
    simulator = Simulator(task, seeds[0], disturbance, perturbation)
    try:
        roles = tuple(role for role in ROLES if role in simulator.truth().positions)
        with track(len(seeds), f"scenes ({perturbation})") as progress:
            for seed in seeds:
                simulator.reset(seed=seed)
                expert, rng = Expert(seed, task), np.random.default_rng([seed, 4])

                def note(*_: Any) -> None:
                    if rng.random() * every >= 1:  # noqa: B023 - called within the loop's body
                        return
                    image, truth, _ = simulator.render_with_truth()
                    pictures.append(crop(image, preprocess))
                    positions.append([truth.positions[role] for role in roles])
                    uv.append([truth.uv[role] if truth.visible[role] else (np.nan, np.nan) for role in roles])
                    scenes.append(truth.seed)

                lockstep(simulator, lambda _, state, truth: expert.act(truth, state), on_step=note, pictures=False)  # noqa: B023
                progress.advance(progress.task_ids[0])
    finally:
        simulator.close()
    shares = (np.array(uv).reshape(-1, len(roles), 2) - [left, top]) / [width, height]
    shares[((shares < 0) | (shares > 1)).any(axis=-1)] = np.nan
    return Views(np.stack(pictures), np.array(positions), shares, np.array(scenes), roles)


class Mapper:
    """Saliency maps of views: the model's, true ones, or those of other views."""

    def __init__(self, options: Probe, preprocess: PreprocessConfig, device: torch.device) -> None:
        self.source, self.seed = options.maps, options.seed
        self.model, self.config = None, SaliencyConfig()
        if options.maps != "oracle":
            if options.saliency is None:
                raise ConfigError("this encoder looks at saliency maps: --saliency names the part that makes them")
            self.model, theirs = load_saliency(options.saliency, device)
            if theirs != preprocess:
                raise ConfigError(f"{options.saliency}: made for {theirs}, the encoder for {preprocess}")

    def __call__(self, views: Views) -> NDArray[np.uint8]:
        if self.model is None:
            return draw(views.uv, views.roles, SaliencyConfig(roles=views.roles))
        maps = predict_maps(self.model, views.pictures)
        if self.source == "shuffled":
            maps = maps[np.random.default_rng(self.seed).permutation(len(maps))]
        return maps


def embed(encoder: Encoder, views: Views, mapper: Mapper | None) -> dict[str, NDArray[np.float64]]:
    """Readout to embeddings (N, dim)."""
    found: dict[str, list[Tensor]] = {name: [] for name in READOUTS}
    inputs = len(encoder.config.inputs)
    for tokens in encode(encoder, views.pictures, None if mapper is None else mapper(views)):
        found["mean"].append(token_mean(tokens))
        found["global"].append(tokens[:, -1])
        found["modality_mean"].append(tokens[:, :-1].unflatten(1, (inputs, -1)).mean(dim=2).flatten(1))
    return {name: torch.cat(parts).cpu().double().numpy() for name, parts in found.items()}


class Ridge:
    """Linear regression with a squared penalty on standardised features, in closed form.

    Its strength is the best at predicting scenes left out: frames of one scene are too alike to be told apart.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], groups: NDArray[np.int64]) -> None:
        """
        Args:
            x: (N, D) features.
            y: (N, K) targets.
            groups: (N,) rows of one group are left out together.
        """
        self._center, self._scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
        x = (x - self._center) / self._scale
        fold = np.unique(groups, return_inverse=True)[1] % FOLDS
        scores = np.zeros(len(STRENGTHS))
        for i in range(FOLDS):
            kept, left = fold != i, fold == i
            if not left.any() or not kept.any():
                continue
            mean = y[kept].mean(axis=0)
            for j, weights in enumerate(_solve(x[kept], y[kept] - mean, STRENGTHS)):
                scores[j] += np.square(x[left] @ weights + mean - y[left]).sum()
        self.strength = float(STRENGTHS[scores.argmin()])
        self._mean = y.mean(axis=0)
        (self._weights,) = _solve(x, y - self._mean, [self.strength])

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, K) of features (N, D)."""
        return (x - self._center) / self._scale @ self._weights + self._mean


def _solve(
    x: NDArray[np.float64], y: NDArray[np.float64], strengths: Sequence[float] | NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    values, vectors = np.linalg.eigh(x.T @ x)
    projected = vectors.T @ (x.T @ y)
    return [vectors @ (projected / (values + strength)[:, None]) for strength in strengths]


def _targets(views: Views) -> NDArray[np.float64]:
    return views.positions.reshape(len(views.positions), -1)


def _errors(predicted: NDArray[np.float64], views: Views) -> dict[str, Any]:
    off = 1000 * (predicted.reshape(views.positions.shape) - views.positions)
    xy, xyz = np.linalg.norm(off[..., :2], axis=-1), np.linalg.norm(off, axis=-1)
    return {
        role: {
            "xy": round(float(xy[:, i].mean()), 1),
            "interval": [round(value, 1) for value in bootstrap(xy[:, i], views.scenes)],
            "xyz": round(float(xyz[:, i].mean()), 1),
        }
        for i, role in enumerate(views.roles)
    }


def bootstrap(values: NDArray[np.float64], groups: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `values` (N,), had other groups been drawn: rows of a group come together."""
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (RESAMPLES, len(counts)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["probe", *sys.argv[1:]]))
