"""Intervals around success rates."""

from __future__ import annotations

import math

from visarl.errors import ConfigError

Z_95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a rate: honest with 20 trials and near 0 or 1, where the normal one is not.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Raises:
        ConfigError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ConfigError(f"expected 0 <= successes <= trials and at least one trial, found {successes} of {trials}")
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Rounding may not push the ends past the rate itself, where it is 0 or 1.
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))
