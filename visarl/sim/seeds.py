"""Which seeds are for what, so that no start pose is ever both taught and tested."""

from __future__ import annotations

TRAIN_SEEDS = range(0, 500)
"""Recordings, demonstrations and extra frames for pretraining."""

VALIDATION_SEEDS = range(500, 1000)
"""Choosing between models and settings."""

EVALUATION_SEEDS = range(1000, 2000)
"""The figures that are reported. Nothing is ever chosen by these."""
