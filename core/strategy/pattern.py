"""What followed the patterns most similar to now: a kernel-weighted forecast from DTW distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PatternConfig:
    neighbours: int = 32
    """Nearest patterns that take part."""
    prior_neighbours: float = 8.0
    """Effective neighbours at which confidence is shrunk by half."""


@dataclass(frozen=True, slots=True)
class PatternForecast:
    """For each of n instruments, float64[n]."""

    expected_return: NDArray[np.float64]
    """Weighted mean of the returns that followed, as a fraction."""
    deviation: NDArray[np.float64]
    """Weighted standard deviation of them."""
    confidence: NDArray[np.float64]
    """0..1: how far the mean stands out of its own error."""


def forecast_from_distances(
    distances: NDArray[np.float32], forward_return: NDArray[np.float64], config: PatternConfig | None = None
) -> PatternForecast:
    """Forecast from all distances float32[n, patterns] and the return that followed each, float64[patterns].

    Raises ValueError when the shapes do not fit.
    """
    chosen = config or PatternConfig()
    if distances.ndim != 2 or distances.shape[1] != len(forward_return):
        raise ValueError(f"distances {distances.shape} do not fit {len(forward_return)} patterns")
    k = min(chosen.neighbours, distances.shape[1])
    indices = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return forecast_from_neighbours(indices, np.take_along_axis(distances, indices, axis=1), forward_return, chosen)


def forecast_from_neighbours(
    indices: NDArray[np.int64],
    distances: NDArray[np.float32],
    forward_return: NDArray[np.float64],
    config: PatternConfig | None = None,
) -> PatternForecast:
    """Forecast from the k nearest patterns: indices int64[n, k], their distances float32[n, k] in any order.

    Nadaraya-Watson with a Gaussian kernel whose width is the mean distance of the neighbours, so that weights do not
    depend on the unit of the distance. A distance that is not finite (a candidate that a lower bound ruled out) weighs
    nothing.
    """
    chosen = config or PatternConfig()
    finite = np.isfinite(distances)
    usable = np.where(finite, distances, 0).astype(np.float64)
    count = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    width = np.maximum(usable.sum(axis=1, keepdims=True) / count, 1e-12)
    weight = np.exp(-0.5 * np.square(usable / width)) * finite
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    followed = forward_return[indices]
    mean = (weight * followed).sum(axis=1)
    variance = (weight * np.square(followed - mean[:, None])).sum(axis=1)
    effective = 1.0 / np.maximum(np.square(weight).sum(axis=1), 1e-12)
    deviation = np.sqrt(variance)
    error = deviation / np.sqrt(effective)
    stands_out = np.abs(mean) / np.maximum(np.abs(mean) + error, 1e-12)
    confidence = stands_out * effective / (effective + chosen.prior_neighbours)
    return PatternForecast(mean, deviation, np.where(finite.any(axis=1), confidence, 0.0))
