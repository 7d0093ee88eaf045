"""What pairs of draws tell of tail indices when each pair is seen once and not kept.

The contrast of a coordinate is the logarithm of the absolute difference of two draws, minus the mean of these of the k
earlier pairs. Location and scale have dropped out: its law depends on the tail index and on k alone. So the likelihood
of a tail index adds up over pairs and coordinates, and a coordinate has to keep two moments and a count.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.special import loggamma
from torch import Tensor

from ._tables import HIGHEST_MIDDLE, alpha_grid
from .log_moment import EULER_GAMMA

# Cells of the contrast, and two open ones; at alpha = 0.2 the last one still has a probability of some percent.
_FIRST = -8.0
_WIDTH = 0.25
_CELLS = 98
# Laws of contrasts with 1 to 32 earlier values and, evenly in 1/k, with more; the mean of infinitely many is known.
_EARLIER = (*range(1, 33), 36, 43, 51, 64, 85, 128, 256, math.inf)
_MOST = 1 << 10  # earlier values beyond which more of them make no difference
# Steps and end of the integral over frequencies: what is left out is below 1e-10.
_FREQUENCY = 0.045
_HIGHEST_FREQUENCY = 40.0
_SMALLEST = 1e-12  # probabilities that rounding leaves
_CHUNK = 1 << 18  # few enough for the cache, enough for several threads to pay


def _log_characteristic(u: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Logarithm of E |X| ** (i u) for the symmetric stable law of scale 1."""
    s = 1j * u
    value: np.ndarray = (
        s * math.log(2) + loggamma((1 + s) / 2) - math.log(math.pi) / 2 + loggamma(1 - s / alpha) - loggamma(1 - s / 2)
    )
    return value


def _log_contrast(u: np.ndarray, alpha: np.ndarray, earlier: float) -> np.ndarray:
    """Logarithm of the characteristic function of the contrast with so many earlier values."""
    if earlier == math.inf:  # the mean itself
        return _log_characteristic(u, alpha) - np.asarray(1j * u * EULER_GAMMA * (1 / alpha - 1))
    return _log_characteristic(u, alpha) + earlier * _log_characteristic(-u / earlier, alpha)


def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and the waves that turn a characteristic function there into densities at the cells' limits."""
    u = (np.arange(int(_HIGHEST_FREQUENCY / _FREQUENCY)) + 0.5) * _FREQUENCY
    limits = _FIRST + _WIDTH * np.arange(_CELLS - 1)
    return u, np.exp(-1j * u[:, None] * limits) * (_FREQUENCY / math.pi)


@lru_cache(maxsize=1)
def _log_probabilities() -> Tensor:
    """Log-probabilities of the cells, [1 + numbers of earlier values, cells, nodes]; the first row is all 0.

    The distribution function of the contrast is the integral of its characteristic function, by Gil-Pelaez.
    """
    alpha = alpha_grid().numpy()[:, None]
    u, waves = _waves()
    rows = [np.zeros((_CELLS, len(alpha)))]
    for earlier in _EARLIER:
        below = 0.5 - (np.exp(_log_contrast(u, alpha, earlier)) @ (waves / u[:, None])).imag
        cells = np.diff(below, axis=1, prepend=0.0, append=1.0)
        rows.append(np.log(np.maximum(cells, _SMALLEST)).T)
    return torch.from_numpy(np.stack(rows))


@lru_cache(maxsize=1)
def _sharing() -> Tensor:
    """How many times the variance of the sum of a coordinate's scores is that of their variances, at the nodes.

    The contrasts of a coordinate share the error of the mean of its earlier logarithms, so scores of later pairs lean
    the same way. With I the variance of a score, c its mean slope in the contrast, and v the variance of a logarithm:
    the means of 1 to n logarithms have a sum of variance 2 v n, and c times that sum is taken from the scores, with
    which it is hardly correlated, so it is 1 + 2 c^2 v / I.
    """
    log_p, alpha = _log_probabilities()[-1].numpy(), alpha_grid().numpy()
    u, waves = _waves()
    density = (np.exp(_log_contrast(u, alpha[:, None], math.inf)) @ waves).real.T
    score = np.gradient(log_p, alpha, axis=1)  # a step function of the contrast: its mean slope is from its jumps
    slope = (density * np.diff(score, axis=0)).sum(0)
    variance = math.pi**2 / 6 * (1 / alpha**2 + 0.5)
    factor = 1 + 2 * slope**2 * variance / (np.exp(log_p) * score**2).sum(0)
    factor[HIGHEST_MIDDLE:] = factor[HIGHEST_MIDDLE]  # nodes are too close for differences there
    return torch.from_numpy(factor)


