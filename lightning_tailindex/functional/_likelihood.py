"""The likelihood of counts over tail index and scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from lightning_tailindex.kernels import compiled

from ._curves import highest, maximize
from ._grid import Grid
from ._precision import for_products
from ._tables import FIRST_OCTAVE, NUM_OCTAVES, like, log_cells_of, log_edges

_SERIES, _NUMBERS = 8192, 1 << 22  # series whose likelihood is computed at once, and numbers of it, at most
LARGEST_EDGE = 1e-3  # share of the outermost scales up to which the grid is wide enough for a series
SMALLEST = -40.0  # logarithms of likelihoods over the largest: denormal numbers would take a hundred times as long


def in_chunks(series: Tensor, grid: Grid) -> tuple[Tensor, ...]:
    """Splits series along dim 0, so that the likelihood of a chunk stays in the cache, or, on wide grids, in memory."""
    size = _NUMBERS // ((2 * grid.half + 1) * len(grid.nodes))
    return torch.split(series, max(1, min(size, _SERIES))) if len(series) > 0 else ()


def as_weights(counts: Tensor, series: Tensor, grid: Grid) -> Tensor:
    """Counts of some series, [series, cells], in the precision that their likelihood needs."""
    if counts.device.type == "cpu" and int(series[-1]) - int(series[0]) + 1 == len(series):  # series are in order
        own = counts[int(series[0]) : int(series[0]) + len(series)]
    else:  # on another device it takes less time than waiting to see whether they lie together
        own = counts.index_select(0, series)
    return for_products(own.to(torch.float32 if grid.in_single or counts.device.type == "mps" else torch.float64))


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of some series over scales and nodes of alpha, summed up over the scales.

    Attributes:
        weights: Counts, shape [series, cells].
        table: Log-probabilities of the cells, shape [scales, nodes, cells].
    """

    weights: Tensor
    table: Tensor

    @cached_property
    def _stored(self) -> tuple[Tensor, Tensor]:
        """Its maximum over the scales, [nodes, series], and the likelihood over that, [scales, nodes, series]."""
        value = _log_likelihood(self.weights, self.table)
        largest = value.amax(0)
        return largest, value.sub_(largest).clamp_(min=SMALLEST).exp_()

    @cached_property
    def _summed(self) -> tuple[Tensor, ...]:
        """Its maximum over the scales, and the sums of what is relative to it and of the square of that.

        Sums of the numbers themselves, of them times the places of the scales, and over the outermost two scales.
        """
        if compiled.suit(self.weights, self.table):
            return compiled.likelihood_sums(self.weights, self.table, SMALLEST).unbind()
        largest, relative = self._stored
        return largest, *_sums(relative), *_sums(relative.square())[:2]

    @property
    def relative(self) -> Tensor:
        """The likelihood over its maximum over the scales, shape [scales, nodes, series]."""
        return self._stored[1]

    @property
    def mass(self) -> Tensor:
        """Sum of ``relative`` over the scales, shape [nodes, series]."""
        return self._summed[1]

    @property
    def profile(self) -> Tensor:
        r"""Maximum over all scales, shape [nodes, series].

        Where the likelihood is about Gaussian in the logarithm of the scale, of any width, the sums of it and of its
        square over evenly spaced scales give its height: :math:`M = \log \sum e^{2L} - \log \sum e^L + \log 2 / 2`.
        """
        largest, mass, _, _, squares, _ = self._summed
        return largest + (squares / mass).log() + math.log(2) / 2

    @property
    def marginal(self) -> Tensor:
        """Logarithm of the sum over the scales, shape [nodes, series]."""
        return self._summed[0] + self.mass.log()

    @property
    def edge(self) -> Tensor:
        """Share of the outermost two scales, shape [nodes, series]: where it is not small, the grid is too narrow."""
        return self._summed[3] / self.mass

    @property
    def best(self) -> Tensor:
        """Place of the maximum among the scales, 0 in their middle, shape [nodes, series].

        The mean under the likelihood differs from it by skewness, that under its square by half as much.
        """
        _, mass, first, _, squares, first_of_squares = self._summed
        return 2 * first_of_squares / squares - first / mass


def _sum_weights(half: int) -> Tensor:
    """For each scale 1, its place from the middle, and 1 for both ends, shape [3, scales]."""
    places = torch.arange(-half, half + 1, device="cpu")
    return torch.stack([torch.ones_like(places), places, places.abs() == half])


