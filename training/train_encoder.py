"""Pretrain MultiMAE on pictures and their saliency maps; keep the encoder.

    visarl train encoder --episodes runs/demo/episodes.hdf5 --out runs/demo/encoder

`--modalities rgb` is the paper's RGB arm, `--modalities rgb saliency --inputs rgb` its "saliency in pretraining only".
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.common import Run, console, digest, iteration_generator, iteration_rng, prepare, write_json
from training.dataset import pretraining_pictures
from visarl.bundle import save_part
from visarl.config import EncoderConfig, ModelConfig, get_preset, to_dict
from visarl.models.multimae import MultiMAE
from visarl.preprocess import fingerprint, saliency_input, to_input
from visarl.training_options import TrainEncoder

PART = "encoder.safetensors"
STORE = 1.5
"""Pictures are kept this much larger than the model's, so that a crop is not an enlargement."""


def main(options: TrainEncoder) -> None:
    began = time.monotonic()
    train(options, configure(options))
    console().print(f"encoder: {options.out / PART} after {time.monotonic() - began:.0f} s")


def configure(options: TrainEncoder) -> ModelConfig:
    """The preset with the options' modalities."""
    config = get_preset(options.preset)
    inputs = options.modalities if options.inputs is None else options.inputs
    encoder = dataclasses.replace(config.encoder, modalities=options.modalities, inputs=inputs)
    readout = config.readout
    if "saliency" not in inputs:
        readout = dataclasses.replace(readout, kind="mean")
    return dataclasses.replace(config, encoder=encoder, readout=readout)


def train(options: TrainEncoder, config: ModelConfig) -> MultiMAE:
    """The recipe. Writes the part and returns the trained model.

    Raises:
        DataError: an episode file has no pictures, or no maps although saliency is a modality.
    """
    encoder = config.encoder
    device = prepare(options)
    size = round(encoder.image_size * (STORE if options.crop < 1 else 1))
    pictures, maps = pretraining_pictures(
        options.episodes, size, config.preprocess, with_saliency="saliency" in encoder.modalities
    )
    model = MultiMAE(encoder).to(device)
    optimiser = torch.optim.AdamW(
        parameter_groups(model, options.weight_decay), lr=options.lr, betas=(0.9, 0.95), fused=device.type == "cuda"
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda iteration: warm_cosine(iteration, options.iterations, options.warmup)
    )
    precise = torch.autocast(device.type, torch.bfloat16) if options.amp else contextlib.nullcontext()
    settings = {
        "model": to_dict(encoder),
        "data": digest(pictures) + (digest(maps) if maps is not None else ""),
    }
    state = {"model": model, "optimiser": optimiser, "schedule": schedule}
    model.train()
    with Run("encoder", options, options.iterations, state, settings) as run:
        for iteration in run:
            rng = iteration_rng(options.seed, iteration)
            chosen = rng.integers(0, len(pictures), options.batch)
            inputs = {"rgb": to_input(pictures[chosen])}
            if maps is not None:
                inputs["saliency"] = saliency_input(maps[chosen], size)
            inputs = crop_and_flip(inputs, encoder, rng, options.crop, options.flips)
            inputs = {name: x.to(device) for name, x in inputs.items()}
            with precise:
                out = model(inputs, iteration_generator(options.seed, iteration))
            optimiser.zero_grad(set_to_none=True)
            out["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if iteration % 10 == 0:
                losses = {name: loss.item() for name, loss in out["losses"].items()}
                run.log(iteration, loss=out["loss"].item(), lr=schedule.get_last_lr()[0], **losses)
    model.eval()
    description = {
        "encoder": to_dict(encoder),
        "preprocess": to_dict(config.preprocess),
        "fingerprint": fingerprint(config.preprocess),
        "pictures": len(pictures),
        "seed": options.seed,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    save_part(options.out / PART, model.encoder.state_dict(), description)
    write_json(options.out / "encoder.json", description)
    return model


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices only: biases, norms and tokens have no reason to be small."""
    matrices = [p for p in model.parameters() if p.ndim > 1 and p.shape[0] > 1]
    others = [p for p in model.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def warm_cosine(iteration: int, iterations: int, warmup: float) -> float:
    """Factor of the learning rate: a linear rise over the first share, then a cosine to zero."""
    rise = max(1.0, warmup * iterations)
    if iteration < rise:
        return (iteration + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (iteration - rise) / max(1.0, iterations - rise)))


def crop_and_flip(
    inputs: dict[str, Tensor], config: EncoderConfig, rng: np.random.Generator, smallest: float, flips: bool
) -> dict[str, Tensor]:
    """Random crops at the model's size, the same for all modalities. Half the samples stay whole, as they are in use.

    Args:
        inputs: (B, C, s, s) each, s at least the model's side.
    """
    batch, size = len(next(iter(inputs.values()))), config.image_size
    if smallest >= 1 and not flips:
        return {name: _resample(x, size) for name, x in inputs.items()}
    share = np.sqrt(np.where(rng.random(batch) < 0.5, 1.0, rng.uniform(min(smallest, 1.0), 1.0, batch)))
    offset = rng.uniform(-1, 1, (batch, 2)) * (1 - share)[:, None]
    mirror = np.where(flips & (rng.random(batch) < 0.5), -1.0, 1.0)
    theta = np.zeros((batch, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = share * mirror, share, offset
    grid = F.affine_grid(torch.from_numpy(theta), [batch, 1, size, size], align_corners=False)
    return {name: F.grid_sample(x, grid, align_corners=False, padding_mode="border") for name, x in inputs.items()}


def _resample(x: Tensor, size: int) -> Tensor:
    return x if x.shape[-1] == size else F.interpolate(x, size=(size, size), mode="area")


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["train", "encoder", *sys.argv[1:]]))
