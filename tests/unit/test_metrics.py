"""Saliency scores against maps whose scores are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from visarl.errors import DataError
from visarl.metrics import centre_prior, flicker, score_saliency, score_trivial

SIDE = 96
SIGMA = 10 / 256 * SIDE


def gaussians(points: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.max([np.exp(-((x - u * SIDE) ** 2 + (y - v * SIDE) ** 2) / (2 * SIGMA**2)) for u, v in points], axis=0)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    clicks = [rng.uniform(0.1, 0.9, (2, 2)) for _ in range(12)]
    return np.stack([gaussians(c) for c in clicks]), clicks


def test_the_truth_is_perfect(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    scores = score_saliency(truths, truths, clicks)
    assert scores.frames == 12 and scores.mae == 0
    assert scores.f_adaptive == pytest.approx(1) and scores.f_max > 0.99 and scores.cc == pytest.approx(1)
    assert scores.kl == pytest.approx(0, abs=1e-3)


def test_zeros_score_the_zero_maps_mae_and_nothing_else(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    scores = score_saliency(np.zeros_like(truths), truths, clicks)
    assert scores.mae == scores.mae_zero == pytest.approx(truths.mean())
    assert scores.f_max < 0.1 and scores.cc == pytest.approx(0) and scores.nss == pytest.approx(0)


def test_noise_of_an_empty_map_is_not_stretched(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    """A faint copy of the truth: stretched to [0, 1], as pysodmetrics does by default, it would pass for perfect."""
    truths, clicks = scene
    faint = score_saliency(0.01 * truths, truths, clicks)
    assert faint.f_mean < 0.02 and faint.mae == pytest.approx(0.99 * truths.mean())


def test_worse_maps_score_worse(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    rng = np.random.default_rng(1)
    found = [
        score_saliency(np.stack([gaussians(c + rng.normal(0, error, c.shape)) for c in clicks]), truths, clicks)
        for error in (0.005, 0.02, 0.08)
    ]
    for better, worse in zip(found, found[1:], strict=False):
        for name in ("f_adaptive", "f_max", "nss", "cc"):
            assert getattr(better, name) > getattr(worse, name), name
        assert better.mae < worse.mae and better.kl < worse.kl


def test_mean_map_and_centre_prior(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    mean = np.repeat(truths.mean(axis=0, keepdims=True), len(truths), axis=0)
    scores = score_saliency(mean, truths, clicks)
    assert scores.mae == pytest.approx(scores.mae_mean_map) and scores.cc == pytest.approx(scores.cc_mean_map)
    prior = centre_prior((SIDE, SIDE), 7.0)
    assert prior.sum() == pytest.approx(7) and np.unravel_index(prior.argmax(), prior.shape)[0] in (47, 48)


def test_every_figure_of_maps_that_know_nothing(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    model, trivial = score_saliency(truths, truths, clicks), score_trivial(truths, clicks)
    assert list(trivial) == ["zero", "mean_map", "centre"]
    assert [found.mae for found in trivial.values()] == pytest.approx(
        [model.mae_zero, model.mae_mean_map, model.mae_centre]
    )
    for name, found in trivial.items():
        assert all(np.isfinite(value) for value in dataclasses.astuple(found)), name
        assert found.f_adaptive < 0.5 and found.nss < 0.5 * model.nss and found.kl > 0.5, name
    assert trivial["mean_map"].cc == pytest.approx(model.cc_mean_map)


def test_flicker_is_what_the_truth_does_not_do() -> None:
    path = np.column_stack([np.linspace(0.2, 0.8, 10), np.full(10, 0.5)])
    truths = np.stack([gaussians(point[None]) for point in path])
    videos = np.repeat([0, 1], 5)
    _, change = found = flicker(truths, truths, videos)
    assert found[0] == 0 and change > 0
    still = np.repeat(truths[:1], 10, axis=0)
    assert flicker(still, truths, videos) == pytest.approx((change, change))
    assert flicker(np.clip(truths + 0.01 * (np.arange(10) % 2)[:, None, None], 0, 2), truths, videos)[0] == (
        pytest.approx(0.01)
    )
    # From the last frame of one video to the first of the next nothing is said.
    jump = truths.copy()
    jump[5:] = 0.5 * truths[:5]
    assert flicker(jump, jump, videos)[0] == 0
    assert flicker(jump, jump, videos)[1] < flicker(jump, jump, np.zeros(10))[1]
    with pytest.raises(DataError, match="two or more frames"):
        flicker(truths, truths, np.arange(10))


def test_frames_without_clicks_count_in_the_errors_only(scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    more = score_saliency(
        np.concatenate([truths, 0 * truths]), np.concatenate([truths, 0 * truths]), [*clicks, *[np.zeros((0, 2))] * 12]
    )
    alone = dataclasses.asdict(score_saliency(truths, truths, clicks))
    assert more.f_max == alone["f_max"] and more.nss == alone["nss"] and more.frames == 24


@pytest.mark.parametrize("spoil", ["shape", "range", "nan", "none", "empty"])
def test_refusals(spoil: str, scene: tuple[np.ndarray, list[np.ndarray]]) -> None:
    truths, clicks = scene
    predictions = truths.copy()
    if spoil == "shape":
        predictions = predictions[:, 1:]
    elif spoil == "range":
        predictions = 255 * predictions
    elif spoil == "nan":
        predictions[0, 0, 0] = np.nan
    elif spoil == "none":
        predictions, truths, clicks = predictions[:0], truths[:0], []
    else:
        truths = 0 * truths
    with pytest.raises(DataError):
        score_saliency(predictions, truths, clicks)
