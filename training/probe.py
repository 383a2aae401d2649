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
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.common import check_ranges, console, pick_device, write_json
from training.maps import draw
from training.parts import encode, load_encoder, load_saliency, predict_maps
from training.scene_frames import DISTURBANCE_M_S, TrueFrames, scene_frames
from visarl.config import ESTIMATED, PreprocessConfig, SaliencyConfig
from visarl.data.files import writable
from visarl.errors import ConfigError
from visarl.models.multimae import Encoder
from visarl.models.readout import token_mean
from visarl.sim.seeds import TRAIN_SEEDS, parse_seeds
from visarl.training_options import Probe

READOUTS = ("mean", "global", "modality_mean")
STRENGTHS = np.logspace(-1, 5, 13)
"""Of the ridge regression, to choose from by leaving scenes out."""
FOLDS = 5
RESAMPLES = 1000


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
    check_ranges(options)
    if not options.conditions:
        raise ConfigError("conditions: expected at least one look of the test scenes, none for scenes as they are")
    if options.out is not None:
        writable(options.out)
    result = probe_all([options])[0]
    if options.out is not None:
        write_json(options.out, result)
    return result


def probe_all(several: Sequence[Probe]) -> list[dict[str, Any]]:
    """The same of several encoders on the same frames, which are drawn once. The first one's options say which frames.

    Raises:
        ConfigError: also where two encoders look at differently prepared pictures; BundleError.
    """
    options = several[0]
    seeds, scenes = parse_seeds(options.seeds), TRAIN_SEEDS[: options.scenes]
    if set(seeds) & set(TRAIN_SEEDS) or options.scenes > len(TRAIN_SEEDS):
        raise ConfigError(
            f"seeds {options.seeds}: expected scenes that training never sees, {TRAIN_SEEDS.stop} and above, and at "
            f"most {len(TRAIN_SEEDS)} training scenes"
        )
    torch.set_num_threads(options.threads)
    probed = [Probed(one) for one in several]
    preprocess = probed[0].preprocess
    for one in probed:
        if one.preprocess != preprocess:
            raise ConfigError(
                f"{one.options.encoder}: made for {one.preprocess}, {options.encoder} for {preprocess}; probe each "
                "alone"
            )
    others = sorted({name for one in probed for name in one.encoder.config.inputs if name in ESTIMATED})
    learnt = scene_frames(
        options.task, scenes, options.every, preprocess, disturbance=DISTURBANCE_M_S, modalities=others
    )
    for one in probed:
        one.learn(learnt)
    trivial = _targets(learnt).mean(axis=0)
    for condition in options.conditions:
        views = scene_frames(options.task, seeds, options.every, preprocess, condition, modalities=others)
        for one in probed:
            one.ask(condition, views, np.broadcast_to(trivial, (len(views.pictures), len(trivial))))
    return [
        {
            "task": options.task,
            "encoder": one.options.encoder.parent.name or one.options.encoder.name,
            "modalities": one.encoder.config.modalities,
            "inputs": one.encoder.config.inputs,
            "maps": one.options.maps,
            "train_frames": len(learnt.pictures),
            "seeds": options.seeds,
            "error_mm": one.errors,
        }
        for one in probed
    ]


class Probed:
    """One encoder, and what the regression on its embeddings gets right."""

    def __init__(self, options: Probe) -> None:
        device = pick_device(options.device)
        self.options, self.errors = options, dict[str, Any]()
        self.encoder, self.preprocess = load_encoder(options.encoder, device)
        sees_maps = "saliency" in self.encoder.config.inputs
        self._mapper = Mapper(options, self.preprocess, device) if sees_maps else None
        self._models: dict[str, Ridge] = {}

    def learn(self, frames: TrueFrames) -> None:
        features = embed(self.encoder, frames, self._mapper)
        self._models = {name: Ridge(x, _targets(frames), frames.scenes) for name, x in features.items()}

    def ask(self, condition: str, frames: TrueFrames, trivial: NDArray[np.float64]) -> None:
        """Adds to `errors`, beside those of the answer `trivial`."""
        seen = embed(self.encoder, frames, self._mapper)
        predicted = {name: model.predict(seen[name]) for name, model in self._models.items()} | {"trivial": trivial}
        self.errors[condition] = {name: _errors(values, frames) for name, values in predicted.items()}


class Mapper:
    """Saliency maps of frames: the model's, true ones, or those of other frames."""

    def __init__(self, options: Probe, preprocess: PreprocessConfig, device: torch.device) -> None:
        self.source, self.seed, self.model = options.maps, options.seed, None
        if options.maps != "oracle":
            if options.saliency is None:
                raise ConfigError("this encoder looks at saliency maps: --saliency names the part that makes them")
            self.model, theirs = load_saliency(options.saliency, device)
            if theirs != preprocess:
                raise ConfigError(f"{options.saliency}: made for {theirs}, the encoder for {preprocess}")

    def __call__(self, views: TrueFrames) -> NDArray[np.uint8]:
        if self.model is None:
            return draw(views.uv, views.roles, SaliencyConfig(roles=views.roles))
        maps = predict_maps(self.model, views.pictures)
        if self.source == "shuffled":
            maps = maps[np.random.default_rng(self.seed).permutation(len(maps))]
        return maps


def embed(encoder: Encoder, views: TrueFrames, mapper: Mapper | None) -> dict[str, NDArray[np.float64]]:
    """Readout to embeddings (N, dim)."""
    found: dict[str, list[Tensor]] = {name: [] for name in READOUTS}
    inputs = len(encoder.config.inputs)
    for tokens in encode(encoder, views.pictures, None if mapper is None else mapper(views), views.others):
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


def _targets(views: TrueFrames) -> NDArray[np.float64]:
    return views.positions.reshape(len(views.positions), -1)


def _errors(predicted: NDArray[np.float64], views: TrueFrames) -> dict[str, Any]:
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
