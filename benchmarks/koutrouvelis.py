"""Koutrouvelis' regression estimator, to compare with: it is not part of the package."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_SIZES = np.array([200.0, 800.0, 1600.0])
_ALPHAS = np.array([0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.9])
# How many frequencies he found best, by tail index and number of values: as in CRAN's StableEstim 2.3, Interpolation.R.
_BEST_K = np.array(
    [[134, 124, 118], [86, 68, 56], [30, 24, 20], [28, 22, 18], [24, 18, 15], [22, 16, 14], [11, 11, 11], [9, 9, 10]]
)
_MOST_PASSES = 10
_CLOSE_ENOUGH = 1e-4


def koutrouvelis(x: Tensor) -> float:
    r"""Estimates the tail index of stable values by regression on the modulus of their characteristic function.

    .. math::
        \log(-\log|\hat\varphi(t_k)|^2) = \log(2\sigma^\alpha) + \alpha \log t_k, \qquad
        t_k = \frac{\pi k}{25}, \quad k = 1, \dots, K(n, \alpha)

    Ordinary least squares, repeated on the values divided by the scale that was found until that is 1. Location and
    skew do not enter, so his second regression, for these, is left out; the first scale is from the quartiles.

    Args:
        x: Values, shape ``[n]``.

    Returns:
        The tail index, in (0, 2]; NaN where no pass gives a positive one.

    References:
        Koutrouvelis, Regression-Type Estimation of the Parameters of Stable Laws, Journal of the American
        Statistical Association 75, 1980.

    Example:
        >>> koutrouvelis(torch.randn(1000, generator=torch.Generator().manual_seed(0))) > 1.95
        True
    """
    z = x.double() - x.double().median()
    first, third = torch.quantile(z, torch.tensor([0.25, 0.75], dtype=z.dtype)).tolist()
    z, alpha = z * (2 / (third - first)), 1.5
    for _ in range(_MOST_PASSES):
        previous, (slope, height) = alpha, _regress(z, _num_frequencies(len(z), alpha))
        if not slope > 0:
            return math.nan
        scale, alpha = math.exp((height - math.log(2)) / slope), min(slope, 2.0)
        z = z / scale
        if abs(alpha - previous) < _CLOSE_ENOUGH and abs(scale - 1) < _CLOSE_ENOUGH:
            break
    return alpha


def _num_frequencies(n: int, alpha: float) -> int:
    """His table, by straight lines between its entries."""
    by_size = [np.interp(n, _SIZES, row) for row in _BEST_K]
    return round(float(np.interp(alpha, _ALPHAS, by_size)))


def _regress(z: Tensor, num_frequencies: int) -> tuple[float, float]:
    """Slope and height of the line, from the frequencies where the logarithms exist."""
    t = torch.arange(1, num_frequencies + 1, dtype=z.dtype) * (math.pi / 25)
    phase = t[:, None] * z
    square = phase.cos().mean(1).square() + phase.sin().mean(1).square()
    kept = (square > 0) & (square < 1)
    height, log_t = torch.log(-square[kept].log()), t[kept].log()
    centred = log_t - log_t.mean()
    slope = float((centred * height).sum() / centred.square().sum())
    return slope, float(height.mean() - slope * log_t.mean())
