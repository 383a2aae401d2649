"""Write the saliency model's maps beside every picture of an episode file.

    visarl label --episodes runs/demo/episodes.hdf5 --saliency runs/demo/saliency/saliency.safetensors

A second run replaces the maps. The file stays as it was until all of them are there.
"""

from __future__ import annotations

import time

import torch

from training.common import console, pick_device, track
from training.dataset import SALIENCY, picture_sets
from training.parts import BATCH, load_saliency, predict_maps
from visarl.data.episodes import edit
from visarl.training_options import Label


def main(options: Label) -> None:
    torch.set_num_threads(options.threads)
    model, preprocess = load_saliency(options.saliency, pick_device(options.device))
    began = time.monotonic()
    shape = (len(model.config.roles), model.config.image_size, model.config.image_size)
    with edit(options.episodes, preprocess) as episodes:
        sets = list(picture_sets(episodes))
        total = sum(len(group["image"]) for _, group in sets)
        with track(total, "labelling") as progress:
            for _, group in sets:
                pictures = group["image"]
                maps = episodes.add_rows(group, SALIENCY, (len(pictures), *shape), "uint8")
                for first in range(0, len(pictures), BATCH):
                    rows = slice(first, first + BATCH)
                    maps[rows] = predict_maps(model, pictures[rows])
                    progress.advance(progress.task_ids[0], len(maps[rows]))
                maps.attrs["roles"] = list(model.config.roles)
    console().print(f"label: {total} pictures in {options.episodes} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["label", *sys.argv[1:]]))
