"""Score a saliency model's maps and their peaks, against the clicks that the simulator would place.

    visarl score saliency --bundle bundles/pick_red_block --bags runs/demo/bags
    visarl score saliency --saliency runs/demo/saliency/saliency.safetensors --task pick_apple --seeds 1000:1020

On the frames of recorded bags, or, without bags, of the scripted expert at work in scenes of the given seeds, with
things on the table that no demonstration shows. The last line on stdout is one line of JSON; `--out` gets more. The
truth is a Gaussian where the simulator projects each role to. The score is of the paper's map, the maximum over the
roles, at the model's own resolution, and beside it stand maps that know nothing of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.common import console, write_json
from training.parts import load_saliency, predict_maps
from training.peaks import peak_scores
from training.scene_frames import TrueFrames, bag_frames, scene_frames
from visarl.bundle import load_bundle
from visarl.config import PreprocessConfig, SaliencyConfig
from visarl.contract import CONTROL_RATE_HZ, PLAIN_ROLE
from visarl.data.annotations import AnnotationFile, render
from visarl.data.bags import find_bags
from visarl.data.files import writable
from visarl.errors import ConfigError
from visarl.inference import SaliencyModel
from visarl.metrics import SaliencyScores, score_saliency, score_trivial
from visarl.models.readout import keypoints
from visarl.sim.seeds import parse_seeds
from visarl.training_options import ScoreSaliency

LINE = ("frames", "f_adaptive", "f_max", "mae", "mae_zero", "mae_mean_map", "nss", "cc")
"""What the line of JSON says."""
FIGURES = ("f_adaptive", "f_max", "f_mean", "mae", "nss", "cc", "kl")
"""What a person is told of the model and of the maps that know nothing."""


@dataclass(frozen=True)
class Predictor:
    """A trained saliency model and what it learned on."""

    predict: Callable[[NDArray[np.uint8]], NDArray[np.floating]]
    """Cropped pictures (N, s, s, 3) to maps (N, R, S, S) in [0, 1]."""
    config: SaliencyConfig
    preprocess: PreprocessConfig

    def maps(self, pictures: NDArray[np.uint8]) -> NDArray[np.floating]:
        """`predict`, one picture at a time, as a robot does."""
        return np.concatenate([self.predict(picture[None]) for picture in pictures])

    def peaks(self, maps: NDArray[np.floating]) -> NDArray[np.float64]:
        """Maps (N, R, S, S) to (N, R, 3): x and y in [-1, 1], confidence."""
        return keypoints(torch.from_numpy(np.asarray(maps, np.float32)), self.config.sigma).double().numpy()


def main(options: ScoreSaliency) -> None:
    result = score(options)
    for name, found in {"model": result, **result["trivial"]}.items():
        console().print(f"{name:>9}: " + "  ".join(f"{key} {found[key]:.4f}" for key in FIGURES))
    for role, peak in result.get("peaks", {}).items():
        console().print(f"{role:>9}: {json.dumps({k: v for k, v in peak.items() if k != 'confidence'})}")
    print(json.dumps({key: result[key] for key in LINE}))


def score(options: ScoreSaliency) -> dict[str, Any]:
    """The figures of the JSON line, those of the trivial maps, and those of the peaks.

    Raises:
        ConfigError: not just one model, or no task.
        BundleError, DataError: a model or a bag cannot be used, or no frame is left to score.
    """
    if options.out is not None:
        writable(options.out)
    model, task = _model(options)
    if options.bags is not None:
        clicked = AnnotationFile.load(options.clicks).frames if options.clicks is not None else {}
        frames = bag_frames(find_bags(options.bags), model.preprocess, options.every_s, clicked)
    else:
        if task is None:
            raise ConfigError("score saliency: give --task, whose scenes are to be shown, or --bags")
        every = max(1, round(options.every_s * CONTROL_RATE_HZ))
        frames = scene_frames(task, parse_seeds(options.seeds), every, model.preprocess, options.perturbation)
    result = score_frames(model, frames)
    if options.out is not None:
        write_json(options.out, result)
    return result


def _model(options: ScoreSaliency) -> tuple[Predictor, str | None]:
    if (options.bundle is None) == (options.saliency is None):
        raise ConfigError("score saliency: give --bundle or --saliency, one of them")
    if options.bundle is not None:
        bundle = load_bundle(options.bundle)
        run = SaliencyModel(bundle, engine=options.engine).saliency_batch
        return Predictor(run, bundle.config.saliency, bundle.config.preprocess), options.task or bundle.task
    assert options.saliency is not None
    return part_predictor(*load_saliency(options.saliency, torch.device("cpu"))), options.task


def part_predictor(model: Any, preprocess: PreprocessConfig) -> Predictor:
    """Of a model from its file."""
    return Predictor(lambda pictures: predict_maps(model, pictures) / np.float32(255), model.config, preprocess)


def score_frames(model: Predictor, frames: TrueFrames) -> dict[str, Any]:
    """`SaliencyScores` of the model; `trivial`: of each of `metrics.trivial_maps`; `peaks`: `peaks.peak_scores`, where
    the model has a map for each role of the frames."""
    config = model.config
    maps = model.maps(frames.pictures)
    clicks = [
        [c for c in frames.clicks(i) if c.role in config.roles or config.roles == (PLAIN_ROLE,)]
        for i in range(len(maps))
    ]
    truths = np.stack([render(found, config.roles, config.image_size, config.sigma).max(axis=0) for found in clicks])
    points = [np.array([[click.u, click.v] for click in found]).reshape(-1, 2) for found in clicks]
    result = rounded(score_saliency(maps.max(axis=1), truths, points))
    result["trivial"] = {name: rounded(scores) for name, scores in score_trivial(truths, points).items()}
    if config.roles == frames.roles:
        result["peaks"] = peak_scores(model.peaks(maps), frames, model.preprocess)
    return result


def rounded(scores: SaliencyScores) -> dict[str, Any]:
    """For JSON: five digits say more than the spread over frames does."""
    return {key: value if isinstance(value, int) else round(value, 5) for key, value in asdict(scores).items()}


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["score", "saliency", *sys.argv[1:]]))
