"""From a camera frame to what the models see: the one place, used by training, labelling and the nodes alike."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visarl.config import PreprocessConfig, to_dict
from visarl.errors import ContractError

if TYPE_CHECKING:
    import torch

_VERSION = 1
"""Raised whenever the functions below give other numbers for the same frame."""

RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
"""ImageNet's statistics of a picture in [0, 1]: what pretrained backbones expect."""

SALIENCY_STD = 0.1
"""Standard deviation of a map with one or two clicks: sqrt(clicks * pi) * sigma, with the paper's sigma of 10/256."""

DEPTH_MEAN, DEPTH_STD = 0.5, 0.25
"""Of depth as a share of its range: 0 is near, 1 is far."""

NORMALS_STD = 0.5
"""Of a component of the surface normals, about zero."""


def fingerprint(config: PreprocessConfig) -> str:
    """16 hex digits that change whenever a frame would be prepared differently; bundles and episode files carry it."""
    facts = {"version": _VERSION, "rgb": [RGB_MEAN, RGB_STD], "saliency": SALIENCY_STD, **to_dict(config)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def crop(image: NDArray[np.uint8], config: PreprocessConfig) -> NDArray[np.uint8]:
    """The picture that the models see: (size, size, 3) uint8 RGB, cut from a frame (H, W, 3) uint8 RGB.

    Raises:
        ContractError: another shape or dtype, or a frame of another aspect, in which the crop is not square.
    """
    image = _picture(image, "camera frame")
    height, width = image.shape[:2]
    share_left, share_top, share_width, share_height = config.crop
    left, top = round(share_left * width), round(share_top * height)
    columns, rows = round(share_width * width), round(share_height * height)
    if abs(columns - rows) > 1:  # one pixel is rounding
        raise ContractError(
            f"camera frame: expected a size in which the crop {config.crop} is square (640x480 for the default), found "
            f"{width}x{height}, where it is {columns}x{rows}; set the camera to such a size or change preprocess.crop"
        )
    return resize(image[top : top + rows, left : left + columns], config.size)


def shrink(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A square picture (S, S, 3) uint8 at `size`: what a model with that image size reads."""
    picture = _picture(picture, "picture")
    if picture.shape[0] != picture.shape[1]:
        raise ContractError(f"picture: expected a square one, found {picture.shape}; pass a frame through `crop` first")
    return resize(picture, size)


def to_input(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (..., S, S, 3) uint8 as a normalised float32 tensor (..., 3, S, S)."""
    import torch  # only here: recording and conversion need no torch

    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim < 3 or pictures.shape[-1] != 3:
        raise ContractError(
            f"pictures: expected (..., S, S, 3) uint8 in 0..255, found {pictures.shape} {pictures.dtype}; "
            "pass pictures as they are stored, not scaled to 0..1"
        )
    return standardise("rgb", torch.from_numpy(np.ascontiguousarray(pictures)))


def standardise(name: str, stored: torch.Tensor) -> torch.Tensor:
    """Bytes of a modality as the encoder reads them, on the device where they are.

    Args:
        name: of the modality.
        stored: uint8, (..., S, S, 3) for rgb and normals, (..., S, S) for saliency and depth.

    Returns:
        (..., C, S, S) float32
    """
    import torch

    if name == "rgb":
        tensor = stored.movedim(-1, -3).contiguous().float()
        scale = torch.tensor(RGB_STD).mul(255.0).reciprocal().reshape(3, 1, 1).to(tensor.device)
        offset = torch.tensor(RGB_MEAN).div(torch.tensor(RGB_STD)).reshape(3, 1, 1).to(tensor.device)
        return tensor.mul_(scale).sub_(offset)
    if name == "normals":
        return stored.movedim(-1, -3).contiguous().float().sub_(127.5).div_(127.5 * NORMALS_STD)
    if name == "depth":
        return stored.float().div_(255.0).sub_(DEPTH_MEAN).div_(DEPTH_STD).unsqueeze(-3)
    return stored.float().div_(255.0 * SALIENCY_STD).unsqueeze(-3)


def as_picture(name: str, values: torch.Tensor) -> NDArray[np.uint8]:
    """What `standardise` was given, for people to look at: (..., C, S, S) to (..., S, S, 3) uint8, greys repeated."""
    import torch

    if name == "rgb":
        shares = values.float().cpu() * torch.tensor(RGB_STD).reshape(3, 1, 1) + torch.tensor(RGB_MEAN).reshape(3, 1, 1)
    elif name == "normals":
        shares = (values.float().cpu() * NORMALS_STD + 1) / 2
    else:
        mean, std = (DEPTH_MEAN, DEPTH_STD) if name == "depth" else (0.0, SALIENCY_STD)
        shares = (values.float().cpu() * std + mean).expand(*values.shape[:-3], 3, *values.shape[-2:])
    return shares.mul(255).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).numpy()


def modality_input(name: str, values: NDArray[Any], size: int) -> torch.Tensor:
    """Depth or surface normals of cropped pictures as the encoder reads them, (N, C, size, size) float32.

    Args:
        name: depth or normals.
        values: as files keep them, or of an estimator, see `stored_modality`.

    Raises:
        ContractError: another shape, or numbers that are not finite or out of their range.
    """
    import torch

    return standardise(name, torch.from_numpy(stored_modality(name, values, size)))


def stored_modality(name: str, values: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """Depth (N, size, size) or normals (N, size, size, 3) as files keep them.

    Args:
        name: depth or normals.
        values: of any side; uint8 as in files, or float: depth (N, S, S) from 0, near, to 1, far; normals (N, S, S, 3),
            components from -1 to 1.

    Raises:
        ContractError: another shape, or numbers that are not finite or out of that range.
    """
    values = np.asarray(values)
    channels = (3,) if name == "normals" else ()
    if values.ndim != 3 + len(channels) or values.shape[1] != values.shape[2] or values.shape[3:] != channels:
        raise ContractError(f"{name}: expected (N, S, S{', 3' if channels else ''}), found {values.shape}")
    if values.dtype != np.uint8:
        low = -1.0 if name == "normals" else 0.0
        if not np.isfinite(values).all() or values.min() < low - 1e-3 or values.max() > 1 + 1e-3:
            found = f"{values.min()} to {values.max()}"
            raise ContractError(f"{name}: expected finite numbers from {low:g} to 1, found {found}")
        values = np.round((values.clip(low, 1) - low) / (1 - low) * 255).astype(np.uint8)
    return np.stack([resize(value, size) for value in values])


def saliency_input(maps: NDArray[Any], size: int) -> torch.Tensor:
    """Saliency maps, one a role, as the encoder's saliency modality.

    Args:
        maps: (..., R, S, S), float32 in [0, 1] or uint8 in 0..255.
        size: side of the encoder's picture.

    Returns:
        (..., 1, size, size) float32: the maximum over the roles (the paper's map), in units of `SALIENCY_STD`.
    """
    import torch

    values = unit_maps(maps).max(axis=-3)
    flat = values.reshape(-1, *values.shape[-2:])
    small = np.stack([resize(value, size) for value in flat]) if len(flat) else np.zeros((0, size, size), np.float32)
    return torch.from_numpy(small).div_(SALIENCY_STD).reshape(*values.shape[:-2], 1, size, size)


def unit_maps(maps: NDArray[Any]) -> NDArray[np.float32]:
    """Maps (..., R, S, S) as float32 in [0, 1], whether they come from a file (uint8) or from the model (float32)."""
    maps = np.asarray(maps)
    if maps.ndim < 3 or maps.shape[-1] != maps.shape[-2]:
        raise ContractError(f"saliency maps: expected (..., roles, S, S), found {maps.shape}")
    if maps.dtype == np.uint8:
        return maps.astype(np.float32) / np.float32(255.0)
    if maps.dtype != np.float32:
        raise ContractError(f"saliency maps: expected float32 in [0, 1] or uint8, found {maps.dtype}")
    return maps


def _picture(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.shape} {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ContractError(f"{name}: expected (height, width, 3) uint8 RGB, found {found}; convert it to rgb8")
    return image


def resize(image: NDArray[Any], size: int) -> NDArray[Any]:
    """A picture or map (H, W) or (H, W, C) at (size, size)."""
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    # INTER_AREA averages what it shrinks (no aliasing); it has no meaning when growing.
    method = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)
