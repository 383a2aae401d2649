"""Score a bundle's saliency on recorded bags, against the clicks that the simulator would place.

    visarl score saliency --bundle bundles/pick_red_block --bags runs/demo/bags

The last line on stdout is one line of JSON. The truth comes from `sim/truth`: a Gaussian at the projected effector and
object. The score is of the paper's map, the maximum over the roles, at the model's own resolution.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.common import write_json
from visarl.bundle import load_bundle
from visarl.config import PreprocessConfig
from visarl.data.annotations import AnnotationFile, Click, FrameKey, render, truth_clicks
from visarl.data.bags import IMAGE, TRUTH, Bag, decode_image, find_bags
from visarl.errors import DataError
from visarl.inference import SaliencyModel
from visarl.metrics import SaliencyScores, score_saliency
from visarl.preprocess import crop
from visarl.training_options import ScoreSaliency

LINE = ("frames", "f_adaptive", "f_max", "mae", "mae_zero", "mae_mean_map", "nss", "cc")
"""What the line of JSON says; `--out` gets more."""


def main(options: ScoreSaliency) -> None:
    result = score(options)
    print(json.dumps({key: result[key] for key in LINE}))


def score(options: ScoreSaliency) -> dict[str, Any]:
    """The figures of the JSON line, and those of the other trivial maps.

    Raises:
        BundleError, DataError: the bundle or a bag cannot be used, or no frame is left to score.
    """
    bundle = load_bundle(options.bundle)
    config = bundle.config.saliency
    model = SaliencyModel(bundle, engine=options.engine)
    clicked = AnnotationFile.load(options.clicks).frames if options.clicks is not None else {}
    predictions, truths, points = [], [], []
    for path in find_bags(options.bags):
        for key, picture, clicks in truth_frames(path, bundle.config.preprocess, config.roles, options.every_s):
            if key in clicked:
                continue
            predictions.append(model.saliency_batch(picture[None])[0].max(axis=0))
            truths.append(render(clicks, config.roles, config.image_size, config.sigma).max(axis=0))
            points.append(np.array([[click.u, click.v] for click in clicks]).reshape(-1, 2))
    if not predictions:
        raise DataError(f"{options.bags}: no frames to score beside the {len(clicked)} that were trained on")
    scores = score_saliency(np.stack(predictions), np.stack(truths), points)
    result = rounded(scores)
    if options.out is not None:
        write_json(options.out, result)
    return result


def rounded(scores: SaliencyScores) -> dict[str, Any]:
    """For JSON: five digits say more than the spread over frames does."""
    return {key: value if isinstance(value, int) else round(value, 5) for key, value in asdict(scores).items()}


def truth_frames(
    path: Path, preprocess: PreprocessConfig, roles: tuple[str, ...], every_s: float
) -> list[tuple[FrameKey, NDArray[np.uint8], tuple[Click, ...]]]:
    """Cropped frames of a bag, `every_s` apart, with what a careful person would click on them."""
    found = []
    last = -np.inf
    with Bag(path) as bag:
        bag.require(IMAGE, TRUTH)
        known = {stamp: message for _, stamp, message in bag.messages([TRUTH])}
        for _, stamp, _, data in bag.raw([IMAGE]):
            if stamp not in known or stamp - last < every_s * 1e9:
                continue
            last = stamp
            picture = crop(decode_image(bag.decode(IMAGE, data), f"{path}: {IMAGE} at {stamp}"), preprocess)
            found.append((FrameKey(path.name, stamp), picture, truth_clicks(known[stamp], roles, preprocess)))
    return found


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["score", "saliency", *sys.argv[1:]]))
