"""Royston's approximations of the weights and the null law of Shapiro and Wilk's statistic, for 8 to 5000 values."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

MOST_VALUES = 5000
# Up to here the logarithm of 1 - W is not yet near to normal and is bent once more.
_BENT_UP_TO = 11

# Corrections of the two outermost weights, polynomials in n ** -0.5, the highest power first, no constant.
_LAST = (-2.706056, 4.434685, -2.071190, -0.147981, 0.221157, 0.0)
_LAST_BUT_ONE = (-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, 0.0)
# Mean and log standard deviation of the transformed 1 - W, polynomials in n, or in log n for more values.
_BENT_MEAN = (-0.0006714, 0.025054, -0.39978, 0.5440)
_BENT_LOG_SD = (-0.0020322, 0.062767, -0.77857, 1.3822)
_MEAN = (0.0038915, -0.083751, -0.31082, -1.5861)
_LOG_SD = (0.0030302, -0.082676, -0.4803)


def weights(n: int) -> NDArray[np.float64]:
    """Weights of the ascending order statistics of n >= 6 values: antisymmetric, the sum of their squares 1."""
    scores = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    total = np.square(scores).sum()
    outer = scores[-2:] / math.sqrt(total) + np.array([_polynomial(c, n**-0.5) for c in (_LAST_BUT_ONE, _LAST)])
    inner_share = 1 - 2 * np.square(outer).sum()
    inner_total = total - 2 * np.square(scores[-2:]).sum()
    result: NDArray[np.float64] = scores * math.sqrt(inner_share / inner_total)
    result[-2:], result[:2] = outer, -outer[::-1]
    return result


def p_value(one_minus_w: Tensor, n: int) -> Tensor:
    """Chance of a statistic as small as W for Gaussian values, 8 <= n <= 5000, from 1 - W."""
    if n <= _BENT_UP_TO:
        bent = -torch.log(0.459 * n - 2.273 - one_minus_w.log())
        return _upper_tail(bent, _polynomial(_BENT_MEAN, n), _polynomial(_BENT_LOG_SD, n))
    return _upper_tail(one_minus_w.log(), _polynomial(_MEAN, math.log(n)), _polynomial(_LOG_SD, math.log(n)))


def _polynomial(coefficients: tuple[float, ...], at: float) -> float:
    return float(np.polyval(coefficients, at))


def _upper_tail(value: Tensor, mean: float, log_sd: float) -> Tensor:
    """P(X > value) for X normal."""
    tail: Tensor = torch.special.ndtr((mean - value) / math.exp(log_sd))
    return tail
