"""Trained parts back from their files, and what they make of many pictures at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visarl.bundle import load_part
from visarl.config import EncoderConfig, PreprocessConfig, SaliencyConfig, from_dict
from visarl.errors import BundleError
from visarl.models.multimae import Encoder
from visarl.models.saliency import SaliencyNet, build_saliency
from visarl.preprocess import fingerprint, modality_input, saliency_input, shrink, to_input

BATCH = 32


def load_saliency(path: Path, device: torch.device) -> tuple[SaliencyNet, PreprocessConfig]:
    """The model of a saliency part, ready to predict, and the preprocessing that it learned with."""
    weights, description = load_part(path)
    preprocess = _preprocess(path, description, "saliency")
    model = build_saliency(from_dict(SaliencyConfig, description["saliency"]))
    model.load_state_dict(weights)
    return model.to(device).eval(), preprocess


def load_encoder(path: Path, device: torch.device) -> tuple[Encoder, PreprocessConfig]:
    """The model of an encoder part, frozen, and the preprocessing that it learned with."""
    weights, description = load_part(path)
    preprocess = _preprocess(path, description, "encoder")
    model = Encoder(from_dict(EncoderConfig, description["encoder"]))
    model.load_state_dict(weights)
    return model.to(device).eval().requires_grad_(False), preprocess


def _preprocess(path: Path, description: dict[str, Any], kind: str) -> PreprocessConfig:
    if kind not in description:
        found = f"one with {', '.join(sorted(description))}" if description else "one out of a bundle"
        raise BundleError(
            f"{path}: expected a part with {kind!r}, found {found}; give the {kind}.safetensors in the --out folder of "
            f"`visarl train {kind}`"
        )
    preprocess = from_dict(PreprocessConfig, description["preprocess"])
    if fingerprint(preprocess) != description["fingerprint"]:
        raise BundleError(
            f"{path}: it was trained on pictures of the preprocessing {description['fingerprint']}, this version makes "
            f"{fingerprint(preprocess)}; train it again"
        )
    return preprocess


def batches(items: Any, size: int = BATCH) -> Iterator[Any]:
    """Slices of an array or a dataset on disk."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


@torch.inference_mode()
def predict_maps(model: SaliencyNet, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Maps (N, R, S, S) uint8 of cropped pictures (N, s, s, 3): 255 is 1."""
    device, size = next(model.parameters()).device, model.config.image_size
    found = []
    for batch in batches(pictures):
        small = np.stack([shrink(picture, size) for picture in batch])
        maps = model.predict(to_input(small).to(device))
        found.append((maps * 255).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def encode(
    model: Encoder,
    pictures: Any,
    maps: NDArray[np.uint8] | None,
    others: Mapping[str, NDArray[np.uint8]] | None = None,
) -> Iterator[torch.Tensor]:
    """Tokens (B, n + 1, dim) of cropped pictures (N, s, s, 3) and, where the model sees them, maps (N, R, S, S) and
    `others`: depth (N, s, s) and normals (N, s, s, 3) as files keep them."""
    device, size = next(model.parameters()).device, model.config.image_size
    for first in range(0, len(pictures), BATCH):
        rows = slice(first, first + BATCH)
        inputs = {"rgb": to_input(np.stack([shrink(picture, size) for picture in pictures[rows]]))}
        if maps is not None:
            inputs["saliency"] = saliency_input(maps[rows], size)
        for name, values in (others or {}).items():
            inputs[name] = modality_input(name, values[rows], size)
        yield model(*(inputs[name].to(device) for name in model.config.inputs))
