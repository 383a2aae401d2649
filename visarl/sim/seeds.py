"""Which seeds are for what, so that no start pose is ever both taught and tested."""

from __future__ import annotations

from visarl.errors import ConfigError

TRAIN_SEEDS = range(0, 500)
"""Recordings, demonstrations and extra frames for pretraining."""

VALIDATION_SEEDS = range(500, 1000)
"""Choosing between models and settings."""

EVALUATION_SEEDS = range(1000, 2000)
"""The figures that are reported. Nothing is ever chosen by these."""


def parse_seeds(text: str) -> list[int]:
    """Seeds of `first:end` (end excluded) or of a comma-separated list.

    Raises:
        ConfigError: neither, empty, or negative.
    """
    try:
        if ":" in text:
            first, end = (int(part) for part in text.split(":"))
            seeds = list(range(first, end))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"seeds: expected first:end or a comma-separated list, found {text!r}") from None
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"seeds: expected at least one seed and none below 0, found {text!r}")
    return seeds
