"""What a masked autoencoder makes of a few frames, as one picture for people to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visarl.models.multimae import Masks, MultiMAE, patchify, unpatchify
from visarl.preprocess import as_picture

_GREY = 128
_MARGIN, _WHITE, _ZOOM = 2, 255, 2


def picture(model: MultiMAE, inputs: dict[str, Tensor], masks: Masks) -> NDArray[np.uint8]:
    """A row a frame, and in it, for each modality, the input, what the encoder saw of it, and the reconstruction.

    Args:
        inputs: (B, C, S, S) for each modality, on the model's device.

    Returns:
        (height, width, 3) uint8 RGB
    """
    training = model.training
    model.eval()
    rebuilt = model.reconstruct(inputs, masks)
    model.train(training)
    columns = []
    for i, (name, given) in enumerate(inputs.items()):
        hidden = ~masks.visible[:, i].to(given.device)
        size = model.config.patch_size
        whole = as_picture(name, given)
        shares = patchify(torch.ones_like(given[:, :1]), size)
        hidden_pixels = unpatchify(shares * hidden[..., None], size).bool().movedim(1, -1).cpu().numpy()
        columns += [whole, np.where(hidden_pixels, np.uint8(_GREY), whole), as_picture(name, rebuilt[name])]
    rows = [np.concatenate([_framed(column[row]) for column in columns], axis=1) for row in range(len(columns[0]))]
    return np.concatenate(rows).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def _framed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(image, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=_WHITE)


def save(path: Path, image: NDArray[np.uint8]) -> None:
    """As a PNG."""
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes())
