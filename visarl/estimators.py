"""Modalities that no sensor gives: functions that estimate them from the picture, such as a monocular depth model.

An estimator takes the cropped picture (S, S, 3) uint8 RGB and gives `depth`, (S, S) float from 0, near, to 1, far, or
`normals`, (S, S, 3) float unit vectors. Training and robot must use the same one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visarl.config import ESTIMATED
from visarl.errors import ConfigError, suggest

Estimator = Callable[[NDArray[np.uint8]], NDArray[Any]]


def load_estimators(texts: Sequence[str]) -> dict[str, Estimator]:
    """Estimators by modality, of texts such as `depth=package.module:function`.

    Raises:
        ConfigError: another form, no such modality, or nothing to call under that name.
    """
    found: dict[str, Estimator] = {}
    for text in texts:
        name, _, place = text.partition("=")
        module, _, function = place.partition(":")
        if not (name and module and function):
            raise ConfigError(f"estimator {text!r}: expected modality=package.module:function")
        if name not in ESTIMATED:
            raise ConfigError(f"estimator {text!r}: {suggest(name, ESTIMATED)}")
        try:
            estimator = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"estimator {text!r}: {error}; is its package installed, its name right?") from error
        if not callable(estimator):
            raise ConfigError(f"estimator {text!r}: expected a function, found {type(estimator).__name__}")
        found[name] = estimator
    return found


def require(wanted: Sequence[str], estimators: Mapping[str, Estimator]) -> None:
    """
    Raises:
        ConfigError: the modalities `wanted` include one that no camera gives and no estimator makes.
    """
    for name in wanted:
        if name in ESTIMATED and name not in estimators:
            raise ConfigError(
                f"this bundle's encoder sees {name}, and the camera gives pictures alone: name what estimates it, "
                f"estimators {name}=package.module:function"
            )
