"""One process, or many under `torchrun`, on one machine or several: the same training either way, by Lightning Fabric.

    torchrun --nproc-per-node 2 -m training.train_encoder --episodes runs/demo/episodes.hdf5 --out runs/demo/encoder

A batch is shared out, so that the result does not depend on the number of processes, but for rounding.
"""

from __future__ import annotations

import logging
import os

import torch
from lightning_fabric import Fabric

from visarl.errors import ConfigError


def launch(device: torch.device, batch: int, mixed: bool) -> Fabric:
    """This process's part in the training.

    Args:
        batch: of all processes together.
        mixed: mixed precision: bfloat16, or on a GPU that does not compute with it, float16.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """
    world = int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if world > 1 else 1
    if batch % world:
        raise ConfigError(f"batch: expected a multiple of the {world} processes, found {batch}")
    old = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of each choice made here
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=world // here,
        strategy="ddp" if world > 1 else "auto",
        precision=("16-mixed" if old else "bf16-mixed") if mixed else "32-true",
    )
    fabric.launch()
    return fabric


def share(fabric: Fabric, batch: int) -> slice:
    """The rows of a batch that are this process's."""
    size = batch // fabric.world_size
    return slice(fabric.global_rank * size, (fabric.global_rank + 1) * size)
