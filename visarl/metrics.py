"""How good a predicted saliency map is, beside what a map that knows nothing would score."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visarl.errors import DataError

BETA_SQUARED = 0.3
"""Weight of recall in the F-measure, as in the paper and in salient-object detection at large."""

_EPS = 1e-12


@dataclass(frozen=True)
class SaliencyScores:
    """Means over the frames. `f_*`, `nss`, `cc`: higher is better; `mae*`, `kl`: lower is better."""

    frames: int
    f_adaptive: float
    """F-measure with prediction and truth each binarised at twice its own mean."""
    f_max: float
    """F-measure at the best of 256 thresholds, one for all frames; truth binarised at 0.5."""
    f_mean: float
    """The same, averaged over the thresholds."""
    mae: float
    """Mean absolute difference of the soft maps."""
    mae_zero: float
    """What a map of zeros scores. Click maps are nearly empty, so this is the figure to beat."""
    mae_mean_map: float
    """What the scored frames' own mean map scores: it knows where things usually are."""
    mae_centre: float
    """What a Gaussian in the middle scores, with as much mass as the truths have."""
    nss: float
    """Normalised scan-path saliency: the prediction's z-score where the clicks are."""
    cc: float
    """Pearson correlation of the maps."""
    cc_mean_map: float
    """The mean map's correlation."""
    kl: float
    """Kullback-Leibler divergence of the prediction from the truth, both as distributions [nats]."""


def score_saliency(
    predictions: NDArray[np.floating],
    truths: NDArray[np.floating],
    clicks: list[NDArray[np.floating]],
) -> SaliencyScores:
    """Compare maps with the truth that clicks make.

    Args:
        predictions: (N, H, W) in [0, 1].
        truths: (N, H, W) in [0, 1]: Gaussians around the clicks.
        clicks: N arrays (K, 2) of u, v as shares of the picture; an empty one takes no part in NSS.

    Frames whose truth is empty count in the MAEs and nowhere else: the other figures are undefined there.

    Raises:
        DataError: shapes differ, nothing to score, or values outside [0, 1].
    """
    predictions, truths = np.asarray(predictions, np.float64), np.asarray(truths, np.float64)
    if predictions.ndim != 3 or predictions.shape != truths.shape or len(clicks) != len(truths):
        raise DataError(
            f"expected predictions, truths (N, H, W) and N lists of clicks, "
            f"found {predictions.shape}, {truths.shape}, {len(clicks)}"
        )
    if not len(truths):
        raise DataError("no frames to score")
    for name, maps in (("predictions", predictions), ("truths", truths)):
        if not np.isfinite(maps).all() or maps.min() < 0 or maps.max() > 1:
            raise DataError(f"saliency {name}: expected values in [0, 1], found {maps.min():g} to {maps.max():g}")
    shown = truths.max(axis=(1, 2)) > 0
    if not shown.any():
        raise DataError("every frame's truth is empty; score frames in which something was clicked")
    mean_map = truths.mean(axis=0)
    f_adaptive, f_curve = _f_measures(predictions[shown], truths[shown])
    nss = [_nss(p, c) for p, c in zip(predictions, clicks, strict=True) if len(c)]
    return SaliencyScores(
        frames=len(truths),
        f_adaptive=f_adaptive,
        f_max=float(f_curve.max()),
        f_mean=float(f_curve.mean()),
        mae=float(np.abs(predictions - truths).mean()),
        mae_zero=float(truths.mean()),
        mae_mean_map=float(np.abs(mean_map - truths).mean()),
        mae_centre=float(np.abs(centre_prior(truths.shape[1:], float(mean_map.sum())) - truths).mean()),
        nss=float(np.mean(nss)) if nss else 0.0,
        cc=float(np.mean([_cc(p, t) for p, t in zip(predictions[shown], truths[shown], strict=True)])),
        cc_mean_map=float(np.mean([_cc(mean_map, t) for t in truths[shown]])),
        kl=float(np.mean([_kl(p, t) for p, t in zip(predictions[shown], truths[shown], strict=True)])),
    )


