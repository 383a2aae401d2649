"""Pretrain MultiMAE on pictures and their saliency maps; keep the encoder.

    visarl train encoder --episodes runs/demo/episodes.hdf5 --out runs/demo/encoder

`--modalities rgb` is the paper's RGB arm, `--modalities rgb saliency --inputs rgb` its "saliency in pretraining only".
`torchrun --nproc-per-node N -m training.train_encoder` and the same options train on several GPUs.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from training import parallel, reconstructions
from training.common import Run, console, iteration_generator, iteration_rng, prepare, write_json
from training.dataset import Frames, Wanted
from visarl.bundle import save_part
from visarl.config import ModelConfig, get_preset, to_dict
from visarl.models.multimae import MultiMAE
from visarl.preprocess import fingerprint, standardise
from visarl.training_options import TrainEncoder

PART = "encoder.safetensors"
PICTURE = "reconstruction.png"
STORE = 1.5
"""Pictures are kept this much larger than the model's, so that a crop is not an enlargement."""
LOG_EVERY = 10
SHOWN = 4
"""Frames whose reconstructions are shown."""
SHOWINGS = 5
"""How often while training."""


def main(options: TrainEncoder) -> None:
    began = time.monotonic()
    train(options, configure(options))
    if int(os.environ.get("RANK", "0")) == 0:
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
        ConfigError: the processes cannot share a batch out.
        DataError: an episode file has no pictures, or lacks a modality.
        TrainingError: the loss is no longer finite.
    """
    encoder = config.encoder
    fabric = parallel.launch(prepare(options), options.batch, options.amp)
    device, mine = fabric.device, parallel.share(fabric, options.batch)
    size = round(encoder.image_size * (STORE if options.crop < 1 else 1))
    wanted = Wanted(encoder.modalities, size, options.maps, config.saliency, options.seed)
    with fabric.rank_zero_first(local=True):  # the others find the frames decoded
        frames = Frames(options.episodes, config.preprocess, wanted).to(device)
    model = MultiMAE(encoder).to(device)
    optimiser = torch.optim.AdamW(
        parameter_groups(model, options.weight_decay), lr=options.lr, betas=(0.9, 0.95), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda iteration: warm_cosine(iteration, options.iterations, options.warmup)
    )
    state = {"model": model, "optimiser": optimiser, "schedule": schedule}
    settings = {"model": to_dict(encoder), "data": frames.digest()}
    model.train()
    with Run("encoder", options, options.iterations, state, settings, fabric) as run:
        module, stepper = _set_up(fabric, model, optimiser)
        began, first = time.monotonic(), run.start
        for iteration in run:
            rng = iteration_rng(options.seed, iteration)
            chosen = rng.integers(0, len(frames), options.batch)
            theta = crops(rng, options.batch, options.crop, options.flips)
            masks = model.draw(options.batch, iteration_generator(options.seed, iteration))
            inputs = prepared(frames.batch(chosen[mine], device), theta[mine], encoder.image_size)
            out = module(inputs, masks.rows(mine))
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(out["loss"])
            fabric.clip_gradients(module, stepper, max_norm=1.0, error_if_nonfinite=False)
            stepper.step()
            schedule.step()
            if iteration % LOG_EVERY == 0:
                losses = {name: float(fabric.all_reduce(loss.detach())) for name, loss in out["losses"].items()}
                run.check(sum(losses.values()), iteration)
                rate = options.batch * (iteration + 1 - first) / (time.monotonic() - began)
                run.log(iteration, loss=sum(losses.values()), lr=schedule.get_last_lr()[0], **losses, images_s=rate)
            if (iteration + 1) % max(1, options.iterations // SHOWINGS) == 0:
                run.show(iteration, reconstruction=_shown(model, frames))
        trained = options.iterations - first
        rate = options.batch * trained / max(time.monotonic() - began, 1e-9)
    model.eval()
    if fabric.is_global_zero:
        description = {
            "encoder": to_dict(encoder),
            "preprocess": to_dict(config.preprocess),
            "fingerprint": fingerprint(config.preprocess),
            "maps": options.maps,
            "pictures": len(frames),
            "seed": options.seed,
        }
        save_part(options.out / PART, model.encoder.state_dict(), description)
        write_json(options.out / "encoder.json", description)
        reconstructions.save(options.out / PICTURE, _shown(model, frames))
        if trained:
            console().print(f"encoder: {rate:.0f} images a second")
    return model


def _set_up(fabric: Fabric, model: MultiMAE, optimiser: torch.optim.Optimizer) -> tuple[Any, Any]:
    """What takes the steps: on a GPU compiled, with several processes in step with the others."""
    if fabric.device.type == "cuda":
        torch._dynamo.config.suppress_errors = True  # what cannot be compiled, or not here, runs as it is
        return fabric.setup(torch.compile(model), optimiser)
    return fabric.setup(model, optimiser)


def _shown(model: MultiMAE, frames: Frames) -> NDArray[np.uint8]:
    """Reconstructions of a few frames, the same ones with the same masks each time."""
    device = next(model.parameters()).device
    chosen = np.linspace(0, len(frames) - 1, SHOWN + 2).round().astype(np.int64)[1:-1]
    whole = crops(np.random.default_rng(0), SHOWN, 1.0, False)
    inputs = prepared(frames.batch(chosen, device), whole, model.config.image_size)
    return reconstructions.picture(model, inputs, model.draw(SHOWN, iteration_generator(0, 0)))


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


def crops(rng: np.random.Generator, batch: int, smallest: float, flips: bool) -> NDArray[np.float32]:
    """Random crops of at least `smallest` of the area, (B, 2, 3) for `prepared`. Half the samples stay whole, as they
    are in use."""
    share = np.sqrt(np.where(rng.random(batch) < 0.5, 1.0, rng.uniform(min(smallest, 1.0), 1.0, batch)))
    offset = rng.uniform(-1, 1, (batch, 2)) * (1 - share)[:, None]
    theta = np.zeros((batch, 2, 3), np.float32)
    theta[:, 0, 0] = share * np.where(flips & (rng.random(batch) < 0.5), -1.0, 1.0)
    theta[:, 1, 1], theta[:, :, 2] = share, offset
    return theta


def prepared(stored: dict[str, Tensor], theta: NDArray[np.float32], size: int) -> dict[str, Tensor]:
    """Stored frames as the model reads them, the same crop of each modality: (B, C, size, size) on their device.

    Args:
        stored: see `Frames`.
        theta: (B, 2, 3), the crop as an affine map.
    """
    inputs = {name: standardise(name, frames) for name, frames in stored.items()}
    device = next(iter(inputs.values())).device
    grid = F.affine_grid(torch.from_numpy(theta).to(device), [len(theta), 1, size, size], align_corners=False)
    return {name: F.grid_sample(x, grid, align_corners=False, padding_mode="border") for name, x in inputs.items()}


if __name__ == "__main__":
    import sys

    from visarl import cli

    sys.exit(cli.main(["train", "encoder", *sys.argv[1:]]))
