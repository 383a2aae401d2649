"""Whose saliency maps a training sees: the model's, perfect ones, or the model's of another picture.

Encoders, policies and agents of a study take theirs from here, so that one control means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from visarl.config import SaliencyConfig
from visarl.contract import PLAIN_ROLE, ROLES
from visarl.data.annotations import Click, render
from visarl.data.episodes import EpisodeFile, demo_number
from visarl.errors import DataError
from visarl.training_options import Maps

SALIENCY = "saliency"
"""Key of the predicted maps beside the pictures: (T, R, S, S) uint8, 255 is 1."""


def maps_for(file: EpisodeFile, demo: str, source: Maps, config: SaliencyConfig, seed: int) -> NDArray[np.uint8]:
    """A map a role for each control step of `demo`: (T, R, s, s), 255 is 1.

    Args:
        source: predicted, what `visarl label` wrote; oracle, a click's Gaussian where the simulator knows each of
            `config.roles` to be, at `config.image_size`; shuffled, for each step the predicted maps of some step of
            another demo, in which the things lie elsewhere.
        seed: draws the steps of `shuffled`.

    Raises:
        DataError: the file has no labels, or no truth.
    """
    if source == "predicted":
        return np.asarray(_stored(file, demo)[:])
    return oracle(file, demo, config) if source == "oracle" else _shuffled(file, demo, seed)


def oracle(file: EpisodeFile, demo: str, config: SaliencyConfig) -> NDArray[np.uint8]:
    """What a perfect saliency model would say of each control step's picture; nothing of what it does not show."""
    truth = _truth(file, demo)
    missing = [role for role in config.roles if role in ROLES and role not in truth["names"]]
    if missing:
        raise DataError(
            f"{file.path}: {demo}: its truth tells where {', '.join(truth['names'])} are, not {', '.join(missing)}; "
            "adapt saliency.roles"
        )
    shown = truth["visible"].astype(bool) & ((truth["uv"] >= 0) & (truth["uv"] <= 1)).all(axis=-1)
    return draw(np.where(shown[..., None], truth["uv"], np.nan), truth["names"], config)


def draw(points: NDArray[np.float64], names: Sequence[str], config: SaliencyConfig) -> NDArray[np.uint8]:
    """A click's Gaussian at each of `config.roles`: (T, R, s, s) uint8.

    Args:
        points: (T, N, 2) shares of the picture, NaN for what it does not show.
        names: (N,) roles of the points; those that are not among `config.roles` are left out.
    """
    wanted = ROLES if config.roles == (PLAIN_ROLE,) else config.roles
    found = np.empty((len(points), len(config.roles), config.image_size, config.image_size), np.uint8)
    for step, places in enumerate(points):
        clicks = [
            Click(float(u), float(v), name)
            for name, (u, v) in zip(names, places, strict=True)
            if name in wanted and np.isfinite((u, v)).all()
        ]
        found[step] = np.round(255 * render(clicks, config.roles, config.image_size, config.sigma))
    return found


def true_roles(file: EpisodeFile, demo: str) -> tuple[str, ...]:
    """The roles whose places the file knows, in the order of the contract."""
    names = _truth(file, demo)["names"]
    return tuple(role for role in ROLES if role in names)


def _truth(file: EpisodeFile, demo: str) -> dict[str, Any]:
    if "truth" not in file.file["data"][demo]:
        raise DataError(f"{file.path}: {demo} has no truth to draw oracle maps from; only the simulator knows it")
    return file.load(demo, ["truth"])["truth"]


def _stored(file: EpisodeFile, demo: str) -> h5py.Dataset:
    if SALIENCY not in file.observations(demo):
        raise DataError(f"{file.path}: {demo} has no saliency maps; run `visarl label` on the file first")
    return file.dataset(demo, SALIENCY)


def _shuffled(file: EpisodeFile, demo: str, seed: int) -> NDArray[np.uint8]:
    others = [name for name in file.demos if name != demo] or [demo]
    pool = [(name, step) for name in others for step in range(len(_stored(file, name)))]
    order = np.random.default_rng([seed, demo_number(demo)]).permutation(len(pool))
    steps = np.resize(order, len(_stored(file, demo)))
    return np.stack([_stored(file, name)[step] for name, step in (pool[i] for i in steps)])
