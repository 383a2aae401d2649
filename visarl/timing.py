"""Figures that say how long things took."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

PERCENTILES = (50, 95, 99)


def percentiles(values: ArrayLike) -> tuple[float, ...]:
    """The 50th, 95th and 99th percentile; NaN where there are no values."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return (float("nan"),) * len(PERCENTILES)
    return tuple(float(value) for value in np.percentile(array, PERCENTILES))


def summary(values: ArrayLike, digits: int = 2) -> dict[str, float | None]:
    """The percentiles by name, for JSON: `{"p50": ..., "p95": ..., "p99": ...}`; None where there are no values."""
    found = percentiles(values)
    return {
        f"p{name}": None if np.isnan(value) else round(value, digits)
        for name, value in zip(PERCENTILES, found, strict=True)
    }