def sharing(node: Tensor) -> Tensor:
    """The same at any node, a scalar."""
    return _sharing().to(node.device)[node.round().long()]


def _first_cells() -> Tensor:
    """First cell of the law of a contrast with so many earlier values: of the one that is nearest in 1/k."""
    inverse = 1 / np.array(_EARLIER)
    count = np.arange(1, _MOST + 1)
    nearest = np.abs(1 / count[:, None] - inverse).argmin(1) + 1
    return torch.from_numpy(np.concatenate([[0], nearest]) * _CELLS)


@lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """Both tables on a device, that of the cells flat: they are needed for each pair of each parameter."""
    return _log_probabilities().flatten(0, 1).to(device), _first_cells().to(device)


class PairStream:
    """Coordinates whose draws come in pairs: two moments of each, and the likelihood of all of them together.

    Memory: 12 bytes a coordinate, 20 in double precision.

    Args:
        size: Number of coordinates.
        dtype: Precision of the moments, float32 or float64.
        device: Where they are.

    Attributes:
        count: Pairs in which a coordinate took part, ``[size]``.
        mean: Mean of the logarithms of its differences, ``[size]``; not finite where one of them was not.
        squares: Sum of the squares of these logarithms' distances from their mean, ``[size]``.
        curves: Log-likelihoods of the contrasts of each pair at the nodes of the grid of alpha, each ``[nodes]``.
        num_contrasts: Contrasts behind each of the curves.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.count = torch.zeros(size, dtype=torch.int32, device=device)
        self.mean = torch.zeros(size, dtype=dtype, device=device)
        self.squares = torch.zeros(size, dtype=dtype, device=device)
        self.curves: list[Tensor] = []
        self.num_contrasts: list[Tensor] = []

    def add(self, first: Tensor, second: Tensor) -> None:
        """Takes a pair of draws, each ``[size]``; a coordinate where one of them is exactly 0 does not take part."""
        table, first_cells = _tables(self.mean.device)
        counts = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        ones = counts.new_ones(()).expand(_CHUNK)
        parts = (torch.split(t, _CHUNK) for t in (first, second, self.count, self.mean, self.squares))
        for part in zip(*parts, strict=True):
            index = _cells(first_cells, *part)
            counts.scatter_add_(0, index, ones[: len(index)])
        self.curves.append(counts.to(table) @ table)
        self.num_contrasts.append(counts[_CELLS:].sum())

    def likelihood(self) -> tuple[Tensor, Tensor]:
        """Log-likelihoods of the pairs at the nodes, ``[pairs, nodes]``, and the contrasts behind them, ``[pairs]``."""
        nothing = torch.zeros(0, len(alpha_grid()), dtype=torch.float64, device=self.mean.device)
        if not self.curves:
            return nothing, nothing[:, 0].long()
        return torch.stack(self.curves), torch.stack(self.num_contrasts)


def _cells(first_cells: Tensor, first: Tensor, second: Tensor, count: Tensor, mean: Tensor, squares: Tensor) -> Tensor:
    """Adds a pair to moments, in place, and returns the contrasts' cells among those of all laws, 0 for none."""
    difference = (first.to(mean) - second).abs_()
    present = (first != 0) & (second != 0) & (difference != 0)
    contrast = torch.where(present, difference.log_() - mean, 0.0)
    told = present & contrast.isfinite() & (count > 0)
    cell = (contrast * (1 / _WIDTH) + (1 - _FIRST / _WIDTH)).clamp_(0, _CELLS - 1).long()
    index = torch.where(told, cell + first_cells[count.clamp(max=_MOST)], 0)
    count.add_(present)
    share = contrast / count.clamp(min=1)  # NaN and infinity stay in the mean: such a coordinate tells nothing more
    mean.add_(share)
    squares.add_(contrast * (contrast - share))
    return index
