"""Write the saliency model's maps beside every picture of an episode file.

    visarl label --episodes runs/demo/episodes.hdf5 --saliency runs/demo/saliency/saliency.safetensors

A second run replaces the maps. `--estimators depth=package.module:function` writes what a depth model makes of the
pictures, see `visarl.estimators`. The file stays as it was until everything is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from training.common import check_ranges, console, pick_device, track
from training.dataset import ESTIMATOR, SALIENCY, picture_sets
from training.parts import BATCH, load_saliency, predict_maps
from visarl.cli import DEBUG_VARIABLE
from visarl.data.episodes import EpisodeFile, edit
from visarl.errors import ConfigError, DataError, VisarlError, out_of_memory
from visarl.estimators import Estimator, load_estimators
from visarl.preprocess import stored_modality
from visarl.training_options import Label


@dataclass(frozen=True)
class Labeller:
    """Makes one key of an episode file."""

    key: str
    shape: tuple[int, ...]
    """Of one picture's."""
    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """Pictures (N, s, s, 3) to (N, *shape)."""
    attributes: dict[str, Any]


def main(options: Label) -> None:
    check_ranges(options)
    torch.set_num_threads(options.threads)
    estimators = load_estimators(options.estimators)
    if options.saliency is None and not estimators:
        raise ConfigError("nothing to label with: give --saliency, --estimators, or both")
    began = time.monotonic()
    labellers, preprocess = [], None
    if options.saliency is not None:
        labeller, preprocess = _saliency(options.saliency, pick_device(options.device))
        labellers.append(labeller)
    with edit(options.episodes, preprocess) as episodes:
        size = episodes.preprocess.size
        labellers += [_estimated(name, estimator, size) for name, estimator in estimators.items()]
        sets = list(picture_sets(episodes))
        total = sum(len(group["image"]) for _, group in sets)
        with track(total, "labelling") as progress:
            for _, group in sets:
                for done in _label(episodes, group, labellers):
                    progress.advance(progress.task_ids[0], done)
    console().print(f"label: {total} pictures in {options.episodes} after {time.monotonic() - began:.0f} s")


def _saliency(path: Path, device: torch.device) -> tuple[Labeller, Any]:
    model, preprocess = load_saliency(path, device)
    config = model.config
    shape = (len(config.roles), config.image_size, config.image_size)
    return Labeller(SALIENCY, shape, lambda x: predict_maps(model, x), {"roles": list(config.roles)}), preprocess


def _estimated(name: str, estimator: Estimator, size: int) -> Labeller:
    def make(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            found = np.stack([estimator(picture) for picture in pictures])
        except Exception as error:  # somebody else's function: it may raise anything
            if isinstance(error, VisarlError) or out_of_memory(error):
                raise
            raise DataError(
                f"the estimator of {name} failed ({type(error).__name__}: {error}); {DEBUG_VARIABLE}=1 shows where"
            ) from error
        return stored_modality(name, found, size)

    made_by = f"{estimator.__module__}:{getattr(estimator, '__qualname__', type(estimator).__name__)}"
    shape = (size, size, 3) if name == "normals" else (size, size)
    return Labeller(name, shape, make, {ESTIMATOR: made_by})


def _label(episodes: EpisodeFile, group: h5py.Group, labellers: list[Labeller]) -> Any:
    """Fill the keys of one set of pictures; yields how many are done."""
    pictures = group["image"]
    rows = [episodes.add_rows(group, one.key, (len(pictures), *one.shape), "uint8") for one in labellers]
    for first in range(0, len(pictures), BATCH):
        part = slice(first, first + BATCH)
        seen = pictures[part]
        for one, dataset in zip(labellers, rows, strict=True):
            dataset[part] = one.make(seen)
        yield len(seen)
    for one, dataset in zip(labellers, rows, strict=True):
        for name, value in one.attributes.items():
            dataset.attrs[name] = value


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["label", *sys.argv[1:]]))