def _sums(relative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over dim 0, weighted with 1, with places from the middle, and with 1 at both ends; by one multiplication."""
    weights = like(relative, _sum_weights, len(relative) // 2)
    mass, first, edge = (weights @ relative.flatten(1)).reshape(3, *relative.shape[1:])
    return mass, first, edge


def likelihood(weights: Tensor, grid: Grid) -> Likelihood:
    """Evaluates the likelihood of counts [series, cells]."""
    return Likelihood(weights, grid.table(weights))


def _log_likelihood(weights: Tensor, table: Tensor) -> Tensor:
    """Logarithms, shape [scales, nodes, series]."""
    return (table.flatten(0, 1) @ weights.T).reshape(*table.shape[:2], len(weights))


_FAR, _NUM_FAR, _FEW_NODES = 0.5, 2, 4
_CLEARLY = 8.0  # nats by which a scale that far off is likelier where it is not by chance
_WIDE_STEP = 0.25
_GAUSSIAN_MEDIAN = 0.6744897501960817  # of |X| at standard deviation 1


def _wide_limits(per_octave: int) -> np.ndarray:
    """Limits between the cells in units of widely different medians of |X|, shape [scales, limits]."""
    log_scales = np.arange(-1, (FIRST_OCTAVE + NUM_OCTAVES) * math.log(2), _WIDE_STEP)
    limits: np.ndarray = np.exp(log_edges(per_octave) - log_scales[:, None])
    return limits


@lru_cache(maxsize=2)
def _gaussian_cells(per_octave: int) -> Tensor:
    """Log-probabilities of the cells for Gaussians of widely different scales, shape [scales, cells]."""
    limits = torch.from_numpy(_wide_limits(per_octave) * _GAUSSIAN_MEDIAN)
    return torch.from_numpy(log_cells_of((torch.special.log_ndtr(-limits) + math.log(2)).numpy()))


@lru_cache(maxsize=2)
def _laplace_cells(per_octave: int) -> Tensor:
    """The same for Laplace's law."""
    return torch.from_numpy(log_cells_of(-math.log(2) * _wide_limits(per_octave)))


def gaussian_profile(weights: Tensor, per_octave: int) -> Tensor:
    """Maximal log-likelihood of Gaussians to .0002 nats a value, however far their scale is from the unit."""
    return _highest(weights, like(weights, _gaussian_cells, per_octave))


def laplace_profile(weights: Tensor, per_octave: int) -> Tensor:
    """The same of Laplace's law."""
    return _highest(weights, like(weights, _laplace_cells, per_octave))


def _highest(weights: Tensor, table: Tensor) -> Tensor:
    if compiled.suit(weights, table):
        return compiled.peaks(weights, None, [table], [True])[0, 1]
    return maximize(table @ weights.T)[1]


@dataclass(frozen=True)
class Rough:
    """Where the likelihood is about highest.

    Attributes:
        node: Number of the node, shape [series].
        is_off: Whether that is far from the unit of the cells, as where |x| has two modes, shape [series].
        gaussian: What :func:`gaussian_profile` tells, shape [series].
    """

    node: Tensor
    is_off: Tensor
    gaussian: Tensor


def rough(counts: Tensor, series: Tensor, grid: Grid) -> Rough:
    """Looks at the scale at which the law's median of |X| is the unit, and at a few far from it on either side."""
    few = grid.nodes[(len(grid.nodes) - 1) % _FEW_NODES :: _FEW_NODES]  # the last one among them
    grids = replace(grid, half=0), replace(grid, nodes=few, half=_NUM_FAR, step=_FAR)
    if grid.in_single and compiled.suit(counts):
        near, far = (each.table(counts).flatten(0, 1) for each in grids)
        tables = near, far, like(counts, _gaussian_cells, grid.per_octave)
        found = compiled.peaks(counts, series, tables, between=[False, False, True])
        return Rough(found[0, 0].long(), found[1, 1] > found[0, 1] + _CLEARLY, found[2, 1])
    weights = as_weights(counts, series, grid)
    near, far = (_log_likelihood(weights, each.table(weights)) for each in grids)
    is_off = far.amax((0, 1)) > near[0].amax(0) + _CLEARLY
    return Rough(highest(near[0]), is_off, gaussian_profile(weights, grid.per_octave))