def trivial_maps(truths: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Maps (N, H, W) that know nothing of the picture: what any model has to beat.

    `zero`; `mean_map`, the truths' own mean, which knows where things usually are; `centre`, a Gaussian in the middle
    with as much mass as the truths have.
    """
    mean = np.asarray(truths, np.float64).mean(axis=0)
    maps = {"zero": np.zeros_like(mean), "mean_map": mean, "centre": centre_prior(mean.shape, float(mean.sum()))}
    return {name: np.broadcast_to(one, np.shape(truths)) for name, one in maps.items()}


def score_trivial(truths: NDArray[np.floating], clicks: list[NDArray[np.floating]]) -> dict[str, SaliencyScores]:
    """`score_saliency` of each of `trivial_maps`."""
    return {name: score_saliency(maps, truths, clicks) for name, maps in trivial_maps(truths).items()}


def flicker(
    predictions: NDArray[np.floating], truths: NDArray[np.floating], videos: NDArray[np.integer]
) -> tuple[float, float]:
    """How much maps change from one frame to the next that the truth does not: (flicker, change).

    Args:
        predictions: (N, ..., H, W) in [0, 1], frames of videos in their order.
        truths: the same shape.
        videos: (N,) which video a frame is of; frames of one follow each other.

    Returns:
        The mean absolute difference between the predictions' change and the truths', and, to compare it with, the
        truths' own: a map that always is the same scores `change`.

    Raises:
        DataError: no frame follows another of its video.
    """
    follows = np.diff(videos) == 0
    if not follows.any():
        raise DataError("flicker: expected videos of two or more frames, found none")
    predicted = np.diff(np.asarray(predictions, np.float64), axis=0)[follows]
    true = np.diff(np.asarray(truths, np.float64), axis=0)[follows]
    return float(np.abs(predicted - true).mean()), float(np.abs(true).mean())


def centre_prior(shape: tuple[int, ...], mass: float) -> NDArray[np.float64]:
    """A Gaussian in the middle with a quarter of the picture's side as standard deviation, summing to `mass`."""
    height, width = shape
    v = ((np.arange(height) + 0.5) / height - 0.5) / 0.25
    u = ((np.arange(width) + 0.5) / width - 0.5) / 0.25
    prior = np.exp(-0.5 * (v[:, None] ** 2 + u[None, :] ** 2))
    return prior * (mass / prior.sum())


def _f_measures(predictions: NDArray[np.float64], truths: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Adaptive F-measure, and the F-measure at each of 256 thresholds (256,).

    pysodmetrics stretches every prediction to [0, 1] unless told not to, which would turn the noise of an empty map
    into an object. It wants a binary truth: at 0.5 for the thresholds. The adaptive rule (twice the mean) cuts a sparse
    Gaussian far out in its tail, so there the truth is cut by the same rule; else a perfect map would score 0.26.
    """
    from py_sod_metrics import FmeasureV2
    from py_sod_metrics.fmeasurev2 import FmeasureHandler

    adaptive = FmeasureV2({"f": FmeasureHandler(with_dynamic=False, with_adaptive=True, beta=BETA_SQUARED)})
    curve = FmeasureV2({"f": FmeasureHandler(with_dynamic=True, with_adaptive=False, beta=BETA_SQUARED)})
    for prediction, truth in zip(predictions, truths, strict=True):
        adaptive.step(prediction, truth >= min(1.0, 2 * truth.mean()), normalize=False)
        curve.step(prediction, truth >= 0.5, normalize=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a NaN in a mean is a bug here, never a result
        return float(adaptive.get_results()["f"]["adaptive"]), np.asarray(curve.get_results()["f"]["dynamic"])


def _nss(prediction: NDArray[np.float64], clicks: NDArray[np.floating]) -> float:
    height, width = prediction.shape
    z = (prediction - prediction.mean()) / (prediction.std() + _EPS)
    columns = np.clip((np.asarray(clicks)[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((np.asarray(clicks)[:, 1] * height).astype(int), 0, height - 1)
    return float(z[rows, columns].mean())


def _cc(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + _EPS))


def _kl(prediction: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    eps = 1e-7  # the usual floor of saliency benchmarks: a zero where the truth is not would cost infinity
    p = prediction / (prediction.sum() + _EPS)
    t = truth / truth.sum()
    return float((t * np.log(eps + t / (p + eps))).sum())
