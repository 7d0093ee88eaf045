"""Standardized noise in bins, and the two laws beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional.median import NOISE_REACH, NUM_NOISE_BINS, nonzero_median, standardized
from lightning_tailindex.records import Measurement

from ._canvas import counted, titled
from ._choice import check_kind

__all__ = ["StandardizedNoise", "best_gaussian", "stable_law", "standardized_noise"]

_ROUNDS, _SCALES = 3, 200  # of the search for the best Gaussian: to a relative error of 1e-6
_ROOM = 45  # characters of a title over one of two axes


@dataclass(frozen=True)
class StandardizedNoise:
    """The noise of a group in units of its coordinates' scales.

    Attributes:
        edges: Edges of the bins, ascending, ``[k + 1]``.
        counts: Values in each bin, ``[k]``; the first and the last have what lies beyond too.
        alpha: Tail index.
        estimator: Where the tail index comes from.
        title: What it is the noise of.
    """

    edges: Tensor
    counts: Tensor
    alpha: float
    estimator: str
    title: str

    @property
    def below(self) -> Tensor:
        """Share of the values below each inner edge, ``[k - 1]``."""
        return self.counts.cumsum(0)[:-1] / self.counts.sum()


def standardized_noise(function: str, noise: Measurement | Tensor) -> StandardizedNoise:
    """Takes the histogram of a measurement, or makes one of draws.

    Args:
        function: Who asks, for its errors.
        noise: A measurement, or draws ``[n, d]``.

    Returns:
        The noise in bins.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is nothing to draw.
    """
    check_kind(function, noise, Measurement, Tensor)
    if isinstance(noise, Measurement):
        found, what, note = _of_measurement(noise), f"group {noise.group!r}", noise.note
    else:
        found, note = _of_draws(function, noise)
        what = f"draws of shape {tuple(noise.shape)}"
    if found.counts.sum() == 0:
        raise ValueError(f"{function} needs noise with usable values, got {what} with none: {note or 'no note'}.")
    return found


def _of_measurement(measurement: Measurement) -> StandardizedNoise:
    histogram, m = measurement.standardized_noise, measurement
    return StandardizedNoise(
        torch.tensor(histogram.edges, dtype=torch.float64, device="cpu"),
        torch.tensor(histogram.counts, dtype=torch.float64, device="cpu"),
        m.alpha,
        m.estimator,
        f"{titled('Noise of', m.group, _ROOM)}\n{_size(m)}",
    )


def _size(measurement: Measurement) -> str:
    draws, known = counted(measurement.num_draws, "draw"), measurement.num_coordinates  # 0 where nobody knows
    return f"{draws} of {counted(known, 'coordinate')}" if known else draws


def _of_draws(function: str, noise: Tensor) -> tuple[StandardizedNoise, str]:
    if noise.ndim != 2 or noise.numel() == 0:
        raise ValueError(f"{function} needs draws of shape [n, d], got {tuple(noise.shape)}.")
    draws = noise.detach().cpu().double()
    estimate = grouped_mle(draws, pooled=True)
    values = standardized(draws, nonzero_median(draws), estimate.scale)
    kept = values[values.isfinite()].clamp(-NOISE_REACH, NOISE_REACH)
    edges = torch.linspace(-NOISE_REACH, NOISE_REACH, NUM_NOISE_BINS + 1, dtype=torch.float64, device="cpu")
    counts = torch.histogram(kept, edges).hist
    title = f"Noise\n{counted(len(draws), 'draw')} of {counted(draws.shape[1], 'coordinate')}"
    return StandardizedNoise(edges, counts, float(estimate.alpha), "grouped_mle", title), estimate.note


def stable_law(noise: StandardizedNoise) -> Distribution | None:
    """Makes the symmetric stable law of scale 1; an index above 2 is read as 2, NaN or one near 0 has no law."""
    alpha = torch.tensor(min(noise.alpha, 2.0), dtype=torch.float64, device="cpu")
    has_law = SymmetricStable.arg_constraints["alpha"].check(alpha)  # type: ignore[no-untyped-call]
    return SymmetricStable(alpha) if has_law else None


def best_gaussian(noise: StandardizedNoise) -> Normal:
    """Finds the centred Gaussian of the greatest likelihood of the counts, the end bins open."""
    low, high = math.log(1e-3), math.log(1e3)
    inner, counts = noise.edges[1:-1], noise.counts
    for _ in range(_ROUNDS):
        scales = inner.new_tensor(np.linspace(low, high, _SCALES))
        below = torch.special.ndtr(inner / scales.exp()[:, None])
        chances = torch.cat([below.new_zeros(_SCALES, 1), below, below.new_ones(_SCALES, 1)], dim=1).diff()
        best = int(torch.xlogy(counts, chances).sum(1).argmax())
        low, high = float(scales[max(best - 1, 0)]), float(scales[min(best + 1, _SCALES - 1)])
    return Normal(scales.new_zeros(()), scales[best].exp())
